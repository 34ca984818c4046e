"""Hangul syllables as the letters they are made of.

Unicode orders the 11,172 syllables by arithmetic (The Unicode Standard, 3.12, "Conjoining Jamo
Behavior"): 19 initials, 21 vowels, and none or one of 27 finals. Here a syllable is two or three
tokens, one a letter, composed again on decoding.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
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
    StreamDecoder,
    Tokenizer,
    as_row,
    bpe_model,
    check_special_tokens,
    normalization_of,
    normalizer_json,
    read_utf8,
    special_tokens_of,
    tokenizer_document,
)
from semigpt.tokenizers.byte_level import BYTE_LEVEL, byte_letters

__all__ = ["JamoTokenizer"]

_INITIALS, _VOWELS, _FINALS = 19, 21, 27
_FIRST_SYLLABLE, _NUM_SYLLABLES = 0xAC00, _INITIALS * _VOWELS * (_FINALS + 1)
_JAMO = [
    *(chr(0x1100 + i) for i in range(_INITIALS)),
    *(chr(0x1161 + i) for i in range(_VOWELS)),
    *(chr(0x11A8 + i) for i in range(_FINALS)),
]
# The ids: first the bytes, then the letters, then the other characters.
_INITIAL = 256
_VOWEL = _INITIAL + _INITIALS
_FINAL = _VOWEL + _VOWELS
_OTHERS = _FINAL + _FINALS
_CODE_POINTS = 0x110000
_CHUNK = 1 << 16


@final
class JamoTokenizer(Tokenizer):
    """A syllable as two or three letters; any other character as its own token or as bytes.

    Ids 0 to 255 are the bytes (ASCII has its tokens there). Then come 19 initials, 21 vowels, 27
    finals, those of `characters` that are not syllables in code point order, <|endoftext|> and
    `special_tokens`. Other characters are written as bytes.

    Letter tokens stand for parts of whole syllables alone. Conjoining letters by themselves, as in
    decomposed text (NFD), are written as bytes and come back as they were; `normalization="NFC"`
    composes them first.
    """

    kind: ClassVar[Kind] = "jamo"

    def __init__(
        self,
        characters: Iterable[str] = (),
        *,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> None:
        if isinstance(characters, str) and normalization is not None:
            characters = unicodedata.normalize(normalization, characters)
        check_special_tokens([END_OF_TEXT, *special_tokens])
        self._characters = sorted(c for c in set(characters) if _has_own_token(c))
        self.normalization = normalization
        first_special = _OTHERS + len(self._characters)
        self.special_tokens = {
            token: first_special + i for i, token in enumerate([END_OF_TEXT, *special_tokens])
        }
        self.vocab_size = first_special + len(self.special_tokens)
        self._bytes = [bytes([byte]) for byte in range(256)]
        self._bytes += [character.encode() for character in (*_JAMO, *self._characters)]
        self._bytes += [b""] * len(self.special_tokens)
        # Each token's bytes, at most four, in one number, and which of the four are used.
        self._utf8 = np.array([int.from_bytes(data, "little") for data in self._bytes], "<u4")
        self._utf8_used = np.array([(1 << 8 * len(data)) // 255 for data in self._bytes], "<u4")
        self._ids, self._widths = self._encoding_tables()

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
        """A tokenizer of the characters other than syllables with `counts` of at least `min_count`.

        `max_vocab_size` bounds the whole vocabulary: the most frequent characters stay. Raises
        TokenizerError where bytes and letters alone do not fit.
        """
        frequent = [c for c, count in counts.items() if count >= min_count and _has_own_token(c)]
        if max_vocab_size is not None:
            taken = _OTHERS + 1 + len(special_tokens)
            if max_vocab_size < taken:
                raise TokenizerError(
                    _(
                        "a vocabulary of {max_vocab_size} is too small: "
                        "bytes, letters and special tokens need {taken}"
                    ).format(max_vocab_size=max_vocab_size, taken=taken)
                )
            frequent = sorted(frequent, key=lambda c: (-counts[c], c))[: max_vocab_size - taken]
        return cls(frequent, normalization=normalization, special_tokens=special_tokens)

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        byte_of = {letter: byte for byte, letter in enumerate(byte_letters())}
        normalizers = document["normalizer"]["normalizers"]
        spelled = [token for token in document["model"]["vocab"] if len(token) > 1]
        return cls(
            [bytes(byte_of[letter] for letter in token).decode() for token in spelled],
            normalization=normalization_of(normalizers[0]),
            special_tokens=special_tokens_of(document),
        )

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`."""
        if self.normalization is not None:
            text = unicodedata.normalize(self.normalization, text)
        chunks = [self._encode_chunk(text[at : at + _CHUNK]) for at in range(0, len(text), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.array([], self.dtype)

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`. Letters that make a syllable are composed; others stay."""
        row = as_row(ids)
        self._check_range(row)
        return read_utf8(self._composed(row), final=True)[0]

    def stream(self) -> StreamDecoder:
        """See `Tokenizer.stream`. A syllable comes out once no letter can be added to it."""
        return _JamoStream(self)

    def token_bytes(self, token_id: int) -> bytes:
        """See `Tokenizer.token_bytes`.

        A letter's bytes are those of its conjoining form: those of a syllable's letters, joined,
        are the syllable decomposed.
        """
        return self._bytes[token_id]

    def tokenizer_json(self) -> dict[str, Any]:
        """See `Tokenizer.tokenizer_json`.

        The library has no arithmetic, so text is first spelled in byte letters, in which each
        syllable is then replaced by its jamo: those are then other characters than jamo in the
        text. With 11,172 replacements loading takes 0.1 s, encoding 0.04 ms a character. `encode`
        does not go that way.
        """
        syllables = _syllables()
        letters = dict(zip(_JAMO, map(_spelled, _JAMO), strict=True))
        nfc = normalizer_json(self.normalization)
        vocab = [*byte_letters(), *_JAMO, *map(_spelled, self._characters)]
        return tokenizer_document(
            self,
            normalizer={
                "type": "Sequence",
                "normalizers": [
                    *([] if nfc is None else [nfc]),
                    {"type": "ByteLevel"},
                    *(_replace(spelled, jamo) for jamo, spelled in syllables.items()),
                ],
            },
            # Isolates each character of more than one byte, which `ignore_merges` then finds whole.
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "[Â-ô][¡-¬®-¿Ģ-Ń]+"},
                "behavior": "Isolated",
                "invert": False,
            },
            decoder={
                "type": "Sequence",
                "decoders": [
                    {"type": "Fuse"},
                    *(_replace(jamo, spelled) for jamo, spelled in (syllables | letters).items()),
                    BYTE_LEVEL | {"use_regex": False},
                ],
            },
            model=bpe_model(vocab) | {"ignore_merges": True},
        )

    def _encoding_tables(self) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """For each code point its ids, up to four, and how many there are."""
        code_points = np.arange(_CODE_POINTS, dtype=np.uint32)
        widths = np.ones(_CODE_POINTS, np.uint8)
        for first_wider in (0x80, 0x800, 0x10000):
            widths[first_wider:] += 1
        ids = np.zeros((_CODE_POINTS, 4), self.dtype)
        text = code_points.tobytes().decode("utf-32-le", "surrogatepass")
        utf8 = text.encode("utf-8", "surrogatepass")
        ids[np.arange(4) < widths[:, None]] = np.frombuffer(utf8, np.uint8)

        index = np.arange(_NUM_SYLLABLES)
        last = _FIRST_SYLLABLE + _NUM_SYLLABLES
        final = index % (_FINALS + 1)
        ids[_FIRST_SYLLABLE:last, 0] = _INITIAL + index // (_VOWELS * (_FINALS + 1))
        ids[_FIRST_SYLLABLE:last, 1] = _VOWEL + index // (_FINALS + 1) % _VOWELS
        ids[_FIRST_SYLLABLE:last, 2] = _FINAL + final - 1
        widths[_FIRST_SYLLABLE:last] = np.where(final == 0, 2, 3)

        characters = [ord(character) for character in self._characters]
        ids[characters, 0] = np.arange(_OTHERS, _OTHERS + len(characters))
        widths[characters] = 1
        return ids, widths

    def _encode_chunk(self, chunk: str) -> Ids:
        code_points = np.frombuffer(chunk.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = self._ids[code_points]
        return ids[np.arange(4) < self._widths[code_points][:, None]]

    def _composed(self, row: NDArray[np.integer[Any]]) -> bytes:
        """The UTF-8 bytes of `row`, with the letters of a syllable composed."""
        utf8, used = self._utf8.take(row), self._utf8_used.take(row)
        padded = np.concatenate([row.astype(np.int64), [0, 0]])
        initial = padded[:-2] - _INITIAL
        vowel, last = padded[1:-1] - _VOWEL, padded[2:] - _FINAL
        opens = (initial >= 0) & (initial < _INITIALS) & (vowel >= 0) & (vowel < _VOWELS)
        closed = opens & (last >= 0) & (last < _FINALS)
        syllable = (initial * _VOWELS + vowel) * (_FINALS + 1) + np.where(closed, last + 1, 0)
        start = np.flatnonzero(opens)
        utf8[start] = _syllable_utf8()[syllable[start]]
        used[start] = 0x010101
        used[start + 1] = 0
        used[np.flatnonzero(closed) + 2] = 0
        return utf8.view(np.uint8)[used.view(np.bool_)].tobytes()


class _JamoStream(StreamDecoder):
    """Holds back the letters of a syllable that the next one may still complete."""

    def __init__(self, tokenizer: JamoTokenizer) -> None:
        super().__init__(tokenizer)
        self._composed = tokenizer._composed
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        if len(self._held) == 1 and _VOWEL <= token_id < _FINAL:
            self._held.append(token_id)
            return ""
        done, self._held = self._held, []
        if _INITIAL <= token_id < _VOWEL:
            self._held = [token_id]
        else:
            done = [*done, token_id]  # a final that completes the syllable, or what comes after it
        return self._read(done, final=False)

    def finish(self) -> str:
        done, self._held = self._held, []
        return self._read(done, final=True)

    def _read(self, ids: list[int], *, final: bool) -> str:
        data = self._pending + self._composed(np.array(ids, np.int64))
        text, self._pending = read_utf8(data, final=final)
        return text


def _has_own_token(character: str) -> bool:
    """Whether a character can have a token: not syllables, ASCII, conjoining letters,
    surrogates."""
    if len(character) != 1:
        raise TokenizerError(
            _("a jamo tokenizer takes single characters, not {character!r}").format(
                character=character
            )
        )
    return not (
        character < "\x80"
        or "\u1100" <= character <= "\u11ff"
        or _FIRST_SYLLABLE <= ord(character) < _FIRST_SYLLABLE + _NUM_SYLLABLES
        or "\ud800" <= character <= "\udfff"
    )


def _spelled(text: str) -> str:
    """The UTF-8 bytes of `text` in GPT-2's letters."""
    letters = byte_letters()
    return "".join(letters[byte] for byte in text.encode())


def _replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


@cache
def _syllables() -> dict[str, str]:
    """Each syllable's jamo and its bytes in GPT-2's letters; three jamo first, as two may begin
    them."""
    composed = (chr(_FIRST_SYLLABLE + i) for i in range(_NUM_SYLLABLES))
    syllables = {
        unicodedata.normalize("NFD", syllable): _spelled(syllable) for syllable in composed
    }
    return dict(sorted(syllables.items(), key=lambda item: -len(item[0])))


@cache
def _syllable_utf8() -> NDArray[np.uint32]:
    """The three UTF-8 bytes of each syllable, as the low bytes of one number."""
    text = "".join(chr(_FIRST_SYLLABLE + i) for i in range(_NUM_SYLLABLES))
    padded = np.zeros((_NUM_SYLLABLES, 4), np.uint8)
    padded[:, :3] = np.frombuffer(text.encode(), np.uint8).reshape(-1, 3)
    return padded.view("<u4").ravel()
