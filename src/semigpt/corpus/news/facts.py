"""Facts: the names, things and numbers of an article, each drawn from a kind of fact."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

__all__ = ["Computed", "Fact", "Facts", "Kind", "kind_name"]


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of fact: companies, cities, amounts of money. Its members are equally likely.

    parts:      lists of text. A member is one text from each list, put together (a surname and a
                given name). Members are numbered from 0 to `size` - 1; the last part changes
                fastest.
    numbers:    the members' values where they are numbers, in the order of the only part
    attributes: what is known of each member (the province of a place), by the attribute's name and
                in the order of the only part
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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


class Fact(NamedTuple):
    """One fact of an article: the member of its kind that was drawn."""

    kind: Kind
    member: int
    text: str

    @property
    def number(self) -> int:
        """The value of a fact that is a number."""
        return self.kind.numbers[self.member]


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
