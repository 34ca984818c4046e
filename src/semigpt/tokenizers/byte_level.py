"""Tokenizers whose alphabet is the 256 bytes, so that no text is outside them: bytes, byte-level BPE and
Unigram.

Ids 0 to 255 are the bytes themselves, what was learnt comes behind them, special tokens are last. In
`tokenizer.json` each byte is written as GPT-2's letter for it (Radford and others 2019): printable ones
stand for themselves, the others for the letters from U+0100 on.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import threading
import unicodedata
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import TokenizerError
from semigpt.native import compiler
from semigpt.native.compiler import NativeUnavailableError, compiled
from semigpt.tokenizers.base import (
    END_OF_TEXT,
    Ids,
    Kind,
    Normalization,
    Tokenizer,
    added_token,
    as_row,
    batches,
    check_special_tokens,
    read_utf8,
)
from semigpt.tokenizers.bpe_trainer import learn_merges
from semigpt.tokenizers.unigram_trainer import learn_pieces

if TYPE_CHECKING:
    import tokenizers

__all__ = [
    "BPETokenizer",
    "ByteLevelTokenizer",
    "ByteTokenizer",
    "UnigramTokenizer",
    "WordTokenizer",
    "byte_letters",
]

_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
_SURROGATES = re.compile("([\ud800-\udfff]+)")

# GPT-2's words: a word, a number or a run of signs, each with the space before it, and runs of white space.
# Python's `re` has no \p{L} and \p{N}, so numerals that are not digits (², Ⅷ) count as letters here: 17 of
# nsmc's 390,000 distinct words differ. It only decides what is learnt; encoding uses the exact
# expression of the `tokenizers` library.
_WORDS = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


@cache
def byte_letters() -> tuple[str, ...]:
    """GPT-2's letter for each byte, by which `tokenizer.json` spells bytes."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in shown else next(others)) for byte in range(256))


class ByteLevelTokenizer(Tokenizer):
    """A tokenizer over bytes, encoded by the `tokenizers` library.

    `pieces` are the bytes of each token that is not special, the 256 single bytes first.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        normalization: Normalization | None,
        special_tokens: Sequence[str],
    ) -> None:
        check_special_tokens([END_OF_TEXT, *special_tokens])
        self._pieces = [*pieces, *[b""] * (1 + len(special_tokens))]
        self.normalization = normalization
        self.special_tokens = {
            spelling: len(pieces) + i for i, spelling in enumerate([END_OF_TEXT, *special_tokens])
        }
        self.vocab_size = len(self._pieces)

    @abstractmethod
    def _model_json(self) -> dict[str, Any]:
        """The `model` of `tokenizer.json`."""

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`."""
        if self.normalization is not None:
            text = unicodedata.normalize(self.normalization, text)
        # The library takes no lone surrogates: what lies between them goes to it, they become single bytes.
        parts = _SURROGATES.split(text)
        ids = [
            part.encode("utf-8", "surrogatepass") if i % 2 else self._engine.encode(part).ids
            for i, part in enumerate(parts)
        ]
        return np.fromiter(chain.from_iterable(ids), self.dtype)

    def encode_documents(self, documents: Iterable[str]) -> Iterator[Ids]:
        """See `Tokenizer.encode_documents`. Documents are encoded on every core, 65,000 characters at a time (with more
        the cores wait longer for each other), at most as many batches ahead of what is asked for as there are threads."""
        threads = self._threads()
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[list[Ids]]] = deque()
            for batch in batches(documents, 1 << 16):
                waiting.append(pool.submit(self._encode_batch, batch))
                if len(waiting) > threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _threads(self) -> int:
        """The library spreads a batch over the cores; a second batch fills the time in which Python, on one core, turns the
        first one's ids into an array."""
        return 2

    def _encode_batch(self, batch: list[str]) -> list[Ids]:
        """The ids of each document, with <|endoftext|> behind them."""
        if self.normalization is not None:
            batch = [unicodedata.normalize(self.normalization, text) for text in batch]
        encodings = self._engine.encode_batch_fast([_SURROGATES.sub("", text) for text in batch])
        return [
            np.array(
                [
                    *(self.encode(text) if _SURROGATES.search(text) else encoding.ids),
                    self.end_of_text,
                ],
                self.dtype,
            )
            for text, encoding in zip(batch, encodings, strict=True)
        ]

    def token_bytes(self, token_id: int) -> bytes:
        return self._pieces[token_id]

    def tokenizer_json(self) -> dict[str, Any]:
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                added_token(spelling, i) for spelling, i in self.special_tokens.items()
            ],
            "normalizer": None if self.normalization is None else {"type": self.normalization},
            "pre_tokenizer": _BYTE_LEVEL,
            "post_processor": None,
            "decoder": _BYTE_LEVEL,
            "model": self._model_json(),
        }

    @cached_property
    def _engine(self) -> tokenizers.Tokenizer:
        """The library's tokenizer without special tokens, which ordinary text must never become."""
        from tokenizers import Tokenizer as Engine

        return Engine.from_str(
            json.dumps(self.tokenizer_json() | {"added_tokens": [], "normalizer": None})
        )

    def _spelled(self) -> list[str]:
        """Each piece in GPT-2's letters."""
        letters = byte_letters()
        return ["".join(letters[byte] for byte in piece) for piece in self._pieces if piece]


