"""Parsing: every way in which a grammar can have written a text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from semigpt.corpus.news.facts import Fact, Facts
from semigpt.corpus.news.frames import (
    Computation,
    Element,
    Frame,
    Literal,
    Mention,
    Particle,
    Wording,
)
from semigpt.corpus.news.grammar import Grammar, Position, separator, taken
from semigpt.corpus.news.particles import agree

__all__ = ["Choice", "Derivation", "derivations"]


class Choice(NamedTuple):
    """A step of a derivation: one of `options` equally likely ones. It costs log2(options) bits."""

    what: str
    choice: int
    options: int


@dataclass(frozen=True)
class Derivation:
    """How a text was written: every choice in order, and what they led to."""

    section: str
    story: str
    frames: tuple[str, ...]
    facts: Mapping[str, str]
    choices: tuple[Choice, ...]

    @property
    def information(self) -> float:
        """-log2 of the probability of the text, in bits."""
        return math.log2(math.prod(choice.options for choice in self.choices))


def derivations(grammar: Grammar, document: str) -> Iterator[Derivation]:
    """Every derivation of `document`: one if the grammar writes it, none if it does not."""
    parser = _Parser(grammar, document)
    for s, section in enumerate(grammar.sections):
        for t, story in enumerate(section.stories):
            first = Choice("section", s, len(grammar.sections))
            choices = (first, Choice("story", t, len(section.stories)))
            start = _State(0, dict(story.given), (), choices)
            for state in parser.plan(story.plan, start):
                yield Derivation(
                    section.name,
                    story.name,
                    tuple(frame.template for frame in state.frames),
                    {name: fact.text for name, fact in state.facts.items()},
                    state.choices,
                )


class _State(NamedTuple):
    """How far a text is read, and what was found on the way. `facts` is not changed in place."""

    at: int
    facts: Facts
    frames: tuple[Frame, ...]
    choices: tuple[Choice, ...]

    def chose(self, what: str, choice: int, options: int, length: int = 0) -> "_State":
        """The state after a choice that wrote `length` characters."""
        choices = (*self.choices, Choice(what, choice, options))
        return self._replace(at=self.at + length, choices=choices)


class _Parser:
    """A recursive descent with backtracking: each method yields every state it can end in."""

    def __init__(self, grammar: Grammar, text: str) -> None:
        self.grammar = grammar
        self.text = text

    def plan(self, plan: Sequence[Position], state: _State) -> Iterator[_State]:
        """Read the positions of `plan` to the end of the text."""
        if not plan:
            if state.at == len(self.text):
                yield state
            return
        position, rest = plan[0], plan[1:]
        written = state
        if position.optional:
            yield from self.plan(rest, state.chose("written", 0, 2))
            written = state.chose("written", 1, 2)
        for after in self.position(position, 0, position.frames, written):
            yield from self.plan(rest, after)

    def position(
        self, position: Position, place: int, left: Sequence[Frame], state: _State
    ) -> Iterator[_State]:
        """Read a position from sentence `place` on, whose frames are among `left`."""
        if place == position.sentences:
            yield state
            return
        if state.at:
            between = separator(position, place)
            if not self.text.startswith(between, state.at):
                return
            state = state._replace(at=state.at + len(between))
        for f, frame in enumerate(left):
            others = (*left[:f], *left[f + 1 :])
            chosen = state.chose("frame", f, len(left))._replace(frames=(*state.frames, frame))
            for after in self.sentence(frame.elements, state.at, chosen):
                yield from self.position(position, place + 1, others, after)

    def sentence(self, elements: Sequence[Element], start: int, state: _State) -> Iterator[_State]:
        """Read the elements of a frame; the sentence started at `start`."""
        if not elements:
            yield state
            return
        for after in self.element(elements[0], start, state):
            yield from self.sentence(elements[1:], start, after)

    def element(self, element: Element, start: int, state: _State) -> list[_State]:
        """The states after an element: several for a choice, otherwise one or none."""
        match element:
            case Wording(options):
                return [
                    state.chose("wording", index, len(options), len(option))
                    for index, option in enumerate(options)
                    if self.text.startswith(option, state.at)
                ]
            case Mention(name) if name not in state.facts:
                return self._first_mentions(name, state)
            case Mention(name):
                expected = state.facts[name].text
            case Literal(text):
                expected = text
            case Computation(name):
                expected = self.grammar.computed[name].of(state.facts)
            case Particle(name):
                expected = agree(self.text[start : state.at], name)
        if self.text.startswith(expected, state.at):
            return [state._replace(at=state.at + len(expected))]
        return []

    def _first_mentions(self, name: str, state: _State) -> list[_State]:
        """The states after each fact that stands here and is not taken."""
        kind = self.grammar.kind(name, state.facts)
        drawn = taken(kind, state.facts) if kind.size > 1 else []
        states = []
        for member, end in kind.matches(self.text, state.at):
            if member in drawn:
                continue
            fact = Fact(kind, member, self.text[state.at : end])
            after = state._replace(at=end)
            if kind.size > 1:
                rank = member - sum(other < member for other in drawn)
                after = state.chose(name, rank, kind.size - len(drawn), end - state.at)
            states.append(after._replace(facts=state.facts | {name: fact}))
        return states
