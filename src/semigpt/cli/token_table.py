"""The tokens of a text as a table for the terminal, by a tokenizer found by its name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from semigpt.corpus.corpus import Corpus
from semigpt.errors import TokenizerError
from semigpt.language import _
from semigpt.tokenizers import Kind, Tokenizer, load_tokenizer
from semigpt.tokenizers.base import TOKENIZER_FILE

__all__ = ["Token", "find_tokenizer", "print_tokens", "tokens_of", "visible"]


def find_tokenizer(name: str, corpus: Callable[[], Corpus]) -> Tokenizer:
    """The tokenizer of a folder that holds one, of a run folder, or one of a kind trained on a
    corpus.

    `corpus` is asked for only where a kind is named. Raises TokenizerError where the name is none
    of these.
    """
    folder = Path(name)
    if folder.is_dir():
        inner = folder / "model"
        is_run = not (folder / TOKENIZER_FILE).exists() and (inner / TOKENIZER_FILE).exists()
        return load_tokenizer(inner if is_run else folder)
    if name not in get_args(Kind):
        raise TokenizerError(
            _(
                "no tokenizer {name!r}: name a tokenizer's folder, a run folder, or one of {kind}"
            ).format(name=name, kind=", ".join(get_args(Kind)))
        )
    from semigpt.config import TokenizerSettings
    from semigpt.preparation import prepare_tokenizer

    kind: Any = name
    return prepare_tokenizer(TokenizerSettings(kind=kind), corpus())


@dataclass(frozen=True)
class Token:
    """A token of a text: `Tokenizer.token_text`, and what it stands for in UTF-8."""

    id: int
    text: str
    bytes: bytes


def tokens_of(tokenizer: Tokenizer, text: str) -> list[Token]:
    """The tokens of `text`, one after another."""
    return [
        Token(token_id, tokenizer.token_text(token_id), tokenizer.token_bytes(token_id))
        for token_id in tokenizer.encode(text).tolist()
    ]


# Both are read with black letters on them, on a light terminal and on a dark one.
_STYLES = ("black on bright_cyan", "black on bright_yellow")


def print_tokens(console: Console, tokens: Iterable[Token]) -> None:
    """Each token above its id and its bytes, as many side by side as the console is wide.

    Colours alternate from token to token; a console that is no terminal gets the same columns
    without them.
    """
    rows: tuple[Text, Text, Text] = (Text(), Text(), Text())
    used = 0

    def print_rows() -> None:
        for row in rows:
            row.rstrip()
            console.print(row, soft_wrap=True)
        console.print()

    for number, token in enumerate(tokens):
        cells = (visible(token.text), str(token.id), token.bytes.hex().upper())
        width = max(map(cell_len, cells))
        if used and used + width > console.width:
            print_rows()
            rows, used = (Text(), Text(), Text()), 0
        for row, cell, style in zip(rows, cells, (_STYLES[number % 2], "", "dim"), strict=True):
            row.append(cell, style)
            row.append(" " * (width - cell_len(cell) + 2))
        used += width + 2
    if used:
        print_rows()


def visible(text: str) -> str:
    """A token's text with what a terminal would not show made seen.

    A space is ␣; a conjoining letter (U+1100 …), which terminals draw over its neighbour, is the
    letter that stands alone, a final one with a hyphen before it, as in -ㄴ; a mark that has
    nothing to stand on gets a circle.
    """
    if len(text) == 1:
        name = unicodedata.name(text, "")
        for role, sign in (("CHOSEONG", ""), ("JUNGSEONG", ""), ("JONGSEONG", "-")):
            if name.startswith(f"HANGUL {role} "):
                try:
                    return sign + unicodedata.lookup(f"HANGUL LETTER {name.rpartition(' ')[2]}")
                except KeyError:  # letters of before 1933 have no form that stands alone
                    return text
    if text and unicodedata.category(text[0]).startswith("M"):
        text = f"◌{text}"
    return text.replace(" ", "␣")
