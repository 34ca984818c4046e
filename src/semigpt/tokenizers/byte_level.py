"""Tokenizers whose alphabet is the 256 bytes, so that every text encodes: bytes, byte-level BPE,
Unigram.

Ids 0 to 255 are the bytes, then come the tokens that were learned, then the special tokens. In
`tokenizer.json` each byte is written as GPT-2's letter for it (Radford and others 2019): printable
bytes stand for themselves, the others for the letters from U+0100 on.
"""

from __future__ import annotations

import json
import os
import re
import threading
import unicodedata
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import TokenizerError
from semigpt.language import _
from semigpt.native import tokenize as native
from semigpt.tokenizers.base import (
    END_OF_TEXT,
    Ids,
    Kind,
    Normalization,
    Tokenizer,
    as_row,
    batches,
    bpe_model,
    check_special_tokens,
    normalization_of,
    normalizer_json,
    read_utf8,
    special_tokens_of,
    tokenizer_document,
)
from semigpt.tokenizers.bpe_trainer import BYTES, learn_merges
from semigpt.tokenizers.unigram_trainer import learn_pieces
from semigpt.tokenizers.words import count_words

if TYPE_CHECKING:
    import tokenizers

__all__ = [
    "BYTE_LEVEL",
    "BPETokenizer",
    "ByteLevelTokenizer",
    "ByteTokenizer",
    "UnigramTokenizer",
    "WordTokenizer",
    "byte_letters",
    "reserved_tokens",
]

BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
LARGEST_VOCABULARY = 8 << 20  # bytes of all tokens; 200,000 of a public one have 1.5 MB
LARGEST_SCORE = 1_000_000  # log-probabilities are summed over a word, in double precision
_SURROGATES = re.compile("([\ud800-\udfff]+)")


