"""From the data files to the grammar, checked once."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from semigpt.corpus.news.amounts import COMPUTED, amount_kinds
from semigpt.corpus.news.facts import Fact, Facts, Kind, kind_name, reached
from semigpt.corpus.news.frames import Computation, Element, Frame, Mention
from semigpt.corpus.news.grammar import EVERY_MONTH, Grammar, Position, Section, Story
from semigpt.corpus.news.tables import Table, read
from semigpt.corpus.news.words import word_kinds

__all__ = ["News", "bundled", "load"]


class News(NamedTuple):
    """The grammar of the documents, and the newspapers, which stand outside the documents."""

    grammar: Grammar
    press: tuple[str, ...]


@cache
def bundled() -> News:
    """The news that comes with semigpt, read once."""
    return load(files("semigpt.corpus.news") / "data")


def load(folder: Path | Traversable) -> News:
    """Read `news.toml` and the files that it names.

    Raises `CorpusError` for a broken file; the message names the file and the key.
    """
    index = read(folder, "news.toml")
    index.allow("sections", "words", "press")
    kinds = _kinds(folder, index)
    sections = tuple(
        _section(read(folder, f"{name}.toml"), kinds) for name in index.elements("sections", str)
    )
    return News(Grammar(sections, kinds, COMPUTED), index.words("press"))


def _kinds(folder: Path | Traversable, index: Table) -> dict[str, Kind]:
    amounts = read(folder, "amounts.toml")
    kinds = amount_kinds(amounts)
    for name in kinds:
        _check_name(amounts, name, {})
    for file in index.elements("words", str):
        table = read(folder, f"{file}.toml")
        for name, kind in word_kinds(table, kinds).items():
            _check_name(table, name, kinds)
            kinds[name] = kind
    for computed in COMPUTED.values():
        for source in computed.sources:
            try:
                found = reached(kinds, source)
            except ValueError:
                found = []
            if not found or not all(group.numbers for kind in found for group in kind.groups):
                raise amounts.error(source, "missing: other amounts are computed from it")
    return kinds


def _check_name(table: Table, name: str, kinds: Mapping[str, Kind]) -> None:
    if name in kinds:
        raise table.error(name, "a kind of fact of this name stands in another file")
    if kind_name(name) != name:
        raise table.error(name, "the name of a kind of fact cannot end in a digit")


def _section(table: Table, kinds: Mapping[str, Kind]) -> Section:
    table.allow("name", "shared", "stories")
    shared: dict[str, Position] = {}
    if "shared" in table.values:
        entries = table.table("shared")
        shared = {name: _position(entries.table(name), kinds) for name in entries.values}
    entries = table.table("stories")
    if not entries.values:
        raise table.error("stories", "the section has no story")
    stories = tuple(_story(entries.table(name), kinds, shared) for name in entries.values)
    return Section(table.get("name", str), stories)


def _story(table: Table, kinds: Mapping[str, Kind], shared: Mapping[str, Position]) -> Story:
    table.allow("name", "months", "given", "headlines", "plan")
    months = tuple(table.elements("months", int, list(EVERY_MONTH)))
    for month in months:
        if month not in EVERY_MONTH:
            raise table.error("months", f"{month} is not a month: use numbers from 1 to 12")
    plan = []
    for entry in table.tables("plan"):
        if "shared" not in entry.values:
            plan.append(_position(entry, kinds))
            continue
        entry.allow("shared")
        name = entry.get("shared", str)
        if name not in shared:
            known = ", ".join(shared) or "none"
            raise entry.error("shared", f"no shared position is called {name}: there is {known}")
        plan.append(shared[name])
    given = _given(table.table("given"), kinds) if "given" in table.values else {}
    headlines = _frames(table, "headlines", kinds)
    return Story(table.get("name", str), headlines, tuple(plan), months, given)


def _given(table: Table, kinds: Mapping[str, Kind]) -> Facts:
    """The facts that a story is given: a member of a kind under the kind's name."""
    facts: Facts = {}
    for name in table.values:
        text = table.get(name, str)
        kind = kinds.get(name)
        members = range(kind.size) if kind else ()
        member = next((place for place in members if kind and kind.text(place) == text), None)
        if kind is None or member is None:
            raise table.error(name, f"no kind of fact of this name has the member {text}")
        facts[name] = Fact(kind, member, text)
    return facts


def _position(table: Table, kinds: Mapping[str, Kind]) -> Position:
    table.allow("sentences", "optional", "paragraph", "frames")
    frames = _frames(table, "frames", kinds)
    sentences = table.get("sentences", int, 1)
    if not 1 <= sentences <= len(frames):
        raise table.error("sentences", f"{sentences} of {len(frames)} frames cannot be written")
    optional, paragraph = table.get("optional", bool, False), table.get("paragraph", bool, False)
    return Position(frames, optional, paragraph, sentences)


def _frames(table: Table, key: str, kinds: Mapping[str, Kind]) -> tuple[Frame, ...]:
    frames = []
    for number, line in enumerate(table.lines(key), 1):
        try:
            frame = Frame(line)
            for element in frame.elements:
                _check(element, kinds)
        except ValueError as error:
            raise table.error(key, f"line {number}: {error}") from None
        frames.append(frame)
    return tuple(frames)


def _check(element: Element, kinds: Mapping[str, Kind]) -> None:
    """Raise `ValueError` for an element that means nothing."""
    match element:
        case Mention(name):
            reached(kinds, name)
        case Computation(name) if name not in COMPUTED:
            raise ValueError(f"nothing is computed that is called {name!r}")
