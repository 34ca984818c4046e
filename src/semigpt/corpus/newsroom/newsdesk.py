"""The grammar put together: sections, facts and amounts."""

import hashlib
from functools import cache

from semigpt.corpus.newsroom.amounts import AMOUNTS, DERIVED
from semigpt.corpus.newsroom.grammar import Grammar, Position
from semigpt.corpus.newsroom.josa import PARTICLES
from semigpt.corpus.newsroom.names import NAMES
from semigpt.corpus.newsroom.sections.culture import CULTURE
from semigpt.corpus.newsroom.sections.economy import ECONOMY
from semigpt.corpus.newsroom.sections.it import IT
from semigpt.corpus.newsroom.sections.society import SOCIETY
from semigpt.corpus.newsroom.sections.sport import SPORT
from semigpt.corpus.newsroom.sections.weather import WEATHER
from semigpt.corpus.newsroom.sections.world import WORLD
from semigpt.corpus.newsroom.things import THINGS
from semigpt.corpus.newsroom.voices import VOICES

__all__ = ["fingerprint", "frame_count", "grammar"]


@cache
def grammar() -> Grammar:
    """The grammar of the news, built once."""
    kinds = {kind.name: kind for kind in (*NAMES, *THINGS, *VOICES, *AMOUNTS)}
    return Grammar((ECONOMY, IT, SOCIETY, CULTURE, SPORT, WEATHER, WORLD), kinds, DERIVED)


def positions() -> list[Position]:
    """Every position of every story, each once: stories share some."""
    found = [
        position
        for section in grammar().sections
        for story in section.stories
        for position in story.plan
    ]
    return list(dict.fromkeys(found))


def frame_count() -> int:
    """How many different sentence frames the documents are made of (headlines not counted)."""
    return len({frame.template for position in positions() for frame in position.frames})


@cache
def fingerprint() -> str:
    """A hash of everything that decides what the generator writes: frames, plans, word lists, ranges, particles.

    What is worked out (`Derived`) is code, so it is hashed by what it says of a few numbers.
    """
    news = grammar()
    digest = hashlib.sha256()

    def add(*words: object) -> None:
        digest.update("\x1f".join(map(str, words)).encode() + b"\x1e")

    for section in news.sections:
        for story in section.stories:
            add(
                section.name,
                story.name,
                *story.months,
                *(line.template for line in story.headlines),
            )
            for position in story.plan:
                add(
                    position.optional,
                    position.paragraph,
                    position.sentences,
                    *(frame.template for frame in position.frames),
                )
    for name, kind in news.kinds.items():
        add(name, *kind.numbers)
        for part in (*kind.parts, *kind.about.values()):
            add(*part)
    for name, derived in news.derived.items():
        sizes = ((100, 211), (1_234, 35), (9_980, 489))
        add(
            name, *derived.sources, *(derived.text(*size[: len(derived.sources)]) for size in sizes)
        )
    add(*PARTICLES, *PARTICLES.values())
    return digest.hexdigest()
