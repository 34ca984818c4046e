"""Word lists: the kinds of fact in `names.toml`, `things.toml` and `quotations.toml`.

A kind is a list with commas, or a table:

    members   = the list
    attribute = the name of what stands in brackets after each member: 미국 (워싱턴), 독일 (베를린)
    within    = the name of what stands before a colon: 경기: 수원, 성남 are written 경기 수원 and
                경기 성남, and the attribute `name` of the first is 수원
    parts     = lists that are put together without a space. `{stems}` in a part is the list `stems`
                of the table `lists`, and `{place.name}` an attribute of a kind above; what stands
                around the brackets is written around each member.

In a list, a line that begins with + begins a second list. Its members are written after those of
the first, with a space between them.
"""

import re

from semigpt.corpus.news.facts import Kind
from semigpt.corpus.news.tables import Table

__all__ = ["word_kinds"]

_WITH_ATTRIBUTE = re.compile(r"(.+?) \(([^()]+)\)")
_REFERENCE = re.compile(r"([^{}]*)\{([\w.]+)\}([^{}]*)")


def word_kinds(table: Table) -> dict[str, Kind]:
    """The kinds of fact of a data file, in its order. Raises `CorpusError` for a broken one."""
    lists: dict[str, tuple[str, ...]] = {}
    if "lists" in table.values:
        named = table.table("lists")
        lists = {name: named.words(name) for name in named.values}
    kinds: dict[str, Kind] = {}
    for name, value in table.values.items():
        if name == "lists":
            continue
        if isinstance(value, str):
            kinds[name] = Kind(name, _parts(table, name))
        else:
            kinds[name] = _kind(name, table.table(name), lists)
        for attribute, values in kinds[name].attributes.items():
            lists[f"{name}.{attribute}"] = values
    return kinds


def _kind(name: str, table: Table, lists: dict[str, tuple[str, ...]]) -> Kind:
    if "parts" in table.values:
        table.allow("parts")
        return Kind(name, _put_together(table, lists))
    if "attribute" in table.values:
        table.allow("members", "attribute")
        return _with_attribute(name, table)
    if "within" in table.values:
        table.allow("members", "within")
        return _within(name, table)
    table.allow("members", "attribute", "within", "parts")
    return Kind(name, _parts(table, "members"))


def _parts(table: Table, key: str) -> tuple[tuple[str, ...], ...]:
    """A list, or several that are written with a space between them."""
    first, *others = (
        table.words(key, part) for part in re.split(r"^\+ ", table.get(key, str), flags=re.M)
    )
    return (first, *(tuple(f" {word}" for word in part) for part in others))


def _put_together(table: Table, lists: dict[str, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    parts = []
    for place, part in enumerate(table.elements("parts", str), 1):
        key = f"parts[{place}]"
        reference = _REFERENCE.fullmatch(part)
        if not reference:
            parts.append(table.words(key, part))
            continue
        before, name, after = reference.groups()
        if name not in lists:
            raise table.error(key, f"no list is called {name}: the lists are {', '.join(lists)}")
        parts.append(tuple(before + word + after for word in lists[name]))
    return tuple(parts)


def _with_attribute(name: str, table: Table) -> Kind:
    members, attributes = [], []
    for word in table.words("members"):
        found = _WITH_ATTRIBUTE.fullmatch(word)
        if not found:
            raise table.error("members", f"{word} has no {table.get('attribute', str)} in brackets")
        members.append(found[1])
        attributes.append(found[2])
    return Kind(
        name, (tuple(members),), attributes={table.get("attribute", str): tuple(attributes)}
    )


def _within(name: str, table: Table) -> Kind:
    names: list[str] = []
    places: list[str] = []
    where = ""
    for line in table.lines("members"):
        head, colon, tail = line.rpartition(":")
        where = head.strip() if colon else where
        if not where:
            raise table.error("members", f"{table.get('within', str)} is missing before: {line}")
        found = table.words("members", tail)
        names += found
        places += [where] * len(found)
    texts = tuple(f"{place} {word}" for place, word in zip(places, names, strict=True))
    attributes = {"name": tuple(names), table.get("within", str): tuple(places)}
    return Kind(name, (texts,), attributes=attributes)
