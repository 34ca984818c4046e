"""What the tour reads of a corpus: its beginning, as one text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semigpt.corpus.staging import Corpus

__all__ = ["first_sentence", "opening_text", "whole_length"]

LONGEST_TEXT = 2_000_000  # characters; more would add seconds of waiting and nothing to see
LONGEST_SENTENCE = 40  # characters


def opening_text(corpus: Corpus, characters: int = LONGEST_TEXT) -> str:
    """The corpus's documents back to back, training split first, as far as `characters` go."""
    pieces: list[str] = []
    length = 0
    for split in _separate_splits(corpus):
        for document in corpus.documents(split):
            pieces.append(document[: characters - length])
            length += len(pieces[-1])
            if length >= characters:
                return "".join(pieces)
    return "".join(pieces)


def whole_length(corpus: Corpus) -> int:
    """How many characters all its documents have."""
    return sum(corpus.characters(split) for split in _separate_splits(corpus))


def first_sentence(text: str) -> str:
    """The text's first sentence that says something, cut where it is long."""
    sentences = (found.strip() for found in re.findall(r"[^.!?\n]+[.!?]?", text))
    return next((found for found in sentences if len(found) > 1), text)[:LONGEST_SENTENCE]


def _separate_splits(corpus: Corpus) -> list[str]:
    """The splits with text of their own: cut by character, validation and test are one file."""
    return list({corpus.path(split): split for split in corpus.splits}.values())
