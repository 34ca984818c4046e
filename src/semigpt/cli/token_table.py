"""A tokenizer as a person meets it: trained into a folder, found by its name, and seen at work on a text."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from semigpt.corpus.corpus import Corpus
from semigpt.errors import SettingsError, TokenizerError
from semigpt.settings import check_choice
from semigpt.tokenizers import Kind, Tokenizer, load_tokenizer, train_tokenizer
from semigpt.tokenizers.base import TOKENIZER_FILE

__all__ = ["Piece", "check_free", "find_tokenizer", "pieces", "print_pieces", "train_into"]


def train_into(
    folder: Path,
    kind: Kind,
    corpus: Corpus,
    *,
    vocab_size: int | None = None,
    min_count: int | None = None,
    special_tokens: Sequence[str] = (),
) -> Tokenizer:
    """Train a tokenizer on the training split and save it in `folder`, which appears whole or not at all.

    Raises SettingsError for a setting that cannot work or that `kind` has no use for, TokenizerError for a
    vocabulary too small for the alphabet and for a folder that is there already or cannot be written.
    """
    check_choice("--kind", kind, get_args(Kind))
    for flag, value in (("--vocab-size", vocab_size), ("--min-count", min_count)):
        if value is not None and value < 1:
            raise SettingsError(f"{flag} must be more than 0, not {value}")
    if min_count is not None and kind in ("byte", "unigram"):
        raise SettingsError(
            f"--min-count means nothing to {kind}; leave it out, or choose char, jamo or bpe"
        )
    check_free(folder)
    tokenizer = train_tokenizer(
        kind,
        corpus.documents("train"),
        vocab_size=vocab_size,
        min_count=min_count or 1,
        normalization="NFC",
        special_tokens=special_tokens,
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            tokenizer.save(Path(temporary) / "whole")
            (Path(temporary) / "whole").rename(folder)
    except OSError as error:
        raise TokenizerError(
            f"cannot save the tokenizer in {folder}: {error.strerror or error}"
        ) from None
    return tokenizer


def check_free(folder: Path) -> None:
    """Raise TokenizerError where `folder` is there already: nothing is ever written over."""
    if folder.exists() or folder.is_symlink():
        raise TokenizerError(
            f"{folder} exists already; give --out a new folder, or remove that one first"
        )


def find_tokenizer(name: str, corpus: Callable[[], Corpus]) -> Tokenizer:
    """The tokenizer of a folder that holds one, of a run folder, or one of a kind trained on a corpus.

    `corpus` is asked for only where a kind is named. Raises TokenizerError where the name is none of these.
    """
    folder = Path(name)
    if folder.is_dir():
        inner = folder / "model"
        is_run = not (folder / TOKENIZER_FILE).exists() and (inner / TOKENIZER_FILE).exists()
        return load_tokenizer(inner if is_run else folder)
    if name not in get_args(Kind):
        raise TokenizerError(
            f"no tokenizer {name!r}: name a tokenizer's folder, a run folder, or one of {', '.join(get_args(Kind))}"
        )
    from semigpt.recipe import TokenizerSettings, prepare_tokenizer

    settings: Any = {"kind": name}
    return prepare_tokenizer(TokenizerSettings(**settings), corpus())


@dataclass(frozen=True)
class Piece:
    """A token of a text. `text` is `Tokenizer.token_text`, `bytes` are what it stands for in UTF-8."""

    id: int
    text: str
    bytes: bytes


def pieces(tokenizer: Tokenizer, text: str) -> list[Piece]:
    """The tokens of `text`, one after another."""
    return [
        Piece(token_id, tokenizer.token_text(token_id), tokenizer.token_bytes(token_id))
        for token_id in tokenizer.encode(text).tolist()
    ]


# Both are read with black letters on them, on a light terminal and on a dark one.
_STYLES = ("black on bright_cyan", "black on bright_yellow")


def print_pieces(console: Console, parts: Iterable[Piece]) -> None:
    """Each piece above its id and its bytes, as many beside each other as the console is wide.

    Colours alternate from piece to piece; a console that is no terminal gets the same columns without them.
    """
    rows: tuple[Text, Text, Text] = (Text(), Text(), Text())
    used = 0

    def print_rows() -> None:
        for row in rows:
            row.rstrip()
            console.print(row, soft_wrap=True)
        console.print()

    for number, piece in enumerate(parts):
        cells = (visible(piece.text), str(piece.id), piece.bytes.hex().upper())
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
    """A piece's text with what a terminal would not show made seen.

    A space is ␣; a conjoining letter (U+1100 …), which terminals draw over its neighbour, is the letter that stands
    alone, a final one with a hyphen before it, as in -ㄴ; a mark that has nothing to stand on gets a circle.
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
