"""Text to ids and back: characters (the book's), bytes, jamo, BPE over bytes or characters, and
Unigram.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semigpt.errors import TokenizerError
from semigpt.language import _
from semigpt.storage import read_json, read_settled
from semigpt.tokenizers.base import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    AnyKind,
    Kind,
    Normalization,
    StreamDecoder,
    Tokenizer,
    batches,
    fingerprint_of,
)
from semigpt.tokenizers.byte_level import (
    BPETokenizer,
    ByteTokenizer,
    UnigramTokenizer,
    reserved_tokens,
)
from semigpt.tokenizers.char import CharTokenizer
from semigpt.tokenizers.char_bpe import CharBPETokenizer
from semigpt.tokenizers.foreign import ForeignTokenizer
from semigpt.tokenizers.jamo import JamoTokenizer

__all__ = [
    "LEARNING_VERSION",
    "BPETokenizer",
    "ByteTokenizer",
    "CharBPETokenizer",
    "CharTokenizer",
    "ForeignTokenizer",
    "JamoTokenizer",
    "Kind",
    "Normalization",
    "StreamDecoder",
    "Tokenizer",
    "UnigramTokenizer",
    "count_characters",
    "load_tokenizer",
    "train_tokenizer",
]

LARGEST_TOKENIZER = 64 << 20  # bytes; the largest tokenizer.json in use is a third of it
# Raised with every change that makes `train_tokenizer` learn other tokens from the same text: a
# tokenizer that is kept beside a corpus has it in its name.
LEARNING_VERSION = 2
DEFAULT_VOCAB_SIZE = 8000  # of the kinds whose tokens are longer than a character


def train_tokenizer(
    kind: AnyKind,
    documents: Iterable[str],
    *,
    vocab_size: int | None = None,
    min_count: int = 1,
    normalization: Normalization | None = None,
    special_tokens: Sequence[str] = (),
) -> Tokenizer:
    """Train a tokenizer of `kind` on `documents`, which are read once, as they come.

    Args:
        vocab_size: The most tokens of the whole vocabulary; by default 8,000 for `bpe`, `char_bpe`
            and `unigram`, and all characters for the others.
        min_count: How often a character (`char`, `jamo`, `char_bpe`) or a pair (`bpe`, `char_bpe`)
            must occur to get a token. `byte` has nothing to learn and reads nothing.

    Raises TokenizerError for a vocabulary too small for the alphabet, or an unknown kind.
    """
    options: dict[str, Any] = {"normalization": normalization, "special_tokens": special_tokens}
    match kind:
        case "char":
            counts = count_characters(documents, normalization)
            return CharTokenizer.from_counts(
                counts, min_count=min_count, max_vocab_size=vocab_size, **options
            )
        case "jamo":
            counts = count_characters(documents, normalization)
            return JamoTokenizer.from_counts(
                counts, min_count=min_count, max_vocab_size=vocab_size, **options
            )
        case "byte":
            if vocab_size is not None:
                reserved_tokens(vocab_size, special_tokens)
            return ByteTokenizer(**options)
        case "bpe" | "char_bpe":
            size = vocab_size or DEFAULT_VOCAB_SIZE
            merging = BPETokenizer if kind == "bpe" else CharBPETokenizer
            return merging.train(documents, vocab_size=size, min_count=min_count, **options)
        case "unigram":
            return UnigramTokenizer.train(
                documents, vocab_size=vocab_size or DEFAULT_VOCAB_SIZE, **options
            )
    raise TokenizerError(
        _(
            "no tokenizer of kind {kind!r}; there are char, byte, jamo, bpe, char_bpe and unigram"
        ).format(kind=kind)
    )


def count_characters(
    documents: Iterable[str], normalization: Normalization | None = None
) -> dict[str, int]:
    """How often each character occurs in `documents`, by code point."""
    counts = np.zeros(0x110000, np.int64)
    for batch in batches(documents, 1 << 20):
        text = "".join(
            unicodedata.normalize(normalization, document) if normalization else document
            for document in batch
        )
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        counts += np.bincount(code_points, minlength=len(counts))
    return {chr(code_point): int(counts[code_point]) for code_point in np.flatnonzero(counts)}


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of a folder: one that `Tokenizer.save` wrote, with the same ids, or another's.

    Raises TokenizerError, naming the file, for a folder without one, a file that is not JSON or not
    a tokenizer, and ids other than those it was saved with.
    """
    return read_settled(Path(folder), lambda: _load(Path(folder) / TOKENIZER_FILE))


