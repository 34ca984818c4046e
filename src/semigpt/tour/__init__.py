"""`semigpt tour`: from the first document to residual blocks, on the reader's own text.

    ko, en      the chapters, in Markdown that is run: the same code in both languages
    loader      reads a chapter and runs it
    session     a Python session whose lines and answers are what is shown
    figures     the pictures that the chapters' code draws
    text        the tour in a terminal
    files       the tour as a notebook or an HTML page

Every line of code shown is the line that ran. Every number, in the code's answers and in the
sentences between them, is computed then and there. Typed into a Python prompt, the lines give the
same answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain

from semigpt.corpus.corpus import Corpus
from semigpt.errors import CorpusError, SettingsError
from semigpt.language import _
from semigpt.settings import check_choice
from semigpt.tour.loader import Element, Lang, read_chapters, told
from semigpt.tour.session import Session
from semigpt.tour.text import as_text

__all__ = ["CHAPTERS", "TourSettings", "chapters", "tour"]

CHAPTERS = 23
TRAINED_MODELS = 5  # the table and the four rungs above it share the time for training evenly
BLOCK = 8  # the chapters' block_size
LONGEST_TEXT = 2_000_000  # characters; more would add seconds of waiting and nothing to see
LONGEST_SENTENCE = 40  # characters
# Of each model, before the tour says which guesses best. On the bundled news the table leads after
# 1,000 (3.055 nats, blocks 3.211), and blocks do after 2,000 (2.974, the table 2.992).
ENOUGH_STEPS = 2_000
# Of the table, before the tour says what it has learnt: from 0.89 the distance to the counts is
# 0.80 after 30 steps on the bundled news, and 0.22 after 300; on film reviews 0.87 and 0.25.
SEEN_LEARNING = 300


@dataclass(frozen=True, kw_only=True)
class TourSettings:
    """What the tour is of and how long it trains.

    `seconds` is the time for all training together; the clock decides how many steps fit in it.
    `steps`, of each model, replaces it and makes every number the same each time on one machine.
    `figures` is whether there is a place for pictures.

    Raises SettingsError for a language, length or seed that cannot be.
    """

    spec: str = "news"
    column: str | None = None
    split: str = "auto"
    lang: Lang = "ko"
    seconds: float = 60.0
    steps: int | None = None
    seed: int = 0
    figures: bool = False

    def __post_init__(self) -> None:
        check_choice("lang", self.lang, ("ko", "en"))
        if self.steps is None and not 0 < self.seconds < math.inf:
            raise SettingsError(
                _("seconds must be more than 0 and finite, not {seconds}").format(
                    seconds=self.seconds
                )
            )
        if self.steps is not None and self.steps < 1:
            raise SettingsError(_("steps must be at least 1, not {steps}").format(steps=self.steps))
        if not 0 <= self.seed < 2**63:
            raise SettingsError(
                _("seed must be between 0 and 2^63 - 1, not {seed}").format(seed=self.seed)
            )


def chapters(settings: TourSettings) -> Iterator[Iterator[Element]]:
    """The tour's chapters, each as its elements, which come as soon as they are there.

    A chapter is run while its elements are taken: take all before the next one's. Raises
    CorpusError for a text that cannot be read or is too short for two blocks, TokenizerError for
    one with lone surrogates.
    """
    text = settings.spec.split("\n") if "\n" in settings.spec else settings.spec
    split = None if settings.split == "auto" else settings.split
    given = {"column": settings.column, "split": split}
    options = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
    minutes = settings.seconds / 60 / TRAINED_MODELS
    steps = settings.steps
    session = Session(
        {
            "CORPUS": f"{text!r}{options}",
            "LENGTH": f"minutes={minutes:.3g}" if steps is None else f"steps={steps}",
            "SEED": settings.seed,
            "LONGEST_TEXT": LONGEST_TEXT,
            "ENOUGH_STEPS": ENOUGH_STEPS,
            "SEEN_LEARNING": SEEN_LEARNING,
            "documents_of": documents_of,
            "first_sentence": first_sentence,
            "in_terminal": not settings.figures,
            "math": math,
        }
    )
    first, *others = read_chapters(settings.lang)
    # Run before anything is shown: an unreadable text is one line of error, not half a page.
    opening = list(told(first, session, figures=settings.figures))
    length = len(session["ko_text"])
    if length < 2 * (BLOCK + 1):
        raise CorpusError(
            _(
                "the part of the text to learn from has {length} characters, fewer than the "
                "{least} a tour needs: a block of {block} with its last target to train on, "
                "and one to validate on; give it a longer text with --data"
            ).format(length=length, least=2 * (BLOCK + 1), block=BLOCK)
        )
    yield iter(opening)
    for chapter in others:
        yield told(chapter, session, figures=settings.figures)


def tour(settings: TourSettings, *, width: int = 88) -> Iterator[str]:
    """Yield the tour as text, each paragraph as soon as it is there.

    Lines of sentences have at most `width` columns. Raises what `chapters` raises.
    """
    for element in chain.from_iterable(chapters(settings)):
        if text := as_text(element, width):
            yield text


def documents_of(corpus: Corpus, characters: int) -> int:
    """How many documents hold the first `characters` of the training text."""
    lengths = accumulate(map(len, corpus.documents("train")))
    return next((count for count, length in enumerate(lengths, 1) if length >= characters), 0)


def first_sentence(text: str) -> str:
    """The text's first sentence that says something, cut where it is long."""
    sentences = (found.strip() for found in re.findall(r"[^.!?\n]+[.!?]?", text))
    return next((found for found in sentences if len(found) > 1), text)[:LONGEST_SENTENCE]