@cache
def byte_letters() -> tuple[str, ...]:
    """GPT-2's letter for each byte, by which `tokenizer.json` spells bytes."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in shown else next(others)) for byte in range(256))


class ByteLevelTokenizer(Tokenizer):
    """A tokenizer over bytes, encoded by the `tokenizers` library.

    Args:
        tokens: The bytes of each token that is not special, the 256 single bytes first.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        normalization: Normalization | None,
        special_tokens: Sequence[str],
    ) -> None:
        check_special_tokens([END_OF_TEXT, *special_tokens])
        self._tokens = [*tokens, *[b""] * (1 + len(special_tokens))]
        self.normalization = normalization
        self.special_tokens = {
            spelling: len(tokens) + i for i, spelling in enumerate([END_OF_TEXT, *special_tokens])
        }
        self.vocab_size = len(self._tokens)

    @abstractmethod
    def _model_json(self) -> dict[str, Any]:
        """The `model` of `tokenizer.json`."""

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`."""
        if self.normalization is not None:
            text = unicodedata.normalize(self.normalization, text)
        # The library takes no lone surrogates: they become single bytes, and it encodes what lies
        # between.
        parts = _SURROGATES.split(text)
        ids = [
            part.encode("utf-8", "surrogatepass") if i % 2 else self._engine.encode(part).ids
            for i, part in enumerate(parts)
        ]
        return np.fromiter(chain.from_iterable(ids), self.dtype)

    def encode_documents(self, documents: Iterable[str]) -> Iterator[Ids]:
        """See `Tokenizer.encode_documents`.

        Documents are encoded on every core, in batches of 65,000 characters (larger ones make the
        cores wait longer for each other), at most as many batches ahead as there are threads.
        """
        threads = self._threads()
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[list[Ids]]] = deque()
            for batch in batches(documents):
                waiting.append(pool.submit(self.encode_batch, batch))
                if len(waiting) > threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _threads(self) -> int:
        """Two: the library spreads a batch over the cores, and a second batch fills the time in
        which Python turns the ids of the first into an array."""
        return 2

    def encode_batch(self, documents: Sequence[str]) -> list[Ids]:
        """See `Tokenizer.encode_batch`."""
        batch = list(documents)
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
        return self._tokens[token_id]

    def tokenizer_json(self) -> dict[str, Any]:
        """See `Tokenizer.tokenizer_json`."""
        return tokenizer_document(
            self,
            normalizer=normalizer_json(self.normalization),
            pre_tokenizer=BYTE_LEVEL,
            decoder=BYTE_LEVEL,
            model=self._model_json(),
        )

    @cached_property
    def _engine(self) -> tokenizers.Tokenizer:
        """The library's tokenizer without special tokens, which ordinary text must never become."""
        from tokenizers import Tokenizer as Engine

        bare: dict[str, Any] = {"added_tokens": [], "normalizer": None, "post_processor": None}
        return Engine.from_str(json.dumps(self.tokenizer_json() | bare))

    def _spelled(self) -> list[str]:
        """Each token in GPT-2's letters."""
        letters = byte_letters()
        return ["".join(letters[byte] for byte in token) for token in self._tokens if token]


@final
class ByteTokenizer(ByteLevelTokenizer):
    """One token a byte of UTF-8; nothing is learned."""

    kind: ClassVar[Kind] = "byte"

    def __init__(
        self, *, normalization: Normalization | None = None, special_tokens: Sequence[str] = ()
    ) -> None:
        super().__init__([bytes([byte]) for byte in range(256)], normalization, special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        return cls(
            normalization=normalization_of(document["normalizer"]),
            special_tokens=special_tokens_of(document),
        )

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`."""
        if self.normalization is not None:
            text = unicodedata.normalize(self.normalization, text)
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(self.dtype)

    def encode_batch(self, documents: Sequence[str]) -> list[Ids]:
        """See `Tokenizer.encode_batch`."""
        return Tokenizer.encode_batch(self, documents)

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
        return super().tokenizer_json() | {"pre_tokenizer": BYTE_LEVEL | {"use_regex": False}}

    def _model_json(self) -> dict[str, Any]:
        return bpe_model(self._spelled())


class WordTokenizer(ByteLevelTokenizer):
    """A tokenizer that encodes each of GPT-2's words by itself.

    tokenize.c does it where there is a compiler, with the library's ids.
    """

    @abstractmethod
    def _new_encoder(self) -> native.Encoder:
        """An encoder for the thread that asks."""

    def encode_batch(self, documents: Sequence[str]) -> list[Ids]:
        """See `Tokenizer.encode_batch`. It keeps to one core where there is a compiler."""
        if not native.available():
            return super().encode_batch(documents)
        encoder = getattr(self._own, "encoder", None)
        if encoder is None:
            encoder = self._own.encoder = self._new_encoder()
        if self.normalization is not None:
            documents = [unicodedata.normalize(self.normalization, text) for text in documents]
        end_of_text = np.array([self.end_of_text], self.dtype)
        found = []
        for text in documents:
            try:
                ids = encoder(text)
            except UnicodeEncodeError:  # lone surrogates; to search for them takes a fifth as long
                ids = self.encode(text)
            found.append(np.concatenate((ids.astype(self.dtype, copy=False), end_of_text)))
        return found

    def _threads(self) -> int:
        """The C keeps to one core; past eight threads Python, which is the rest, is no faster."""
        return min(max(os.cpu_count() or 1, 2), 8) if native.available() else super()._threads()

    @cached_property
    def _own(self) -> threading.local:
        """What belongs to each thread: an encoder."""
        return threading.local()

    def __getstate__(self) -> dict[str, Any]:
        """Without the encoders, so that a tokenizer can be copied and sent to other processes."""
        return {name: value for name, value in vars(self).items() if name != "_own"}


@final
class BPETokenizer(WordTokenizer):
    """Byte-level BPE with GPT-2's words (llama.cpp's pre-tokenizer `gpt-2`).

    Merge i of `merges`, a pair of ids, makes the token 256 + i. Raises TokenizerError where the
    tokens would be too long: each merge may double one.
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
        tokens = [bytes([byte]) for byte in range(256)]
        length = 256
        for left, right in self.merges:
            length += len(tokens[left]) + len(tokens[right])
            if length > LARGEST_VOCABULARY:
                raise TokenizerError(
                    _("its merges make tokens of more than {largest_vocabulary} MiB").format(
                        largest_vocabulary=LARGEST_VOCABULARY >> 20
                    )
                )
            tokens.append(tokens[left] + tokens[right])
        super().__init__(tokens, normalization, special_tokens)

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
        """Learn merges until the vocabulary, special tokens included, has `vocab_size` tokens.

        Fewer where no pair is left that occurs `min_count` times. Raises TokenizerError for a size
        that the bytes alone exceed.
        """
        num_merges = vocab_size - reserved_tokens(vocab_size, special_tokens)
        counts = count_words(documents, normalization)
        words = {
            word.encode("utf-8", "surrogatepass").decode("latin-1"): count
            for word, count in counts.items()
        }
        learnt = learn_merges(words, BYTES, most=num_merges, min_count=min_count)
        return cls(
            [(left, right) for left, right, _ in learnt],
            normalization=normalization,
            special_tokens=special_tokens,
        )

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        vocab = document["model"]["vocab"]
        return cls(
            [(vocab[left], vocab[right]) for left, right in document["model"]["merges"]],
            normalization=normalization_of(document["normalizer"]),
            special_tokens=special_tokens_of(document),
        )

    def _new_encoder(self) -> native.Encoder:
        ids = {token: i for i, token in enumerate(self._tokens)}
        merges = [
            (left, right, ids[self._tokens[left] + self._tokens[right]])
            for left, right in self.merges
        ]
        table = np.array(merges, np.int32).reshape(-1, 3)
        return native.bpe_encoder(table, character_classes())

    def _model_json(self) -> dict[str, Any]:
        spelled = self._spelled()
        return bpe_model(spelled, [(spelled[left], spelled[right]) for left, right in self.merges])


