"""Characters as tokens: the book's tokenizer, made so that no text is outside it.

The ids of the characters are the book's, `sorted(set(text))` counted from 0. Behind them come <|endoftext|>
and one token for each of the 256 bytes: a character that the vocabulary lacks is written as its UTF-8
bytes, one to four tokens, so any string at all encodes and comes back exactly (byte fallback, as in
SentencePiece: Kudo and Richardson 2018, arXiv:1808.06226).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import TokenizerError
from semigpt.tokenizers.base import (
    END_OF_TEXT,
    Ids,
    Kind,
    Normalization,
    Tokenizer,
    added_token,
    as_row,
    byte_token,
    check_special_tokens,
    read_utf8,
)

__all__ = ["CharTokenizer"]

# A piece of this many characters and its ids stay in the processor's cache, which makes encoding 1.4 times
# as fast as one pass over the whole text; pieces of 16,000 to 262,000 are within 5 % of each other.
_PIECE = 1 << 16
_CODE_POINTS = 0x110000


@final
class CharTokenizer(Tokenizer):
    """One token a character, and bytes for the characters it does not know.

    `characters` is a text or any collection of characters; each distinct one becomes a token, in code point
    order. Lone surrogates are left to the bytes, since no JSON file can hold them. A text (not a
    collection) is normalised first where `normalization` is given. `special_tokens` come last, after
    <|endoftext|> and the bytes.

    Raises TokenizerError for an item longer than one character, or a special token that cannot be one.
    """

    kind: ClassVar[Kind] = "char"

    def __init__(
        self,
        characters: Iterable[str],
        *,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> None:
        if isinstance(characters, str) and normalization is not None:
            characters = unicodedata.normalize(normalization, characters)
        self._characters = sorted(
            character for character in set(characters) if not _is_surrogate(character)
        )
        self.normalization = normalization
        check_special_tokens([END_OF_TEXT, *special_tokens])
        tokens = [*self._characters, END_OF_TEXT, *map(byte_token, range(256)), *special_tokens]
        first_special = len(tokens) - len(special_tokens)
        self.special_tokens = {
            END_OF_TEXT: len(self._characters),
            **{spelling: first_special + i for i, spelling in enumerate(special_tokens)},
        }
        self._first_byte: int | None = len(self._characters) + 1
        self._build(tokens)

    @classmethod
    def plain(cls, text: str) -> Self:
        """The book's own tokenizer: the characters of `text` and nothing else.

        Without bytes to fall back on, `encode` raises TokenizerError for a character that `text` does not
        hold.
        """
        for place, character in enumerate(text):
            if _is_surrogate(character):
                raise TokenizerError(
                    f"character {place} of the text is a lone surrogate ({character!a}), which no "
                    "tokenizer.json can hold; remove it, or use CharTokenizer, which writes it as bytes"
                )
        self: Self = cls.__new__(cls)
        self._characters = sorted(set(text))
        if not self._characters:
            raise TokenizerError(
                "a plain character tokenizer needs at least one character, and the text is empty"
            )
        self.normalization = None
        self.special_tokens = {}
        self._first_byte = None
        self._build(self._characters)
        return self

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        *,
        min_count: int = 1,
        max_vocab_size: int | None = None,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> Self:
        """A tokenizer of the characters seen at least `min_count` times; the rest are left to the bytes.

        `max_vocab_size` bounds the whole vocabulary, bytes and special tokens included; the most frequent
        characters stay, and of two as frequent the lower code point. Raises TokenizerError where it leaves
        no room for one.
        """
        frequent = [c for c, count in counts.items() if count >= min_count and not _is_surrogate(c)]
        if max_vocab_size is not None:
            extras = 1 + 256 + len(special_tokens)
            if max_vocab_size <= extras:
                raise TokenizerError(
                    f"a vocabulary of {max_vocab_size} leaves no room for characters: "
                    f"bytes and special tokens take {extras}; give at least {extras + 1}"
                )
            frequent = sorted(frequent, key=lambda c: (-counts[c], c))[: max_vocab_size - extras]
        return cls(frequent, normalization=normalization, special_tokens=special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for. Raises TokenizerError if none did."""
        by_id = sorted(document["model"]["vocab"], key=document["model"]["vocab"].__getitem__)
        characters = [token for token in by_id if len(token) == 1]
        special_tokens = [
            token["content"]
            for token in document["added_tokens"]
            if token["content"] != END_OF_TEXT
        ]
        if document["model"]["byte_fallback"]:
            normalization: Normalization | None = (
                "NFC" if document["normalizer"] == {"type": "NFC"} else None
            )
            self: Self = cls(characters, normalization=normalization, special_tokens=special_tokens)
        else:
            self = cls.plain("".join(characters))
        return self

    @property
    def characters(self) -> list[str]:
        """The characters that have a token of their own, in the order of their ids."""
        return list(self._characters)

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`. `plain` raises TokenizerError, naming it and its place, for an unseen
        character; any other tokenizer takes any string."""
        if self.normalization is not None:
            text = unicodedata.normalize(self.normalization, text)
        if len(text) <= _PIECE:
            return self._encode_piece(text, 0)
        starts = range(0, len(text), _PIECE)
        # NumPy lets go of the interpreter while it looks ids up: two threads are 1.6 times as fast as one.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate(
                list(pool.map(lambda at: self._encode_piece(text[at : at + _PIECE], at), starts))
            )

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        row = as_row(ids)
        if (
            row.dtype.kind == "i" or row.itemsize == 8
        ):  # NumPy would clip an id below zero, or wrapped, to 0
            self._check_range(row)
        pieces = (row[at : at + _PIECE] for at in range(0, len(row), _PIECE))
        try:
            return "".join(
                self._code_points.take(piece, mode="clip").tobytes().decode("utf-32-le")
                for piece in pieces
            )
        except (
            UnicodeDecodeError
        ):  # not only characters: join bytes, so that those of one character meet
            self._check_range(row)
            utf8 = self._utf8.take(row).view(np.uint8)[self._utf8_used.take(row).view(np.bool_)]
            return read_utf8(utf8.tobytes(), final=True)[0]

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def token_text(self, token_id: int) -> str:
        if self._first_byte is not None and 0 <= token_id - self._first_byte < 256:
            return byte_token(token_id - self._first_byte)
        return super().token_text(token_id)

    def tokenizer_json(self) -> dict[str, Any]:
        """A BPE model without a single merge: each character is its own token, or else its bytes."""
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                added_token(spelling, i) for spelling, i in self.special_tokens.items()
            ],
            "normalizer": None if self.normalization is None else {"type": self.normalization},
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {
                "type": "Sequence",
                "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}],
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": self._first_byte is not None,
                "ignore_merges": False,
                "vocab": {token: i for i, token in enumerate(self._tokens)},
                "merges": [],
            },
        }

    def _build(self, tokens: list[str]) -> None:
        """The lookup tables: code point to id, and id to code point and bytes."""
        self._tokens = tokens
        self.vocab_size = len(tokens)
        characters = np.array([ord(character) for character in self._characters], np.uint32)
        # An id that no text encodes to stands for "not in the vocabulary": that of <|endoftext|>, or one
        # too many.
        self._unseen = self.vocab_size if self.end_of_text is None else self.end_of_text
        self._ids = np.full(
            _CODE_POINTS, self._unseen, np.min_scalar_type(max(self._unseen, self.vocab_size - 1))
        )
        self._ids[characters] = np.arange(len(characters))
        # What is no character, or outside the vocabulary and so clipped to the last place, has a code point
        # that UTF-32 refuses: decoding finds it without a look of its own.
        self._code_points = np.full(self.vocab_size + 1, _CODE_POINTS, np.uint32)
        self._code_points[: len(characters)] = characters
        self._bytes = [character.encode() for character in self._characters]
        if self._first_byte is not None:
            self._bytes += [b"", *(bytes([byte]) for byte in range(256))]
            self._bytes += [b""] * (self.vocab_size - len(self._bytes))
            self._byte_ids = np.arange(self._first_byte, self._first_byte + 256).astype(self.dtype)
        # Each token's bytes, four at most, in one number, and which of the four are used.
        self._utf8 = np.array([int.from_bytes(data, "little") for data in self._bytes], "<u4")
        self._utf8_used = np.array([(1 << 8 * len(data)) // 255 for data in self._bytes], "<u4")

    def _encode_piece(self, piece: str, start: int) -> Ids:
        """The ids of a part of a text that begins at character `start`, which errors name."""
        code_points = np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), np.uint32)
        # Code points are always inside the table; "wrap" only skips NumPy's own check of that: 1.5 times as
        # fast.
        ids = self._ids.take(code_points, mode="wrap")
        unseen = ids == self._unseen
        if unseen.any():
            if self._first_byte is None:
                place = int(unseen.argmax())
                raise TokenizerError(
                    f"character {start + place} of the text, {piece[place]!r}, is not in this plain "
                    "vocabulary; CharTokenizer(text), not CharTokenizer.plain(text), would write it as bytes"
                )
            ids = self._with_bytes(ids, code_points, unseen)
        return ids.astype(self.dtype, copy=False)

    def _with_bytes(
        self, ids: Ids, code_points: NDArray[np.uint32], unseen: NDArray[np.bool_]
    ) -> Ids:
        """`ids` with each unseen character's one place widened to the ids of its UTF-8 bytes."""
        strangers = code_points[unseen]
        utf8 = (
            strangers.tobytes()
            .decode("utf-32-le", "surrogatepass")
            .encode("utf-8", "surrogatepass")
        )
        widths = np.ones(len(ids), np.uint8)
        widths[unseen] += (
            (strangers >= 0x80).astype(np.uint8) + (strangers >= 0x800) + (strangers >= 0x10000)
        )
        widened = np.repeat(ids, widths)
        is_byte = np.repeat(unseen, widths)
        widened[is_byte] = self._byte_ids[np.frombuffer(utf8, np.uint8)]
        return widened


def _is_surrogate(character: str) -> bool:
    if len(character) != 1:
        raise TokenizerError(f"a character tokenizer takes single characters, not {character!r}")
    return "\ud800" <= character <= "\udfff"
