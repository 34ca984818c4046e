"""Frames: sentences with places for facts.

The notation of a frame, which is one line of text:

    {company}        a fact: drawn at its first mention and the same from then on;
                     {company2} is another fact of the same kind
    {company:은}     a fact followed by the particle 은 or 는, whichever agrees
    {company.goods}  a fact drawn from what is known of another fact, mentioned already: the goods
                     that such a company can make; {company.goods2} is another of them
    {=profit_before} text computed from facts that are mentioned already
    {:을}            a particle that agrees with the sentence so far
    [밝혔다|말했다]   a choice of wording
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from semigpt.corpus.news.particles import PARTICLES

__all__ = [
    "Computation",
    "Element",
    "Frame",
    "Literal",
    "Mention",
    "Particle",
    "Wording",
]


class Literal(NamedTuple):
    """Text that is written as it stands."""

    text: str


class Wording(NamedTuple):
    """A choice between texts."""

    options: tuple[str, ...]


class Mention(NamedTuple):
    """A fact by its name; the name of an attribute begins with that of its fact and a dot."""

    fact: str


class Computation(NamedTuple):
    """Text computed from facts that are mentioned already."""

    name: str


class Particle(NamedTuple):
    """A particle by its form after a consonant."""

    name: str


Element: TypeAlias = Literal | Wording | Mention | Computation | Particle

_NOTATION = re.compile(
    r"\{(?=[^}])(?:=(?P<computed>\w+)|(?P<name>\w+(?:\.\w+)*))?"
    r"(?::(?P<particle>\w+))?\}"
    r"|\[(?P<options>[^\[\]]*)\]"
)
_STRAY = re.compile(r"[{}\[\]|]")


class Frame:
    """A sentence with places for facts; the module's docstring explains the notation.

    template: the frame as it was written
    elements: what it is made of, in order
    mentions: the names of the facts that it mentions

    Raises `ValueError` for a template that breaks the notation and for an unknown particle.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self.elements = tuple(_elements(template))
        self.mentions = frozenset(e.fact for e in self.elements if isinstance(e, Mention))

    def __repr__(self) -> str:
        return f"Frame({self.template!r})"


def _elements(template: str) -> Iterator[Element]:
    end = 0
    for found in _NOTATION.finditer(template):
        if found.start() > end:
            yield _literal(template[end : found.start()])
        end = found.end()
        if found["options"] is not None:
            yield Wording(tuple(found["options"].split("|")))
        else:
            yield from _placeholder(found)
    if end < len(template):
        yield _literal(template[end:])


def _placeholder(found: re.Match[str]) -> Iterator[Element]:
    if found["computed"]:
        yield Computation(found["computed"])
    elif found["name"]:
        yield Mention(found["name"])
    if found["particle"]:
        if found["particle"] not in PARTICLES:
            raise ValueError(f"no particle is called {found['particle']}")
        yield Particle(found["particle"])


def _literal(text: str) -> Literal:
    if stray := _STRAY.search(text):
        raise ValueError(f"{stray[0]} is part of no placeholder and of no choice of wording")
    return Literal(text)
