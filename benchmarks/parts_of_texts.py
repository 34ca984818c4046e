"""The beginning of a text as a corpus of its own, for the benchmarks of lengths of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["HELD_OUT", "first_documents", "write_beginning"]

HELD_OUT = 300_000  # characters of validation and of test
SPLITS = ("train", "validation", "test")


def first_documents(documents: Iterator[str], characters: float) -> Iterator[str]:
    """Whole documents until they have that many characters."""
    for text in documents:
        if characters <= 0:
            return
        yield text
        characters -= len(text)


def write_beginning(folder: Path, splits: Mapping[str, Iterator[str]], characters: float) -> None:
    """Write the first so many characters of the training split, and the held-out splits cut short,
    as a folder of JSON lines.
    """
    folder.mkdir(parents=True)
    for split in SPLITS:
        wanted = characters if split == "train" else HELD_OUT
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for text in first_documents(splits[split], wanted):
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