@cache
def character_classes() -> NDArray[np.uint8]:
    """Of every code point: 1 a letter, 2 a numeral, 3 white space, 0 anything else: `[0x110000]`.

    Found with the expressions of the `tokenizers` library, so that they are its classes.
    """
    from tokenizers import Regex, normalizers

    # No plane from the fourth on has letters, numerals or space; asking of all would take 0.7 s.
    points = np.concatenate((np.arange(0xD800), np.arange(0xE000, 0x40000)))
    text = "".join(map(chr, points.tolist()))
    classes = np.zeros(0x110000, np.uint8)
    for number, expression in enumerate((r"\p{L}", r"\p{N}", r"\s"), start=1):
        marked = normalizers.Replace(Regex(expression), "\0").normalize_str(text)
        classes[points[np.frombuffer(marked.encode("utf-32-le"), np.uint32) != points]] = number
    return classes


@final
class UnigramTokenizer(WordTokenizer):
    """A Unigram language model over bytes (Kudo 2018, arXiv:1804.10959).

    Of all ways to cut a word into pieces, it takes the one of the highest probability. `scores` is
    the log-probability of each piece; the 256 single bytes must be among them. Raises
    TokenizerError for a score whose sums might not be finite.
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
        for piece, score in self.scores.items():
            if not abs(score) <= LARGEST_SCORE:
                raise TokenizerError(
                    _(
                        "the score of piece {piece!r} must be finite and at most {largest_score:,} "
                        "in size, not {score}"
                    ).format(piece=piece, largest_score=LARGEST_SCORE, score=score)
                )
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
        """Learn at most `vocab_size` tokens, special tokens included.

        Fewer where the text has no more substrings that occur twice and are worth a token. Raises
        TokenizerError for a size that the bytes alone exceed.
        """
        num_pieces = vocab_size - reserved_tokens(vocab_size, special_tokens)
        words = count_words((_SURROGATES.sub("", text) for text in documents), normalization)
        scores = learn_pieces(words, num_pieces)
        return cls(scores, normalization=normalization, special_tokens=special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        return cls(
            _scores(document["model"]["vocab"]),
            normalization=normalization_of(document["normalizer"]),
            special_tokens=special_tokens_of(document),
        )

    def _new_encoder(self) -> native.Encoder:
        scores = np.array(list(self.scores.values()), np.float64)
        return native.unigram_encoder(list(self.scores), scores, character_classes())

    def _model_json(self) -> dict[str, Any]:
        vocab = [list(entry) for entry in zip(self._spelled(), self.scores.values(), strict=True)]
        return {"type": "Unigram", "unk_id": None, "vocab": vocab, "byte_fallback": False}


def reserved_tokens(vocab_size: int, special_tokens: Sequence[str]) -> int:
    """How many tokens the bytes and the special tokens take.

    Raises TokenizerError where that is more than `vocab_size`.
    """
    taken = 256 + 1 + len(special_tokens)
    if vocab_size < taken:
        raise TokenizerError(
            _(
                "a vocabulary of {vocab_size} is too small: "
                "bytes and special tokens alone need {taken}"
            ).format(vocab_size=vocab_size, taken=taken)
        )
    return taken


def _scores(vocab: Iterable[tuple[str, float]]) -> dict[bytes, float]:
    """The log-probability of each piece's bytes, from the spelled `vocab` of `tokenizer.json`."""
    byte_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    return {bytes(byte_of[letter] for letter in spelled): score for spelled, score in vocab}
