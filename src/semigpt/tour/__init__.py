"""`semigpt tour`: from the first document to residual blocks, on the reader's own text.

    ko, en      the chapters, in Markdown that is run: the same code in both languages
    loader      reads a chapter and shows it in a terminal
    session     a Python session whose lines and answers are what is shown

Every line of code shown is the line that ran. Every number, in the code's answers and in the
sentences between them, is computed then and there. Typed into a Python prompt, the lines give the
same answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from semigpt.errors import CorpusError, SettingsError
from semigpt.settings import check_choice
from semigpt.tour.loader import Lang, pages, read_chapters
from semigpt.tour.session import Session

__all__ = ["tour"]

TRAINED_MODELS = 5  # the table and the four rungs above it share the time for training evenly
BLOCK = 8  # the chapters' block_size
LONGEST_TEXT = 2_000_000  # characters; more would add seconds of waiting and nothing to see
LONGEST_SENTENCE = 40  # characters
# Of each model, before the tour says which guesses best. On the bundled news the table leads after
# 1,000 (3.055 nats, blocks 3.211), and blocks do after 2,000 (2.974, the table 2.992).
ENOUGH_STEPS = 2_000


def tour(
    spec: str = "news",
    *,
    column: str | None = None,
    split: str = "auto",
    lang: Lang = "ko",
    seconds: float = 60.0,
    steps: int | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the tour of the text that `spec` names, each paragraph as soon as it is there.

    `seconds` is the time for all training together; the clock decides how many steps fit in it.
    `steps`, of each model, replaces it and makes every number the same each time on one machine.

    Raises SettingsError for a language, length or seed that cannot be, CorpusError for a text that
    cannot be read or is too short for two blocks, TokenizerError for one with lone surrogates.
    """
    check_choice("lang", lang, ("ko", "en"))
    if steps is None and not 0 < seconds < math.inf:
        raise SettingsError(f"seconds must be more than 0 and finite, not {seconds}")
    if steps is not None and steps < 1:
        raise SettingsError(f"steps must be at least 1, not {steps}")
    if not 0 <= seed < 2**63:
        raise SettingsError(f"seed must be between 0 and 2^63 - 1, not {seed}")
    text = spec.split("\n") if "\n" in spec else spec
    given = {"column": column, "split": None if split == "auto" else split}
    options = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
    minutes = seconds / 60 / TRAINED_MODELS
    session = Session(
        {
            "CORPUS": f"{text!r}{options}",
            "LENGTH": f"minutes={minutes:.3g}" if steps is None else f"steps={steps}",
            "SEED": seed,
            "LONGEST_TEXT": LONGEST_TEXT,
            "ENOUGH_STEPS": ENOUGH_STEPS,
            "first_sentence": first_sentence,
            "math": math,
        }
    )
    first, *others = read_chapters(lang)
    # Run before anything is shown: an unreadable text is one line of error, not half a page.
    opening = list(pages(first, session))
    length = len(session["ko_text"])
    if length < 2 * (BLOCK + 1):
        raise CorpusError(
            f"the part of the text to learn from has {length} characters, fewer than the "
            f"{2 * (BLOCK + 1)} a tour needs: a block of {BLOCK} with its last target to train on, "
            "and one to validate on; give it a longer text with --data"
        )
    yield from opening
    for chapter in others:
        yield from pages(chapter, session)


def first_sentence(text: str) -> str:
    """The text's first sentence that says something, cut where it is long."""
    sentences = (found.strip() for found in re.findall(r"[^.!?\n]+[.!?]?", text))
    return next((found for found in sentences if len(found) > 1), text)[:LONGEST_SENTENCE]
