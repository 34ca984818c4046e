"""What every tokenizer does: text to ids, ids to text, and one `tokenizer.json`.

`token_bytes(id)` is the primitive. Decoding joins the tokens' bytes and reads them as UTF-8.
Streaming does the same and holds back the bytes of an unfinished character, so that printed text
never shows half a syllable.

Python strings may hold lone surrogates, which UTF-8 has no bytes for. Here they take the three
bytes that UTF-8 would give them (Python's `surrogatepass`), so that every string comes back
exactly.
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
from semigpt.language import _
from semigpt.storage import write_files

__all__ = [
    "CONFIG_FILE",
    "END_OF_TEXT",
    "TOKENIZER_FILE",
    "AnyKind",
    "Kind",
    "Normalization",
    "StreamDecoder",
    "Tokenizer",
]

Kind = Literal["char", "byte", "jamo", "bpe", "char_bpe", "unigram"]
AnyKind = Literal[Kind, "foreign"]
Normalization = Literal["NFC"]
Ids = NDArray[np.unsignedinteger[Any]]
"""Token ids, 1-D, in the smallest unsigned type that holds the vocabulary."""

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


class Tokenizer(ABC):
    """Text to ids and back.

    Special tokens mark what is not text. `encode` never gives one, not even for text that spells it
    ("<|endoftext|>" is 13 ordinary characters), so no document can end another early;
    `encode_batch` adds them. `AutoTokenizer` on the saved folder differs there: it reads that
    spelling as the special token, and puts <|endoftext|> before a text, as models expect it; with
    `add_special_tokens=False` it does not.
    """

    kind: ClassVar[AnyKind]
    normalization: Normalization | None
    """What `encode` applies first, saved as the normalizer of `tokenizer.json`; None for
    nothing."""
    vocab_size: int
    special_tokens: Mapping[str, int]
    """The spelling and id of each special token."""

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of `text`, without special tokens: 1-D, of type `dtype`."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes of a token, not always whole characters; empty for a special token."""

    @abstractmethod
    def tokenizer_json(self) -> dict[str, Any]:
        """The content of `tokenizer.json`, as the `tokenizers` library reads it."""

    @property
    def end_of_text(self) -> int | None:
        """The id of <|endoftext|>, or None where there is none."""
        return self.special_tokens.get(END_OF_TEXT)

    @property
    def begin_of_text(self) -> int | None:
        """The id that stands before a text: here the one that ended the text before."""
        return self.end_of_text

    @property
    def unscored(self) -> int | None:
        """`begin_of_text`, where it is another id than `end_of_text`: it follows that one always.

        It is no part of the text, and a model that was never shown one after another would pay
        for it.
        """
        return None if self.begin_of_text == self.end_of_text else self.begin_of_text

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned integer type that holds every id."""
        return np.min_scalar_type(max(self.vocab_size - 1, 0))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what decides ids and text in `tokenizer.json`.

        Tokenizers with the same fingerprint give the same ids.
        """
        return fingerprint_of(self.tokenizer_json())

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, a sequence, array or tensor of one dimension, without special tokens.

        Bytes that are not UTF-8, such as the start of a character whose end is missing, become
        U+FFFD as in Python's `errors="replace"`. Raises TokenizerError for an id outside the
        vocabulary.
        """
        row = as_row(ids)
        self._check_range(row)
        return read_utf8(b"".join(map(self.token_bytes, row.tolist())), final=True)[0]

    def stream(self) -> StreamDecoder:
        """A decoder that takes ids one at a time; its chunks joined are `decode` of all of them."""
        return StreamDecoder(self)

    def encode_batch(self, documents: Sequence[str]) -> list[Ids]:
        """Each document's ids, and <|endoftext|> after them where there is one."""
        ending = np.array([] if self.end_of_text is None else [self.end_of_text], self.dtype)
        return [np.concatenate([self.encode(document), ending]) for document in documents]

    def encode_documents(self, documents: Iterable[str]) -> Iterator[Ids]:
        """`encode_batch` of documents as they come: no more than a few small batches are held."""
        for batch in batches(documents):
            yield from self.encode_batch(batch)

    def token_text(self, token_id: int) -> str:
        """A token as a person may read it.

        Its characters with control characters escaped (`\\n`), a special token's spelling, or its
        bytes (`<0xEA>`) where they are not whole characters.
        """
        data = self.token_bytes(token_id)
        if not data:
            return next(spelling for spelling, i in self.special_tokens.items() if i == token_id)
        try:
            return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in data.decode())
        except UnicodeDecodeError:
            return "".join(byte_token(byte) for byte in data)

    def files(self, context_length: int | None = None) -> dict[str, bytes]:
        """`tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer` loads with no code
        of ours; `context_length` tells it the longest text that a model takes, in tokens.
        """
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,  # true would turn " ." into "." on decoding
            "fingerprint": self.fingerprint,
        }
        if self.end_of_text is not None:
            config |= {
                "bos_token": END_OF_TEXT,
                "eos_token": END_OF_TEXT,
                "pad_token": END_OF_TEXT,
                "padding_side": "left",  # a batch of prompts is continued at its right
            }
        if context_length is not None:
            config["model_max_length"] = context_length
        return {
            name: (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
            for name, content in ((TOKENIZER_FILE, self.tokenizer_json()), (CONFIG_FILE, config))
        }

    def save(self, folder: Path, *, context_length: int | None = None) -> None:
        """Write `files` into `folder`, creating it if necessary, both old or both new.

        Raises TokenizerError where nothing can be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_files(folder, self.files(context_length))
        except OSError as error:
            raise TokenizerError(
                _("cannot save the tokenizer in {folder}: {reason}").format(
                    folder=folder, reason=error.strerror or error
                )
            ) from error

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        settings = f"vocab_size={self.vocab_size}, normalization={self.normalization!r}"
        return f"{type(self).__name__}({settings})"

    def _check_range(self, row: NDArray[np.integer[Any]]) -> None:
        """Raise TokenizerError for an id outside the vocabulary."""
        if row.size and (row.min() < 0 or row.max() >= self.vocab_size):
            place = int(np.flatnonzero((row < 0) | (row >= self.vocab_size))[0])
            raise TokenizerError(
                _(
                    "id {row} at position {place} is outside the vocabulary of "
                    "{vocab_size} tokens; was it made by another tokenizer?"
                ).format(row=row[place], place=place, vocab_size=self.vocab_size)
            )


class StreamDecoder:
    """Decodes ids as a model generates them, in whole characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._pending = b""

    def push(self, token_id: int) -> str:
        """The characters that `token_id` completes, often none or several."""
        text, self._pending = read_utf8(self._pending + self._token_bytes(token_id), final=False)
        return text

    def finish(self) -> str:
        """What is left after the last id: U+FFFD for a character never completed, else nothing."""
        text, self._pending = read_utf8(self._pending, final=True)
        return text


def as_row(ids: Iterable[int]) -> NDArray[np.integer[Any]]:
    """A sequence, array or tensor of ids as a 1-D array of integers; TokenizerError for what is
    none."""
    if hasattr(ids, "detach"):  # a tensor, perhaps on a GPU, where NumPy cannot read it
        ids = ids.detach().cpu()
    row = np.asarray(ids if hasattr(ids, "__array__") else list(ids))
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise TokenizerError(
            _("decode takes one row of integers, not {dtype} of shape {shape}").format(
                dtype=row.dtype, shape=row.shape
            )
        )
    return row if row.size else row.astype(np.uint8)


def read_utf8(data: bytes, *, final: bool) -> tuple[str, bytes]:
    """`data` read as UTF-8, and the bytes at its end that may yet become a character (none if
    `final`).

    Lone surrogates are read too. Each maximal part that cannot belong to any character becomes one
    U+FFFD, as Unicode recommends (3.9, "U+FFFD substitution of maximal subparts") and Python's
    `errors="replace"` does.
    """
    parts: list[str] = []
    while True:
        try:
            text, length = codecs.utf_8_decode(data, "surrogatepass", final)
        except UnicodeDecodeError as error:
            parts += [data[: error.start].decode("utf-8", "surrogatepass"), "\ufffd"]
            data = data[error.end :]
        else:
            return "".join([*parts, text]) if parts else text, data[length:]


def byte_token(byte: int) -> str:
    """The name of a byte's own token, `<0xEA>`, as SentencePiece and the `tokenizers` library spell
    it."""
    return f"<0x{byte:02X}>"


def batches(documents: Iterable[str], characters: int = 1 << 16) -> Iterator[list[str]]:
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


def tokenizer_document(
    tokenizer: Tokenizer,
    *,
    normalizer: dict[str, Any] | None,
    pre_tokenizer: dict[str, Any] | None,
    decoder: dict[str, Any],
    model: dict[str, Any],
) -> dict[str, Any]:
    """The content of `tokenizer.json`, with the special tokens of `tokenizer`."""
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": spelling, **flags}
            for spelling, i in tokenizer.special_tokens.items()
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _begins_with(tokenizer),
        "decoder": decoder,
        "model": model,
    }


