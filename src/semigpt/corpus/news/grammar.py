"""A grammar of news in which every text has exactly one derivation.

One program, `Grammar.write`, turns choices into an article: a section, a story, and then, sentence
by sentence, a frame and the facts that it needs. It asks `choose(what, options)` for each choice.
Drawing the choices at random generates an article, and replaying recorded choices writes it again.
`derivations` finds, by backtracking over a text, every list of choices that writes it. All choices
are uniform, so the probability of an article is 1 / (the product of all options), an exact rational
number, as long as no other choices write the same text. None do, because

- a fact costs a choice where it is first mentioned and nothing afterwards, and what follows from
  other facts (an earlier price, a country's capital, the form of a particle) costs nothing;
- of what is known of another fact, one is drawn: that fact is known, so the list is;
- a sentence ends at a full stop followed by a space or a line break, which no frame holds inside;
- no sentence can be written by two frames, or by one frame in two ways. The tests prove this for
  the whole grammar with a product of automata, so it does not depend on the texts that were tried.
"""

import hashlib
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from semigpt.corpus.news.facts import Computed, Fact, Facts, Kind, kind_name
from semigpt.corpus.news.frames import (
    Computation,
    Frame,
    Literal,
    Mention,
    Particle,
    Wording,
)
from semigpt.corpus.news.particles import PARTICLES, agree

__all__ = ["Choose", "Grammar", "Position", "Section", "Story", "Written", "separator", "taken"]

Choose: TypeAlias = Callable[[str, int], int]
"""`choose(what, options)` answers a number from 0 to options - 1."""

EVERY_MONTH = tuple(range(1, 13))


@dataclass(frozen=True, eq=False)
class Position:
    """A place in a story's plan: `sentences` different frames are written there, in any order.

    optional:  nothing is written there half the time
    paragraph: a new paragraph starts there
    """

    frames: tuple[Frame, ...]
    optional: bool = False
    paragraph: bool = False
    sentences: int = 1


@dataclass(frozen=True, eq=False)
class Story:
    """A type of article: its headlines, its plan, and the months in which it can happen.

    `given` are facts that hold in every article of the story, so they carry no information.
    """

    name: str
    headlines: tuple[Frame, ...]
    plan: tuple[Position, ...]
    months: tuple[int, ...] = EVERY_MONTH
    given: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Section:
    """A section of the newspaper and its stories."""

    name: str
    stories: tuple[Story, ...]


class Written(NamedTuple):
    """An article as `Grammar.write` leaves it."""

    section: Section
    story: Story
    frames: tuple[Frame, ...]
    facts: Facts
    document: str


@dataclass(frozen=True, eq=False)
class Grammar:
    """Sections, the kinds of fact by name, and what is computed from facts, by name."""

    sections: tuple[Section, ...]
    kinds: Mapping[str, Kind]
    computed: Mapping[str, Computed]

    def kind(self, fact: str, facts: Facts) -> Kind:
        """The kind of a fact by the fact's name; that of an attribute depends on its fact.

        Raises `KeyError` for an unknown kind and where the fact of an attribute is not in `facts`.
        """
        parent, _, last = fact.rpartition(".")
        name = kind_name(last)
        return facts[parent].attribute(name) if parent else self.kinds[name]

    def follows(self, fact: str, facts: Facts) -> bool:
        """Whether a fact is known, or known from another because nothing else is possible."""
        if fact in facts:
            return True
        parent = fact.rpartition(".")[0]
        return parent in facts and self.kind(fact, facts).size == 1

    def write(self, choose: Choose) -> Written:
        """Write an article, asking `choose` at every choice."""
        section = self.sections[choose("section", len(self.sections))]
        story = section.stories[choose("story", len(section.stories))]
        facts: Facts = dict(story.given)
        frames: list[Frame] = []
        document = ""
        for position in story.plan:
            if position.optional and choose("written", 2) == 0:
                continue
            left = list(position.frames)
            for place in range(position.sentences):
                frame = left.pop(choose("frame", len(left)))
                if frames:
                    document += separator(position, place)
                document += self.fill(frame, facts, choose)
                frames.append(frame)
        return Written(section, story, tuple(frames), facts, document)

    def fill(self, frame: Frame, facts: Facts, choose: Choose) -> str:
        """Write the sentence of `frame`. Facts it mentions first are drawn and added to `facts`."""
        text = ""
        for element in frame.elements:
            match element:
                case Literal(literal):
                    text += literal
                case Wording(options):
                    text += options[choose("wording", len(options))]
                case Mention(name):
                    if name not in facts:
                        facts[name] = self._draw(name, facts, choose)
                    text += facts[name].text
                case Computation(name):
                    text += self.computed[name].of(facts)
                case Particle(name):
                    text += agree(text, name)
        return text

    def _draw(self, name: str, facts: Facts, choose: Choose) -> Fact:
        kind = self.kind(name, facts)
        if kind.size == 1:
            return Fact(kind, 0, kind.text(0))
        drawn = taken(kind, facts)
        member = _skip_over(choose(name, kind.size - len(drawn)), drawn)
        return Fact(kind, member, kind.text(member))

    def positions(self) -> list[Position]:
        """Every position of every story, each once: stories share some."""
        stories = [story for section in self.sections for story in section.stories]
        return list(dict.fromkeys(position for story in stories for position in story.plan))

    def fingerprint(self) -> str:
        """A SHA-256 of all that decides what is written: frames, plans, word lists, particles.

        A `Computed` is code, so its answers to a few numbers are hashed.
        """
        digest = hashlib.sha256()

        def add(*words: object) -> None:
            digest.update("\x1f".join(map(str, words)).encode() + b"\x1e")

        for section in self.sections:
            for story in section.stories:
                add(section.name, story.name, *story.months, *_templates(story.headlines))
                add(*(f"{name}={fact.text}" for name, fact in story.given.items()))
                for p in story.plan:
                    add(p.optional, p.paragraph, p.sentences, *_templates(p.frames))
        for kind in self.kinds.values():
            _add_kind(kind, add)
        for name, computed in self.computed.items():
            numbers = ((100, 211), (1_234, 35), (9_980, 489))
            places = len(computed.sources)
            add(name, *computed.sources, *(computed.text(*some[:places]) for some in numbers))
        add(*PARTICLES, *PARTICLES.values())
        return digest.hexdigest()


def _add_kind(kind: Kind, add: Callable[..., None]) -> None:
    for group in kind.groups:
        add(kind.name, *group.numbers)
        for part in group.parts:
            add(*part)
        for name, attribute in group.attributes.items():
            add(name, attribute.name)
            if "." in attribute.name:  # a kind with a name of its own is added as such
                _add_kind(attribute, add)


def _templates(frames: Sequence[Frame]) -> list[str]:
    return [frame.template for frame in frames]


def separator(position: Position, place: int) -> str:
    """What stands before sentence `place` of a position: a line break if a paragraph starts."""
    return "\n" if position.paragraph and place == 0 else " "


def taken(kind: Kind, facts: Facts) -> list[int]:
    """The members of `kind` in `facts`, sorted: two facts of a kind are never the same."""
    members: list[int] = []
    for fact in facts.values():
        if fact.kind is kind:
            insort(members, fact.member)
    return members


def _skip_over(rank: int, members: Sequence[int]) -> int:
    """The member of the given rank among those that are not in `members`, which is sorted."""
    for member in members:
        rank += rank >= member
    return rank
