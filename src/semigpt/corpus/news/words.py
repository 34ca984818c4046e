"""Word lists: the kinds of fact in `names.toml`, `things.toml` and the other files of words.

A kind is a list with commas, a table, or an array of tables, whose members are groups of which
different things are known:

    members   = the list
    attribute = the name of what stands in brackets after each member: 미국 (워싱턴), 독일 (베를린)
    within    = the name of what stands before a colon: 경기: 수원, 성남 are written 경기 수원 and
                경기 성남, and the attribute `name` of the first is 수원
    parts     = lists that are put together without a space. `{stems}` in a part is the list `stems`
                of the table `lists`, and `{place.name}` an attribute of a kind above; what stands
                around the brackets is written around each member.
    its       = what is known of every member: `its.goods` is a list of which an article draws one,
                `its.grams = [140, 230]` a range of numbers, and `its.price = "{phone_price}"` the
                kind of that name above.

In a list, a line that begins with + begins a second list. Its members are written after those of
the first, with a space between them.
"""

import re
from collections.abc import Mapping, Sequence

from semigpt.corpus.news.amounts import amounts
from semigpt.corpus.news.facts import Group, Kind
from semigpt.corpus.news.tables import Table

__all__ = ["word_kinds"]

_KEYS = ("members", "attribute", "within", "parts", "its")
_WITH_ATTRIBUTE = re.compile(r"(.+?) \(([^()]+)\)")
_REFERENCE = re.compile(r"([^{}]*)\{([\w.]+)\}([^{}]*)")

Lists = dict[str, tuple[str, ...]]


def word_kinds(table: Table, above: Mapping[str, Kind]) -> dict[str, Kind]:
    """The kinds of fact of a data file, in its order. Raises `CorpusError` for a broken one.

    `above` are the kinds of the files before, to which this one may refer.
    """
    lists: Lists = {}
    if "lists" in table.values:
        named = table.table("lists")
        lists = {name: named.words(name) for name in named.values}
    known = dict(above)
    kinds: dict[str, Kind] = {}
    for name, value in table.values.items():
        if name == "lists":
            continue
        groups: list[Group] = []
        if isinstance(value, str):
            groups.append(Group(_parts(table, name)))
        else:
            entries = table.tables(name) if isinstance(value, list) else [table.table(name)]
            for entry in entries:
                groups += _groups(name, entry, lists, known)
        kinds[name] = known[name] = Kind(name, tuple(groups))
    return kinds


def _groups(name: str, table: Table, lists: Lists, known: Mapping[str, Kind]) -> list[Group]:
    table.allow(*_KEYS)
    its = _its(name, table.table("its"), known) if "its" in table.values else {}
    if "parts" in table.values:
        table.allow("parts", "its")
        return [Group(_put_together(table, lists, known), attributes=its)]
    if "attribute" not in table.values and "within" not in table.values:
        return [Group(_parts(table, "members"), attributes=its)]
    return [
        Group(((text,),), attributes=its | {key: _one(name, key, own[key]) for key in own})
        for text, own in _members(table)
    ]


def _one(name: str, attribute: str, text: str) -> Kind:
    return Kind(f"{name}.{attribute}", (Group(((text,),)),))


def _its(name: str, table: Table, known: Mapping[str, Kind]) -> dict[str, Kind]:
    """What is known of the members of a group."""
    found: dict[str, Kind] = {}
    for key, value in table.values.items():
        full = f"{name}.{key}"
        if isinstance(value, list):
            found[key] = Kind(full, (amounts(table, key),))
        elif (text := table.get(key, str)).startswith("{"):
            reference = text.strip("{}")
            if reference not in known:
                raise table.error(key, f"no kind of fact above is called {reference}")
            found[key] = known[reference]
        else:
            found[key] = Kind(full, (Group(_parts(table, key)),))
    return found


def _parts(table: Table, key: str) -> tuple[tuple[str, ...], ...]:
    """A list, or several that are written with a space between them."""
    first, *others = (
        table.words(key, part) for part in re.split(r"^\+ ", table.get(key, str), flags=re.M)
    )
    return (first, *(tuple(f" {word}" for word in part) for part in others))


def _put_together(
    table: Table, lists: Lists, known: Mapping[str, Kind]
) -> tuple[tuple[str, ...], ...]:
    parts = []
    for place, part in enumerate(table.elements("parts", str), 1):
        key = f"parts[{place}]"
        reference = _REFERENCE.fullmatch(part)
        if not reference:
            parts.append(table.words(key, part))
            continue
        before, name, after = reference.groups()
        words = _listed_of(known, name) if "." in name else lists.get(name, ())
        if not words:
            raise table.error(key, f"no list is called {name}: the lists are {', '.join(lists)}")
        parts.append(tuple(before + word + after for word in words))
    return tuple(parts)


def _listed_of(known: Mapping[str, Kind], name: str) -> tuple[str, ...]:
    """What is known of the members of a kind: `place.name` is the names of all places."""
    kind, _, attribute = name.partition(".")
    groups = known[kind].groups if kind in known else ()
    found = [group.attributes[attribute] for group in groups if attribute in group.attributes]
    return tuple(dict.fromkeys(of.text(member) for of in found for member in range(of.size)))


def _members(table: Table) -> Sequence[tuple[str, dict[str, str]]]:
    """The members with brackets after them or a place before them: text and attributes."""
    within = table.get("within", str, "-")
    lines = [table.get("members", str)] if within == "-" else table.lines("members")
    members = []
    where = ""
    for line in lines:
        head, colon, tail = line.rpartition(":")
        where = head.strip() if colon else where
        if within != "-" and not where:
            raise table.error("members", f"{within} is missing before: {line}")
        for word in table.words("members", tail):
            own: dict[str, str] = {}
            if "attribute" in table.values:
                key = table.get("attribute", str)
                found = _WITH_ATTRIBUTE.fullmatch(word)
                if not found:
                    raise table.error("members", f"{word} has no {key} in brackets")
                word, own[key] = found.groups()
            if within != "-":
                own |= {"name": word, within: where}
            members.append((f"{where} {word}" if where else word, own))
    return members