def _begins_with(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The `post_processor` that puts <|endoftext|> before a text, as it stands in training.

    Other programs apply it; `encode` gives a text's own ids. It decides no id of a text and is no
    part of the fingerprint, so files written without it load.
    """
    if tokenizer.end_of_text is None:
        return None
    start = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, second],
        "special_tokens": {
            END_OF_TEXT: {
                "id": END_OF_TEXT,
                "ids": [tokenizer.end_of_text],
                "tokens": [END_OF_TEXT],
            }
        },
    }


def bpe_model(tokens: Sequence[str], merges: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
    """The `model` of `tokenizer.json` for BPE: tokens by id, and merges."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": [list(merge) for merge in merges],
    }


def normalizer_json(normalization: Normalization | None) -> dict[str, Any] | None:
    """The `normalizer` of `tokenizer.json`."""
    return None if normalization is None else {"type": normalization}


def normalization_of(normalizer: Mapping[str, Any] | None) -> Normalization | None:
    """The normalization that a `normalizer` of `tokenizer.json` is."""
    return "NFC" if normalizer == {"type": "NFC"} else None


def special_tokens_of(document: Mapping[str, Any]) -> list[str]:
    """The special tokens of a `tokenizer.json` besides <|endoftext|>."""
    spellings = [token["content"] for token in document["added_tokens"]]
    return [spelling for spelling in spellings if spelling != END_OF_TEXT]


def fingerprint_of(document: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the parts of a `tokenizer.json` that decide ids and text.

    They are hashed as JSON with sorted keys and no spaces: the same after `transformers` has loaded
    the file and saved it again.
    """
    parts = {
        part: document[part]
        for part in ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """Raise TokenizerError unless each is a spelling that can be told from ordinary tokens."""
    for place, spelling in enumerate(special_tokens):
        if len(spelling) < 2 or spelling != spelling.strip() or not spelling.isprintable():
            raise TokenizerError(
                _(
                    "special token {spelling!r} must be two or more printable characters, such as "
                    "<|user|>"
                ).format(spelling=spelling)
            )
        if spelling in (*special_tokens[:place], *map(byte_token, range(256))):
            raise TokenizerError(
                _("special token {spelling!r} is there already; give each another spelling").format(
                    spelling=spelling
                )
            )
