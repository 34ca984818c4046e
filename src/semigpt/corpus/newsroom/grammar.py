"""A grammar of news whose every text has exactly one derivation.

One program, `write`, turns choices into an article: a section, a story, then sentence by sentence a frame and the
facts it needs. It asks `choose(what, options)` for each choice. Drawing the choices at random generates an article;
replaying recorded ones writes it again; `derivations` finds, by backtracking over the text, every list of choices
that could have written it. All choices are uniform, so the probability of an article is 1 / (the product of all
options), an exact rational number, provided that no other choices write the same text. They cannot, because

- a fact costs a choice where it is first mentioned and nothing afterwards, and what is worked out from other facts
  (a rise in percent from two amounts, a country's capital, the form of a particle) costs nothing;
- sentences end at a full stop followed by a space or a line break, which no frame holds inside it;
- no sentence can be written by two frames, or by one frame in two ways. The tests prove this for the whole grammar
  with a product of automata, so it does not rest on the texts that happened to be tried.

The notation of a frame, one line of text:

    {company}        a fact: drawn at its first mention, the same ever after; {company2} is another of its kind
    {company:은}     the same, followed by the particle 은 or 는, whichever agrees
    {city.province}  what is known about a fact already mentioned
    {=profit_before} what is worked out from facts already mentioned
    {:을}            a particle that agrees with the text so far
    [밝혔다|말했다]   a choice of wording
"""

import math
import re
from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

from semigpt.corpus.newsroom.josa import PARTICLES, agree

__all__ = [
    "Choice",
    "Choose",
    "Derivation",
    "Derived",
    "Fact",
    "Facts",
    "Frame",
    "Grammar",
    "Kind",
    "Position",
    "Section",
    "Story",
    "frames",
    "sentence",
    "story",
    "two_sentences",
]

