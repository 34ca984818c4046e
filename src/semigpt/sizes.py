"""The sizes of a model by name, and what each sets in a recipe: sizes.toml.

The first four are of every rung. The larger ones, from `0.3b` on, are of `gpt`: nothing but their
arithmetic was tried here, and the law of learning was not fitted to them.
"""

from __future__ import annotations

import copy
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["LARGER_SIZES", "SIZES", "Size", "own_vocabulary", "size_tables"]

Size: TypeAlias = str


@cache
def _sizes() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("sizes.toml").read_text(encoding="utf-8"))


SIZES: tuple[Size, ...] = tuple(_sizes()["of_every_rung"])
LARGER_SIZES: tuple[Size, ...] = tuple(
    name for name in _sizes() if name not in ("of_every_rung", *SIZES)
)


def size_tables(size: Size) -> dict[str, dict[str, Any]]:
    """The tables of a recipe of a `gpt` that a size sets; the caller's own copy."""
    tables = copy.deepcopy(_sizes()[size])
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def own_vocabulary(size: Size) -> int | None:
    """Tokens of the vocabulary that a size has where the text is long enough; None where the text
    alone decides.
    """
    found: int | None = _sizes()[size].get("vocab_size")
    return found
