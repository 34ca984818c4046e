"""Facts: the names, things and numbers of an article, each drawn from a kind of fact."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, TypeAlias

__all__ = ["Computed", "Fact", "Facts", "Group", "Kind", "kind_name", "reached"]


@dataclass(frozen=True, eq=False)
class Group:
    """Members of a kind of which the same is known.

    parts:      lists of text. A member is one text from each list, put together (a surname and a
                given name). Members are numbered from 0 to `size` - 1; the last part changes
                fastest.
    numbers:    the members' values where they are numbers, in the order of the only part
    attributes: what is known of each member, by the attribute's name: the goods that a company of
                the group can make. One of them is drawn where an article mentions it.
    """

    parts: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    attributes: Mapping[str, "Kind"] = field(default_factory=dict)

    @cached_property
    def size(self) -> int:
        """How many members there are."""
        return math.prod(len(part) for part in self.parts)

    def text(self, member: int) -> str:
        """The text of a member by its number."""
        if len(self.parts) == 1:
            return self.parts[0][member]
        texts = []
        for part in reversed(self.parts):
            member, place = divmod(member, len(part))
            texts.append(part[place])
        return "".join(reversed(texts))

    @cached_property
    def _indices(self) -> tuple[tuple[dict[str, int], tuple[int, ...]], ...]:
        """For each part: the place of each text, and the lengths that occur."""
        return tuple(
            (
                {text: place for place, text in enumerate(part)},
                tuple(sorted({len(text) for text in part})),
            )
            for part in self.parts
        )

    def matches(self, text: str, start: int) -> list[tuple[int, int]]:
        """All members that stand in `text` at `start`, as (member, end)."""
        found = [(0, start)]
        for places, lengths in self._indices:
            found = [
                (member * len(places) + places[word], at + length)
                for member, at in found
                for length in lengths
                if (word := text[at : at + length]) in places and len(word) == length
            ]
        return found


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of fact: companies, cities, amounts of money. Its members are equally likely.

    They are numbered from 0 to `size` - 1 through the groups in order.
    """

    name: str
    groups: tuple[Group, ...]

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(accumulate((group.size for group in self.groups), initial=0))

    @property
    def size(self) -> int:
        """How many members there are."""
        return self._starts[-1]

    def _find(self, member: int) -> tuple[Group, int]:
        """The group of a member, and its number there."""
        place = bisect_right(self._starts, member) - 1
        return self.groups[place], member - self._starts[place]

    def text(self, member: int) -> str:
        """The text of a member by its number."""
        group, place = self._find(member)
        return group.text(place)

    def number(self, member: int) -> int:
        """The value of a member that is a number."""
        group, place = self._find(member)
        return group.numbers[place]

    def attribute(self, member: int, name: str) -> "Kind":
        """What is known of a member under `name`. Raises `KeyError` for an unknown name."""
        return self._find(member)[0].attributes[name]

    @cached_property
    def _listed(self) -> Group | None:
        """All members as one list, where no group has several parts: it is searched faster."""
        if any(len(group.parts) > 1 for group in self.groups):
            return None
        return Group((tuple(word for group in self.groups for word in group.parts[0]),))

    def matches(self, text: str, start: int) -> list[tuple[int, int]]:
        """All members that stand in `text` at `start`, as (member, end)."""
        if self._listed is not None:
            return self._listed.matches(text, start)
        return [
            (first + member, end)
            for first, group in zip(self._starts, self.groups, strict=False)
            for member, end in group.matches(text, start)
        ]


class Fact(NamedTuple):
    """One fact of an article: the member of its kind that was drawn."""

    kind: Kind
    member: int
    text: str

    @property
    def number(self) -> int:
        """The value of a fact that is a number."""
        return self.kind.number(self.member)

    def attribute(self, name: str) -> Kind:
        """What is known of the fact under `name`. Raises `KeyError` for an unknown name."""
        return self.kind.attribute(self.member, name)


Facts: TypeAlias = dict[str, Fact]
"""The facts of an article by name, in the order of their first mention."""


@dataclass(frozen=True, eq=False)
class Computed:
    """Text computed from numbers that are mentioned already, so it carries no information."""

    sources: tuple[str, ...]
    text: Callable[..., str]

    def of(self, facts: Facts) -> str:
        """The text for the facts of an article."""
        return self.text(*(facts[name].number for name in self.sources))


def kind_name(fact: str) -> str:
    """The name of a fact's kind: `person`, `person2` and `person3` are all of kind `person`."""
    return fact.rstrip("0123456789")


def reached(kinds: Mapping[str, Kind], fact: str) -> list[Kind]:
    """Every kind that a fact can be of: `company.goods` depends on the company.

    Raises `ValueError` if there is no such kind, or if nothing is known of any member under that
    name.
    """
    parent, _, last = fact.rpartition(".")
    name = kind_name(last)
    if not parent:
        if name not in kinds:
            raise ValueError(f"no kind of fact is called {name!r}")
        return [kinds[name]]
    above = reached(kinds, parent)
    found: dict[int, Kind] = {}
    for kind in above:
        for group in kind.groups:
            if name in group.attributes:
                found[id(group.attributes[name])] = group.attributes[name]
    if not found:
        raise ValueError(f"{above[0].name} has no attribute {name}")
    return list(found.values())