Choose: TypeAlias = Callable[[str, int], int]
"""`choose(what, options)` answers a number from 0 to options - 1."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of fact: companies, cities, amounts of money. Its members are equally likely.

    `parts` are lists of text; a member is one text from each, put together (a surname and a given name), so members
    are numbered from 0 to `size` - 1, the last part changing fastest. `numbers` holds the members' values where they
    are numbers, `about` what is known of each member (a city's province), both in the order of a single part.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    about: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def size(self) -> int:
        return math.prod(len(part) for part in self.parts)

    def text(self, index: int) -> str:
        if len(self.parts) == 1:
            return self.parts[0][index]
        pieces = []
        for part in reversed(self.parts):
            index, place = divmod(index, len(part))
            pieces.append(part[place])
        return "".join(reversed(pieces))

    @cached_property
    def _places(self) -> tuple[tuple[dict[str, int], tuple[int, ...]], ...]:
        return tuple(
            (
                {text: place for place, text in enumerate(part)},
                tuple(sorted({len(text) for text in part})),
            )
            for part in self.parts
        )

    def matches(self, text: str, start: int) -> list[tuple[int, int]]:
        """All members that stand in `text` at `start`, as (index, end)."""
        found = [(0, start)]
        for places, lengths in self._places:
            found = [
                (index * len(places) + places[piece], at + length)
                for index, at in found
                for length in lengths
                if (piece := text[at : at + length]) in places and len(piece) == length
            ]
        return found


class Fact(NamedTuple):
    """One fact of an article: the member of its kind that was drawn."""

    kind: Kind
    member: int
    text: str

    @property
    def number(self) -> int:
        return self.kind.numbers[self.member]


Facts: TypeAlias = dict[str, Fact]


@dataclass(frozen=True, eq=False)
class Derived:
    """Text worked out from numbers already mentioned, so it carries no information of its own."""

    sources: tuple[str, ...]
    text: Callable[..., str]

    def of(self, facts: Facts) -> str:
        return self.text(*(facts[name].number for name in self.sources))


# What a frame is made of, in order.
class _Literal(NamedTuple):
    text: str


class _Wording(NamedTuple):
    options: tuple[str, ...]


class _Mention(NamedTuple):
    fact: str


class _About(NamedTuple):
    fact: str
    what: str


class _Worked(NamedTuple):
    name: str


class _Particle(NamedTuple):
    name: str


Element: TypeAlias = _Literal | _Wording | _Mention | _About | _Worked | _Particle

_NOTATION = re.compile(
    r"\{(?P<worked>=)?(?P<name>\w*)(?:\.(?P<what>\w+))?(?::(?P<particle>\w+))?\}|\[(?P<options>[^\]]*)\]"
)


class Frame:
    """A sentence with places for facts; see the notation at the top of the module."""

    def __init__(self, template: str) -> None:
        self.template = template
        elements: list[Element] = []
        end = 0
        for found in _NOTATION.finditer(template):
            if found.start() > end:
                elements.append(_Literal(template[end : found.start()]))
            end = found.end()
            if found["options"] is not None:
                elements.append(_Wording(tuple(found["options"].split("|"))))
                continue
            if found["what"]:
                elements.append(_About(found["name"], found["what"]))
            elif found["worked"]:
                elements.append(_Worked(found["name"]))
            elif found["name"]:
                elements.append(_Mention(found["name"]))
            if found["particle"]:
                if found["particle"] not in PARTICLES:
                    raise ValueError(f"no particle {found['particle']} in the frame {template}")
                elements.append(_Particle(found["particle"]))
        if end < len(template):
            elements.append(_Literal(template[end:]))
        self.elements = tuple(elements)
        self.mentions = frozenset(
            element.fact for element in elements if isinstance(element, _Mention)
        )

    def __repr__(self) -> str:
        return f"Frame({self.template!r})"


def frames(text: str) -> tuple[Frame, ...]:
    """The frames of a text, one a line."""
    return tuple(Frame(line.strip()) for line in text.strip().splitlines())


@dataclass(frozen=True, eq=False)
class Position:
    """A place in a story: `sentences` of its `frames` are written there, all different, in any order.

    Where it is `optional`, nothing is written half the time. A new paragraph starts there when `paragraph` is true.
    """

    frames: tuple[Frame, ...]
    optional: bool = False
    paragraph: bool = False
    sentences: int = 1


def sentence(text: str, *, optional: bool = False, paragraph: bool = False) -> Position:
    """A position of one sentence from its frames, one a line."""
    return Position(frames(text), optional, paragraph)


def two_sentences(text: str, *, optional: bool = False, paragraph: bool = False) -> Position:
    """A position of two sentences, which can stand in either order, from its frames, one a line."""
    return Position(frames(text), optional, paragraph, sentences=2)


@dataclass(frozen=True, eq=False)
class Story:
    """A kind of article: its plan, the headlines that fit it, and the months in which it can happen."""

    name: str
    headlines: tuple[Frame, ...]
    plan: tuple[Position, ...]
    months: tuple[int, ...] = tuple(range(1, 13))


def story(
    name: str, headlines: str, *plan: Position, months: tuple[int, ...] = tuple(range(1, 13))
) -> Story:
    """A story from its headlines, one a line, and its positions in order."""
    return Story(name, frames(headlines), plan, months)


@dataclass(frozen=True, eq=False)
class Section:
    name: str
    stories: tuple[Story, ...]


class Choice(NamedTuple):
    """One step of a derivation: option number `choice` of `options` equally likely ones. It costs log2(options) bits."""

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


class Written(NamedTuple):
    """An article as `Grammar.write` leaves it."""

    section: Section
    story: Story
    frames: tuple[Frame, ...]
    facts: Facts
    document: str


@dataclass(frozen=True, eq=False)
class Grammar:
    sections: tuple[Section, ...]
    kinds: Mapping[str, Kind]
    derived: Mapping[str, Derived]

    def write(self, choose: Choose) -> Written:
        """Write an article, asking `choose` at every choice."""
        section = self.sections[choose("section", len(self.sections))]
        story = section.stories[choose("story", len(section.stories))]
        facts: Facts = {}
        frames: list[Frame] = []
        document = ""
        for position in story.plan:
            if position.optional and choose("written", 2) == 0:
                continue
            left = list(position.frames)
            for place in range(position.sentences):
                frame = left.pop(choose("frame", len(left)))
                if frames:
                    document += _before(position, place)
                document += self.fill(frame, facts, choose)
                frames.append(frame)
        return Written(section, story, tuple(frames), facts, document)

    def fill(self, frame: Frame, facts: Facts, choose: Choose) -> str:
        """The sentence of `frame`; facts it mentions for the first time are drawn and added to `facts`."""
        text = ""
        for element in frame.elements:
            match element:
                case _Literal(literal):
                    text += literal
                case _Wording(options):
                    text += options[choose("wording", len(options))]
                case _Mention(name):
                    if name not in facts:
                        kind = self.kind(name)
                        taken = _taken(kind, facts)
                        index = _skip_over(choose(name, kind.size - len(taken)), taken)
                        facts[name] = Fact(kind, index, kind.text(index))
                    text += facts[name].text
                case _About(name, what):
                    fact = facts[name]
                    text += fact.kind.about[what][fact.member]
                case _Worked(name):
                    text += self.derived[name].of(facts)
                case _Particle(name):
                    text += agree(text, name)
        return text

    def kind(self, fact: str) -> Kind:
        """The kind of a fact by its name: `person`, `person2` and `person3` are all of kind `person`."""
        return self.kinds[fact.rstrip("0123456789")]

    def derivations(self, document: str) -> Iterator[Derivation]:
        """Every derivation of `document`: none when it is not of this grammar, otherwise one."""
        for s, section in enumerate(self.sections):
            for t, story in enumerate(section.stories):
                start = (
                    Choice("section", s, len(self.sections)),
                    Choice("story", t, len(section.stories)),
                )
                for frames, facts, choices in self._read_plan(document, 0, story.plan, {}, start):
                    yield Derivation(
                        section.name,
                        story.name,
                        tuple(frame.template for frame in frames),
                        {name: fact.text for name, fact in facts.items()},
                        choices,
                    )

    def _read_plan(
        self,
        text: str,
        start: int,
        plan: Sequence[Position],
        facts: Facts,
        choices: tuple[Choice, ...],
    ) -> Iterator[tuple[tuple[Frame, ...], Facts, tuple[Choice, ...]]]:
        if not plan:
            if start == len(text):
                yield (), facts, choices
            return
        position, rest = plan[0], plan[1:]
        begun = choices
        if position.optional:
            yield from self._read_plan(
                text, start, rest, facts, (*choices, Choice("written", 0, 2))
            )
            begun = (*choices, Choice("written", 1, 2))
        for end, read, known, made in self._read_position(
            text, start, position, 0, position.frames, facts, begun
        ):
            for frames, all_facts, all_choices in self._read_plan(text, end, rest, known, made):
                yield (*read, *frames), all_facts, all_choices

    def _read_position(
        self,
        text: str,
        start: int,
        position: Position,
        place: int,
        left: Sequence[Frame],
        facts: Facts,
        choices: tuple[Choice, ...],
    ) -> Iterator[tuple[int, tuple[Frame, ...], Facts, tuple[Choice, ...]]]:
        if place == position.sentences:
            yield start, (), facts, choices
            return
        sentence = start
        if start:
            if not text.startswith(_before(position, place), start):
                return
            sentence += 1
        for f, frame in enumerate(left):
            chosen = (*choices, Choice("frame", f, len(left)))
            others = (*left[:f], *left[f + 1 :])
            for end, known, made in self._read_frame(
                text, sentence, sentence, frame.elements, facts, chosen
            ):
                for last, read, all_facts, all_choices in self._read_position(
                    text, end, position, place + 1, others, known, made
                ):
                    yield last, (frame, *read), all_facts, all_choices

    def _read_frame(
        self,
        text: str,
        sentence: int,
        at: int,
        elements: Sequence[Element],
        facts: Facts,
        choices: tuple[Choice, ...],
    ) -> Iterator[tuple[int, Facts, tuple[Choice, ...]]]:
        for e, element in enumerate(elements):
            match element:
                case _Literal(expected):
                    pass
                case _Wording(options):
                    for index, option in enumerate(options):
                        if text.startswith(option, at):
                            made = (*choices, Choice("wording", index, len(options)))
                            rest = elements[e + 1 :]
                            yield from self._read_frame(
                                text, sentence, at + len(option), rest, facts, made
                            )
                    return
                case _Mention(name) if name not in facts:
                    kind = self.kind(name)
                    taken = _taken(kind, facts)
                    options_left = kind.size - len(taken)
                    for index, end in kind.matches(text, at):
                        if index in taken:
                            continue
                        known = facts | {name: Fact(kind, index, text[at:end])}
                        rank = index - sum(other < index for other in taken)
                        made = (*choices, Choice(name, rank, options_left))
                        yield from self._read_frame(
                            text, sentence, end, elements[e + 1 :], known, made
                        )
                    return
                case _Mention(name):
                    expected = facts[name].text
                case _About(name, what):
                    fact = facts[name]
                    expected = fact.kind.about[what][fact.member]
                case _Worked(name):
                    expected = self.derived[name].of(facts)
                case _Particle(name):
                    expected = agree(text[sentence:at], name)
            if not text.startswith(expected, at):
                return
            at += len(expected)
        yield at, facts, choices


def _before(position: Position, place: int) -> str:
    """What stands before the sentence at `place` of a position: a line break where a paragraph starts."""
    return "\n" if position.paragraph and place == 0 else " "


def _taken(kind: Kind, facts: Facts) -> list[int]:
    """The members of `kind` that are in `facts` already, in order: two facts of a kind are never the same."""
    taken: list[int] = []
    for fact in facts.values():
        if fact.kind is kind:
            insort(taken, fact.member)
    return taken


def _skip_over(rank: int, taken: Sequence[int]) -> int:
    """The member of the given rank among those that are not taken."""
    for index in taken:
        rank += rank >= index
    return rank
