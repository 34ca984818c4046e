"""What the tour reads of a corpus: its beginning, as one text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semigpt.corpus.corpus import Corpus

__all__ = ["opening_text", "separate_splits"]

LONGEST_TEXT = 2_000_000  # characters; more would add seconds of waiting and nothing to see


def opening_text(corpus: Corpus, characters: int = LONGEST_TEXT) -> str:
    """The corpus's documents back to back, training split first, as far as `characters` go."""
    pieces: list[str] = []
    length = 0
    for split in separate_splits(corpus):
        for document in corpus.documents(split):
            pieces.append(document[: characters - length])
            length += len(pieces[-1])
            if length >= characters:
                return "".join(pieces)
    return "".join(pieces)


def separate_splits(corpus: Corpus) -> list[str]:
    """The splits that hold text of their own: where a text is cut by character, validation and test are one file."""
    return list({corpus.path(split): split for split in corpus.splits}.values())
