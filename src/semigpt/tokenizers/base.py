"""What every tokenizer is: a two-way street between text and ids, and one `tokenizer.json`.

`token_bytes(id)` is the primitive. Decoding is the tokens' bytes joined and read as UTF-8, and streaming is
the same with the bytes of an unfinished character held back, so a printed piece never shows half a
syllable.

Python strings may hold lone surrogates, which UTF-8 has no bytes for. Here they take the three bytes UTF-8
would give them (Python's `surrogatepass`), so that any string at all comes back exactly.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import TokenizerError

__all__ = [
    "CONFIG_FILE",
    "END_OF_TEXT",
    "TOKENIZER_FILE",
    "Kind",
    "Normalization",
    "StreamDecoder",
    "Tokenizer",
]

Kind = Literal["char", "byte", "jamo", "bpe", "unigram"]
Normalization = Literal["NFC"]
Ids = NDArray[np.unsignedinteger[Any]]
"""Token ids, 1-D, in the smallest unsigned type that holds the vocabulary."""

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


class Tokenizer(ABC):
    """Text to ids and back.

    Special tokens mark what is not text. `encode` never gives one, not even for text that spells it
    ("<|endoftext|>" is 13 ordinary characters), so no document can end another early; `encode_documents`
    puts them in. `AutoTokenizer` on the saved folder differs there on purpose of its own: it reads that
    spelling as the special token.
    """

    kind: ClassVar[Kind]
    normalization: Normalization | None
    """What `encode` applies first, saved as the normalizer of `tokenizer.json`; None keeps text as it is."""
    vocab_size: int
    special_tokens: Mapping[str, int]
    """The spelling and id of each special token."""

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of `text`, without special tokens: 1-D, of type `dtype`."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes a token stands for, not always whole characters; empty for a special token."""

    @abstractmethod
    def tokenizer_json(self) -> dict[str, Any]:
        """The content of `tokenizer.json`, as the `tokenizers` library reads it."""

    @property
    def end_of_text(self) -> int | None:
        """The id of <|endoftext|>, or None where there is none."""
        return self.special_tokens.get(END_OF_TEXT)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned integer type that holds every id."""
        return np.min_scalar_type(max(self.vocab_size - 1, 0))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what `tokenizer.json` says of ids and text: tokenizers that share it
        give
        the same ids."""
        return fingerprint_of(self.tokenizer_json())

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`: any sequence, array or tensor of one dimension. Special tokens are left out.

        Bytes that are not UTF-8, such as the start of a character whose end is missing, become U+FFFD as in
        Python's `errors="replace"`. Raises TokenizerError for an id outside the vocabulary.
        """
        row = as_row(ids)
        self._check_range(row)
        return read_utf8(b"".join(map(self.token_bytes, row.tolist())), final=True)[0]

    def stream(self) -> StreamDecoder:
        """A decoder that takes ids one at a time; its pieces joined are `decode` of all of them."""
        return StreamDecoder(self)

    def encode_documents(self, documents: Iterable[str]) -> Iterator[Ids]:
        """Each document's ids, and <|endoftext|> behind them where there is one. Reads as it goes: never
        more than a small batch of documents is held."""
        ending = np.array([] if self.end_of_text is None else [self.end_of_text], self.dtype)
        for document in documents:
            yield np.concatenate([self.encode(document), ending])

    def token_text(self, token_id: int) -> str:
        """A token as a person may read it: its characters with control characters escaped (`\\n`), a special
        token's spelling, or its bytes (`<0xEA>`) where they are no whole characters."""
        data = self.token_bytes(token_id)
        if not data:
            return next(spelling for spelling, i in self.special_tokens.items() if i == token_id)
        try:
            return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in data.decode())
        except UnicodeDecodeError:
            return "".join(byte_token(byte) for byte in data)

    def save(self, folder: Path, *, context_length: int | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into `folder`, which is made if need be.

        `AutoTokenizer` loads them with no code of ours. `context_length` tells it the longest text a model
        takes, in tokens.
        """
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,  # true would turn " ." into "." on decoding
            "fingerprint": self.fingerprint,
        }
        if self.end_of_text is not None:
            config |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
        if context_length is not None:
            config["model_max_length"] = context_length
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in ((TOKENIZER_FILE, self.tokenizer_json()), (CONFIG_FILE, config)):
                text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise TokenizerError(
                f"cannot save the tokenizer in {folder}: {error.strerror or error}"
            ) from error

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, normalization={self.normalization!r})"

    def _check_range(self, row: NDArray[np.integer[Any]]) -> None:
        """Raise TokenizerError for an id outside the vocabulary."""
        if row.size and (row.min() < 0 or row.max() >= self.vocab_size):
            place = int(np.flatnonzero((row < 0) | (row >= self.vocab_size))[0])
            raise TokenizerError(
                f"id {row[place]} at position {place} is outside the vocabulary of {self.vocab_size} tokens; "
                "was it made by another tokenizer?"
            )


class StreamDecoder:
    """Decodes ids as they come, for printing while a model writes: only whole characters come out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._pending = b""

    def push(self, token_id: int) -> str:
        """The characters that `token_id` completes, often none or several."""
        text, self._pending = read_utf8(self._pending + self._token_bytes(token_id), final=False)
        return text

    def finish(self) -> str:
        """What is left once no more ids come: U+FFFD where a character was never completed, else nothing."""
        text, self._pending = read_utf8(self._pending, final=True)
        return text


def as_row(ids: Iterable[int]) -> NDArray[np.integer[Any]]:
    """A sequence, array or tensor of ids as a 1-D array of integers; TokenizerError for what is none."""
    if hasattr(ids, "detach"):  # a tensor, perhaps on a GPU, where NumPy cannot read it
        ids = ids.detach().cpu()
    row = np.asarray(ids if hasattr(ids, "__array__") else list(ids))
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise TokenizerError(
            f"decode takes one row of integers, not {row.dtype} of shape {row.shape}"
        )
    return row if row.size else row.astype(np.uint8)


def read_utf8(data: bytes, *, final: bool) -> tuple[str, bytes]:
    """`data` read as UTF-8, and the bytes at its end that may yet become a character (none if `final`).

    Lone surrogates are read too; each maximal part that cannot belong to any character becomes one U+FFFD,
    as Unicode (3.9, "U+FFFD substitution of maximal subparts") recommends and Python's `errors="replace"`
    does.
    """
    pieces: list[str] = []
    while True:
        try:
            text, length = codecs.utf_8_decode(data, "surrogatepass", final)
        except UnicodeDecodeError as error:
            pieces += [data[: error.start].decode("utf-8", "surrogatepass"), "\ufffd"]
            data = data[error.end :]
        else:
            return "".join([*pieces, text]) if pieces else text, data[length:]


def byte_token(byte: int) -> str:
    """The name of a byte's own token, `<0xEA>`, as SentencePiece and the `tokenizers` library spell it."""
    return f"<0x{byte:02X}>"


def batches(documents: Iterable[str], characters: int) -> Iterator[list[str]]:
    """`documents` in lists of at least this many characters, the last perhaps of fewer."""
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def fingerprint_of(document: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the parts of a `tokenizer.json` that decide ids and text, as JSON with
    sorted keys
    and no spaces: the same after `transformers` has loaded the file and saved it again."""
    parts = {
        part: document[part]
        for part in ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def added_token(spelling: str, token_id: int) -> dict[str, Any]:
    """A special token's entry under `added_tokens` in `tokenizer.json`."""
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {"id": token_id, "content": spelling, **flags}


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """Raise TokenizerError unless each is a spelling that can be told from ordinary tokens."""
    for place, spelling in enumerate(special_tokens):
        if len(spelling) < 2 or spelling != spelling.strip() or not spelling.isprintable():
            raise TokenizerError(
                f"special token {spelling!r} must be two or more printable characters, as in <|user|>"
            )
        if spelling in (*special_tokens[:place], *map(byte_token, range(256))):
            raise TokenizerError(
                f"special token {spelling!r} is there already; give each another spelling"
            )