@final
class ByteTokenizer(ByteLevelTokenizer):
    """One token a byte of UTF-8, and nothing to train."""

    kind: ClassVar[Kind] = "byte"

    def __init__(
        self, *, normalization: Normalization | None = None, special_tokens: Sequence[str] = ()
    ) -> None:
        super().__init__([bytes([byte]) for byte in range(256)], normalization, special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        return cls(
            normalization=normalization_of(document), special_tokens=special_tokens_of(document)
        )

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`."""
        if self.normalization is not None:
            text = unicodedata.normalize(self.normalization, text)
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(self.dtype)

    def encode_documents(self, documents: Iterable[str]) -> Iterator[Ids]:
        """See `Tokenizer.encode_documents`."""
        return Tokenizer.encode_documents(self, documents)

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        row = as_row(ids)
        self._check_range(row)
        return read_utf8(row[row < 256].astype(np.uint8).tobytes(), final=True)[0]

    def tokenizer_json(self) -> dict[str, Any]:
        """See `Tokenizer.tokenizer_json`."""
        return super().tokenizer_json() | {"pre_tokenizer": _BYTE_LEVEL | {"use_regex": False}}

    def _model_json(self) -> dict[str, Any]:
        return bpe_model_json(self._spelled(), [])


class WordTokenizer(ByteLevelTokenizer):
    """A tokenizer that cuts each of GPT-2's words by itself: by `bpe.c` where there is a compiler, with the same ids."""

    @abstractmethod
    def _encoder(self, library: ctypes.CDLL) -> _Encoder:
        """One for the thread that asks."""

    def _encode_batch(self, batch: list[str]) -> list[Ids]:
        library = library_or_none()
        if library is None:
            return super()._encode_batch(batch)
        encoder = getattr(self._own, "encoder", None)
        if encoder is None:
            encoder = self._own.encoder = self._encoder(library)
        if self.normalization is not None:
            batch = [unicodedata.normalize(self.normalization, text) for text in batch]
        end_of_text = np.array([self.end_of_text], self.dtype)
        return [
            np.concatenate(
                (
                    self.encode(text)
                    if _SURROGATES.search(text)
                    else encoder(text).astype(self.dtype),
                    end_of_text,
                )
            )
            for text in batch
        ]

    def _threads(self) -> int:
        """The C keeps to one core; past eight the rest, which is Python, is no faster."""
        return min(max(os.cpu_count() or 1, 2), 8) if library_or_none() else super()._threads()

    @cached_property
    def _own(self) -> threading.local:
        """What each thread has of its own: an encoder."""
        return threading.local()

    def __getstate__(self) -> dict[str, Any]:
        """Without the encoders, which belong to their threads: a tokenizer may be copied and sent to other processes."""
        return {name: value for name, value in vars(self).items() if name != "_own"}


@final
class BPETokenizer(WordTokenizer):
    """Byte-level BPE with GPT-2's words, as GPT-2 and all that followed it; llama.cpp calls its words
    `gpt-2`.

    Merge i of `merges`, a pair of ids, makes the token 256 + i.
    """

    kind: ClassVar[Kind] = "bpe"

    def __init__(
        self,
        merges: Iterable[tuple[int, int]],
        *,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> None:
        self.merges = list(merges)
        pieces = [bytes([byte]) for byte in range(256)]
        for left, right in self.merges:
            pieces.append(pieces[left] + pieces[right])
        super().__init__(pieces, normalization, special_tokens)

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        *,
        vocab_size: int = 8000,
        min_count: int = 1,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> Self:
        """Learn merges until the vocabulary, special tokens included, has `vocab_size` tokens, or no pair is
        left that occurs `min_count` times. Raises TokenizerError for a size without room for the bytes."""
        num_merges = vocab_size - room_for_bytes(vocab_size, special_tokens)
        counts = _count_words(documents, normalization)
        words = {word.encode("utf-8", "surrogatepass"): count for word, count in counts.items()}
        merges = learn_merges(words, num_merges, min_count=min_count)
        return cls(merges, normalization=normalization, special_tokens=special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        vocab = document["model"]["vocab"]
        return cls(
            [(vocab[left], vocab[right]) for left, right in document["model"]["merges"]],
            normalization=normalization_of(document),
            special_tokens=special_tokens_of(document),
        )

    def _encoder(self, library: ctypes.CDLL) -> _Encoder:
        ids = {piece: i for i, piece in enumerate(self._pieces)}
        made = [
            (left, right, ids[self._pieces[left] + self._pieces[right]])
            for left, right in self.merges
        ]
        table = np.array(made, np.int32).reshape(-1, 3)
        return _Encoder(library, library.semigpt_bpe_new, len(table), table.ctypes.data)

    def _model_json(self) -> dict[str, Any]:
        spelled = self._spelled()
        return bpe_model_json(
            spelled, [[spelled[left], spelled[right]] for left, right in self.merges]
        )


class _Encoder:
    """`bpe.c`, for one thread: a text of no lone surrogates to its ids. `new` makes it of `arguments`."""

    def __init__(
        self, library: ctypes.CDLL, new: Callable[..., int | None], *arguments: Any
    ) -> None:
        self._classes = character_classes()
        self._library = library
        self._encoder = new(*arguments, self._classes.ctypes.data)
        if not self._encoder:
            raise MemoryError

    def __call__(self, text: str) -> NDArray[np.uint32]:
        coded = text.encode()
        ids = np.empty(len(coded), np.uint32)
        count = self._library.semigpt_bpe_encode(self._encoder, coded, len(coded), ids.ctypes.data)
        if count < 0:
            raise MemoryError
        return ids[:count]

    def __del__(self) -> None:
        self._library.semigpt_bpe_free(self._encoder)


@cache
def library_or_none(*defines: str) -> ctypes.CDLL | None:
    """bpe.c; None where it cannot be compiled, and the `tokenizers` library does it all."""
    try:
        loaded = compiled(Path(compiler.__file__).with_name("tokenize.c"), *defines)
    except NativeUnavailableError:
        return None
    p, n = ctypes.c_void_p, ctypes.c_int64
    text = ctypes.c_char_p
    for name, arguments, result in (
        ("bpe_new", (n, p, p), p),
        ("unigram_new", (n, text, p, p, p), p),
        ("bpe_encode", (p, text, n, p), n),
        ("bpe_free", (p,), None),
    ):
        function = getattr(loaded, f"semigpt_{name}")
        function.argtypes, function.restype = arguments, result
    return loaded


@cache
def character_classes() -> NDArray[np.uint8]:
    """Of every code point: 1 a letter, 2 a numeral, 3 white space, 0 anything else, by the very expressions of the `tokenizers`
    library."""
    from tokenizers import Regex, normalizers

    # No plane from the fourth on has letters, numerals or space, and to ask of all would take 0.7 s.
    points = np.concatenate((np.arange(0xD800), np.arange(0xE000, 0x40000)))
    text = "".join(map(chr, points.tolist()))
    classes = np.zeros(0x110000, np.uint8)
    for number, expression in enumerate((r"\p{L}", r"\p{N}", r"\s"), start=1):
        marked = normalizers.Replace(Regex(expression), "\0").normalize_str(text)
        classes[points[np.frombuffer(marked.encode("utf-32-le"), np.uint32) != points]] = number
    return classes


@final
class UnigramTokenizer(WordTokenizer):
    """A Unigram language model over bytes (Kudo 2018, arXiv:1804.10959): of all ways to cut a word into
    pieces, that of the highest probability.

    `scores` is the log-probability of each piece; the 256 single bytes must be among them.
    """

    kind: ClassVar[Kind] = "unigram"

    def __init__(
        self,
        scores: Mapping[bytes, float],
        *,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> None:
        single = [bytes([byte]) for byte in range(256)]
        pieces = [*single, *(piece for piece in scores if len(piece) > 1)]
        self.scores = {piece: scores[piece] for piece in pieces}
        super().__init__(pieces, normalization, special_tokens)

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        *,
        vocab_size: int = 8000,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> Self:
        """Learn at most `vocab_size` tokens, special tokens included: fewer where the text has no more substrings that
        come twice and are worth a token. Raises TokenizerError for a size without room for the bytes."""
        num_pieces = vocab_size - room_for_bytes(vocab_size, special_tokens)
        words = _count_words((_SURROGATES.sub("", text) for text in documents), normalization)
        scores = learn_pieces(words, num_pieces)
        return cls(scores, normalization=normalization, special_tokens=special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        return cls(
            _scores(document["model"]["vocab"]),
            normalization=normalization_of(document),
            special_tokens=special_tokens_of(document),
        )

    def _encoder(self, library: ctypes.CDLL) -> _Encoder:
        pieces, scores = b"".join(self.scores), np.array(list(self.scores.values()), np.float64)
        ends = np.cumsum([len(piece) for piece in self.scores], dtype=np.int64)
        new = library.semigpt_unigram_new
        return _Encoder(library, new, len(ends), pieces, ends.ctypes.data, scores.ctypes.data)

    def _model_json(self) -> dict[str, Any]:
        vocab = [list(entry) for entry in zip(self._spelled(), self.scores.values(), strict=True)]
        return {"type": "Unigram", "unk_id": None, "vocab": vocab, "byte_fallback": False}


def _count_words(documents: Iterable[str], normalization: Normalization | None) -> Counter[str]:
    """How often each of GPT-2's words occurs."""
    counts: Counter[str] = Counter()
    for text in documents:
        counts.update(
            _WORDS.findall(unicodedata.normalize(normalization, text) if normalization else text)
        )
    return counts


def bpe_model_json(spelled: Sequence[str], merges: list[list[str]]) -> dict[str, Any]:
    """A BPE model of these tokens, by id, for `tokenizer.json`."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(spelled)},
        "merges": merges,
    }


def room_for_bytes(vocab_size: int, special_tokens: Sequence[str]) -> int:
    """How many tokens bytes and special tokens take; TokenizerError if `vocab_size` has no room for them."""
    taken = 256 + 1 + len(special_tokens)
    if vocab_size < taken:
        raise TokenizerError(
            f"a vocabulary of {vocab_size} is too small: bytes and special tokens alone need {taken}"
        )
    return taken


def normalization_of(document: Mapping[str, Any]) -> Normalization | None:
    """The normalization that a `tokenizer.json` asks for."""
    return "NFC" if document["normalizer"] == {"type": "NFC"} else None


def special_tokens_of(document: Mapping[str, Any]) -> list[str]:
    """The special tokens of a `tokenizer.json` besides <|endoftext|>."""
    return [
        token["content"] for token in document["added_tokens"] if token["content"] != END_OF_TEXT
    ]


def _scores(vocab: Iterable[tuple[str, float]]) -> dict[bytes, float]:
    """Unigram's list of spelled pieces and their log-probabilities, by bytes."""
    byte_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    return {bytes(byte_of[letter] for letter in spelled): score for spelled, score in vocab}