def _load(path: Path) -> Tokenizer:
    document, config = _read_json(path), {}
    config_path = path.with_name(CONFIG_FILE)
    if config_path.exists():
        config = _read_json(config_path)
    tokenizer, reason = None, _("its ids are not those of a tokenizer of its kind with its tokens")
    try:
        tokenizer = _from_tokenizer_json(document)
        if fingerprint_of(document) != tokenizer.fingerprint:
            tokenizer = None
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
    except TokenizerError as error:
        reason = str(error)
    if tokenizer is None:
        if "fingerprint" in config:  # which semigpt alone writes
            raise TokenizerError(
                _("{path} was not written by semigpt, or was changed since ({reason})").format(
                    path=path, reason=reason
                )
            )
        return _load_foreign(path, config)
    if (expected := config.get("fingerprint", tokenizer.fingerprint)) != tokenizer.fingerprint:
        raise TokenizerError(
            _(
                "{path} is not the one that {name} was saved with (its fingerprint begins "
                "{fingerprint}, not {expected}); copy both files from one "
                "folder"
            ).format(
                path=path,
                name=config_path.name,
                fingerprint=tokenizer.fingerprint[:8],
                expected=str(expected)[:8],
            )
        )
    return tokenizer


def _load_foreign(path: Path, config: Mapping[str, Any]) -> ForeignTokenizer:
    """A tokenizer that semigpt did not write."""
    named = path.with_name("special_tokens_map.json")
    tokens = _read_json(named) if named.exists() else {}
    try:
        return ForeignTokenizer(path.read_bytes(), {**tokens, **config})
    except OSError as error:
        raise TokenizerError(
            _("{path} cannot be read: {strerror}").format(path=path, strerror=error.strerror)
        ) from None
    except TokenizerError as error:
        raise TokenizerError(
            _("{path} is not a tokenizer: {error}").format(path=path, error=error)
        ) from None


def _from_tokenizer_json(document: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of the kind that the document's structure shows."""
    match document:
        case {"model": {"type": "Unigram"}}:
            return UnigramTokenizer.from_tokenizer_json(document)
        case {
            "model": {"type": "BPE", "vocab": {"<0x00>": 0}},
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, *_]},
        }:
            return CharBPETokenizer.from_tokenizer_json(document)
        case {
            "model": {"type": "BPE"},
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, *_]},
        }:
            return CharTokenizer.from_tokenizer_json(document)
        case {
            "model": {"type": "BPE"},
            "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, *_]},
        }:
            return JamoTokenizer.from_tokenizer_json(document)
        case {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}:
            return ByteTokenizer.from_tokenizer_json(document)
        case {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel"}}:
            return BPETokenizer.from_tokenizer_json(document)
    raise TokenizerError(
        _("not a tokenizer of a kind that semigpt makes (char, byte, jamo, bpe, char_bpe, unigram)")
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, LARGEST_TOKENIZER)
    except OSError as error:
        raise TokenizerError(
            _("no tokenizer in {parent}: {name}: {reason}").format(
                parent=path.parent, name=path.name, reason=error.strerror or error
            )
        ) from None
    except ValueError as error:
        raise TokenizerError(
            _("{path} is not JSON of a tokenizer: {error}").format(path=path, error=error)
        ) from None
