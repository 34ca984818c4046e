"""Characters as tokens: the book's tokenizer, extended so that it encodes every text.

The ids of the characters are the book's, `sorted(set(text))` counted from 0. After them come
<|endoftext|> and one token for each of the 256 bytes: a character outside the vocabulary is written
as its UTF-8 bytes, one to four tokens, so every string encodes and comes back exactly (byte
fallback, as in SentencePiece: Kudo and Richardson 2018, arXiv:1808.06226).
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
from semigpt.language import _
from semigpt.tokenizers.base import (
    END_OF_TEXT,
    Ids,
    Kind,
    Normalization,
    Tokenizer,
    as_row,
    bpe_model,
    byte_token,
    check_special_tokens,
    normalization_of,
    normalizer_json,
    read_utf8,
    special_tokens_of,
    tokenizer_document,
)

__all__ = ["CharTokenizer"]

# Characters encoded at a time: they and their ids stay in the processor's cache, 1.4 times as fast
# as one pass over a long text (docs/choices.md).
_CHUNK = 1 << 16
_CODE_POINTS = 0x110000


@final
class CharTokenizer(Tokenizer):
    """One token a character, and bytes for characters outside the vocabulary.

    Args:
        characters: A text or any collection of characters. Each distinct one becomes a token, in
            code point order. Lone surrogates are left to the bytes, since no JSON file can hold
            them. A text (not a collection) is normalized first.
        normalization: What `encode` applies first.
        special_tokens: They come last, after <|endoftext|> and the bytes.

    Raises TokenizerError for an item longer than one character, or a special token that cannot be
    one.
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

        Without bytes to fall back on, `encode` raises TokenizerError for a character that is not in
        `text`. Raises TokenizerError for an empty text or one with a lone surrogate.
        """
        for place, character in enumerate(text):
            if _is_surrogate(character):
                raise TokenizerError(
                    _(
                        "character {place} of the text is a lone surrogate "
                        "({character!a}), which no "
                        "tokenizer.json can hold; remove it, or use "
                        "CharTokenizer, which writes it as "
                        "bytes"
                    ).format(place=place, character=character)
                )
        self: Self = cls.__new__(cls)
        self._characters = sorted(set(text))
        if not self._characters:
            raise TokenizerError(
                _("a plain character tokenizer needs at least one character, and the text is empty")
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
        """A tokenizer of the characters with `counts` of at least `min_count`.

        `max_vocab_size` bounds the whole vocabulary, bytes and special tokens included: the most
        frequent characters stay, and of two as frequent the lower code point. Raises TokenizerError
        where none would fit.
        """
        frequent = [c for c, count in counts.items() if count >= min_count and not _is_surrogate(c)]
        if max_vocab_size is not None:
            extras = 1 + 256 + len(special_tokens)
            if max_vocab_size <= extras:
                raise TokenizerError(
                    _(
                        "a vocabulary of {max_vocab_size} leaves no room for characters: "
                        "bytes and special tokens take {extras}; give at least {least}"
                    ).format(max_vocab_size=max_vocab_size, extras=extras, least=extras + 1)
                )
            frequent = sorted(frequent, key=lambda c: (-counts[c], c))[: max_vocab_size - extras]
        return cls(frequent, normalization=normalization, special_tokens=special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for. Raises TokenizerError if none
        did."""
        by_id = sorted(document["model"]["vocab"], key=document["model"]["vocab"].__getitem__)
        characters = [token for token in by_id if len(token) == 1]
        if not document["model"]["byte_fallback"]:
            return cls.plain("".join(characters))
        return cls(
            characters,
            normalization=normalization_of(document["normalizer"]),
            special_tokens=special_tokens_of(document),
        )

    @property
    def characters(self) -> list[str]:
        """The characters that have a token of their own, in the order of their ids."""
        return list(self._characters)

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`.

        Raises TokenizerError for a character that a `plain` vocabulary lacks, naming it and its
        place.
        """
        if self.normalization is not None:
            text = unicodedata.normalize(self.normalization, text)
        if len(text) <= _CHUNK:
            return self._encode_chunk(text, 0)
        starts = range(0, len(text), _CHUNK)
        # NumPy releases the interpreter while it looks ids up: two threads are 1.6 times as fast.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate(
                list(pool.map(lambda at: self._encode_chunk(text[at : at + _CHUNK], at), starts))
            )

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        row = as_row(ids)
        # NumPy would clip an id below zero, or one that wrapped, to 0.
        if row.dtype.kind == "i" or row.itemsize == 8:
            self._check_range(row)
        chunks = (row[at : at + _CHUNK] for at in range(0, len(row), _CHUNK))
        try:
            return "".join(
                self._code_points.take(chunk, mode="clip").tobytes().decode("utf-32-le")
                for chunk in chunks
            )
        except UnicodeDecodeError:
            # Not only characters: join all bytes, so that those of one character meet.
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
        """A BPE model without merges: each character is its own token, or else its bytes."""
        return tokenizer_document(
            self,
            normalizer=normalizer_json(self.normalization),
            pre_tokenizer=None,
            decoder={
                "type": "Sequence",
                "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}],
            },
            model=bpe_model(self._tokens) | {"byte_fallback": self._first_byte is not None},
        )

    def _build(self, tokens: list[str]) -> None:
        """Build the lookup tables: code point to id, and id to code point and bytes."""
        self._tokens = tokens
        self.vocab_size = len(tokens)
        characters = np.array([ord(character) for character in self._characters], np.uint32)
        # An id that no text encodes to marks what is not in the vocabulary: that of <|endoftext|>,
        # or the one after the last.
        self._unseen = self.vocab_size if self.end_of_text is None else self.end_of_text
        self._ids = np.full(
            _CODE_POINTS, self._unseen, np.min_scalar_type(max(self._unseen, self.vocab_size - 1))
        )
        self._ids[characters] = np.arange(len(characters))
        # What is no character, or outside the vocabulary and so clipped to the last place, gets a
        # code point that UTF-32 refuses: decoding finds it without a check of its own.
        self._code_points = np.full(self.vocab_size + 1, _CODE_POINTS, np.uint32)
        self._code_points[: len(characters)] = characters
        self._bytes = [character.encode() for character in self._characters]
        if self._first_byte is not None:
            self._bytes += [b"", *(bytes([byte]) for byte in range(256))]
            self._bytes += [b""] * (self.vocab_size - len(self._bytes))
            self._byte_ids = np.arange(self._first_byte, self._first_byte + 256).astype(self.dtype)
        # Each token's bytes, at most four, in one number, and which of the four are used.
        self._utf8 = np.array([int.from_bytes(data, "little") for data in self._bytes], "<u4")
        self._utf8_used = np.array([(1 << 8 * len(data)) // 255 for data in self._bytes], "<u4")

    def _encode_chunk(self, chunk: str, start: int) -> Ids:
        """The ids of a part of a text that begins at character `start`, which errors name."""
        code_points = np.frombuffer(chunk.encode("utf-32-le", "surrogatepass"), np.uint32)
        # Code points are always inside the table; "wrap" only skips NumPy's check, 1.5 times as
        # fast.
        ids = self._ids.take(code_points, mode="wrap")
        unseen = ids == self._unseen
        if unseen.any():
            if self._first_byte is None:
                place = int(unseen.argmax())
                raise TokenizerError(
                    _(
                        "character {start} of the text, {chunk!r}, is not in this "
                        "plain vocabulary; CharTokenizer(text), not "
                        "CharTokenizer.plain(text), would "
                        "write it as bytes"
                    ).format(start=start + place, chunk=chunk[place])
                )
            ids = self._with_bytes(ids, code_points, unseen)
        return ids.astype(self.dtype, copy=False)

    def _with_bytes(
        self, ids: Ids, code_points: NDArray[np.uint32], unseen: NDArray[np.bool_]
    ) -> Ids:
        """`ids` with the ids of its UTF-8 bytes for each unseen character."""
        missing = code_points[unseen]
        text = missing.tobytes().decode("utf-32-le", "surrogatepass")
        utf8 = text.encode("utf-8", "surrogatepass")
        widths = np.ones(len(ids), np.uint8)
        widths[unseen] += (
            (missing >= 0x80).astype(np.uint8) + (missing >= 0x800) + (missing >= 0x10000)
        )
        widened = np.repeat(ids, widths)
        is_byte = np.repeat(unseen, widths)
        widened[is_byte] = self._byte_ids[np.frombuffer(utf8, np.uint8)]
        return widened


def _is_surrogate(character: str) -> bool:
    if len(character) != 1:
        raise TokenizerError(
            _("a character tokenizer takes single characters, not {character!r}").format(
                character=character
            )
        )
    return "\ud800" <= character <= "\udfff"
