"""`semigpt tour`: from the first document to residual blocks, step by step, on the reader's own text.

    text        what the tour reads of a corpus
    session     a Python session whose lines and answers are what is shown
    bigram      chapters 1 to 17: text, tokens, blocks, one table, its loss, its training
    attention   chapters 18 to 23: averaging, attention, heads, feed-forward, residual blocks

Every line of code shown is the line that ran, and every number, in the code's answers and in the sentences between
them, is computed then and there: typed into a Python prompt, the lines give the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from semigpt.errors import SettingsError
from semigpt.settings import check_choice
from semigpt.tour.session import Lang, Session
from semigpt.tour.text import opening_text

__all__ = ["opening_text", "tour"]

TRAINED_MODELS = 5  # the table and the four rungs above it share the time for training evenly


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
    """The tour of the text that `spec` names, paragraph by paragraph, each as soon as it is there.

    `seconds` is the time for training, in all. The clock decides how many steps fit in it; `steps`, for each model,
    goes before it and makes every number the same each time on one machine.

    Raises SettingsError for a language, length or seed that cannot be, CorpusError for a text that cannot be read or
    is too short for two blocks, TokenizerError for one with lone surrogates.
    """
    check_choice("lang", lang, ("ko", "en"))
    if steps is None and not 0 < seconds < math.inf:
        raise SettingsError(f"seconds must be more than 0 and finite, not {seconds}")
    if steps is not None and steps < 1:
        raise SettingsError(f"steps must be at least 1, not {steps}")
    if not 0 <= seed < 2**63:
        raise SettingsError(f"seed must be between 0 and 2^63 - 1, not {seed}")
    from semigpt.tour import attention, bigram

    given = {"column": column, "split": None if split == "auto" else split}
    arguments = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
    length = f"minutes={seconds / 60 / TRAINED_MODELS:.3g}" if steps is None else f"steps={steps}"
    session = Session(lang)
    yield from bigram.chapters(session, corpus=f"{spec!r}{arguments}", training=length, seed=seed)
    yield from attention.chapters(session, seed=seed)
