"""Splits that file names tell: `train.txt` beside `test.txt`, `ratings_train.tsv` and so on.

Names tell splits only where a file of train and one that is held out differ in nothing but the word
for it, in the file's name or in that of a folder. `training_log.txt` beside `test_story.txt` is no
such pair, so all of them are one text.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from semigpt.corpus.reading import SPLIT_NAMES, SPLITS

__all__ = ["splits_by_name"]

SPLIT_WORDS = {
    **SPLIT_NAMES,
    "training": "train",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
WORD = re.compile(r"[^\W\d_]+")
NUMBERING = ("of",)  # train-00000-of-00002


def splits_by_name(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split, in the order of SPLITS; {} where names tell none."""
    found: dict[str, list[Path]] = {}
    rests: dict[str, set[tuple[str, ...]]] = {}
    for path in files:
        split, rest = _split_of(path.relative_to(folder))
        if split is not None:
            found.setdefault(split, []).append(path)
            rests.setdefault(split, set()).add(rest)
    held_out = rests.get("test", set()) | rests.get("validation", set())
    if not rests.get("train", set()) & held_out:
        return {}
    return {split: found[split] for split in SPLITS if split in found}


def _split_of(path: Path) -> tuple[str | None, tuple[str, ...]]:
    """The split that a path tells, and the other words of the part that tells it."""
    for part in (path.name.split(".")[0], *reversed(path.parts[:-1])):
        words = WORD.findall(part.lower())
        told = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
        if len(told) == 1:
            rest = (word for word in words if word not in SPLIT_WORDS and word not in NUMBERING)
            return told[0], tuple(rest)
    return None, ()
