"""A tokenizer that others trained, through the `tokenizers` library that wrote it.

Its `tokenizer.json` is kept as it is. `token_bytes` reads how its decoder spells: GPT-2's letters,
or SentencePiece's `▁` for a space and `<0xEA>` for a byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from semigpt.errors import TokenizerError
from semigpt.language import _
from semigpt.tokenizers.base import (
    CONFIG_FILE,
    END_OF_TEXT,
    TOKENIZER_FILE,
    AnyKind,
    Ids,
    Tokenizer,
    fingerprint_of,
    normalization_of,
)
from semigpt.tokenizers.byte_level import byte_letters
from semigpt.tokenizers.patterns import check_patterns

if TYPE_CHECKING:
    import tokenizers

__all__ = ["ForeignTokenizer"]

LARGEST_ID = 4_000_000  # the largest vocabularies in use have 300,000 tokens
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SPACE = "\u2581"
SURROGATE = re.compile("[\ud800-\udfff]")


@final
class ForeignTokenizer(Tokenizer):
    """The tokenizer of a `tokenizer.json`.

    Args:
        content: The file, as it is.
        config: What stands beside it in `tokenizer_config.json` and `special_tokens_map.json`.

    Raises TokenizerError for a file that the library does not take.
    """

    kind: ClassVar[AnyKind] = "foreign"

    def __init__(self, content: bytes, config: Mapping[str, Any]) -> None:
        # auto_map names programs.
        self._content, self.config = content, {k: v for k, v in config.items() if k != "auto_map"}
        with _library_errors():
            check_patterns(self._document)  # before the library compiles them
            ids = self._engine.get_vocab()
            highest = max(ids.values(), default=-1)
            if not 0 <= highest < LARGEST_ID:
                raise TokenizerError(_("its largest id is {highest}").format(highest=highest))
            self.vocab_size = highest + 1
            self.special_tokens = {
                token.content: i
                for i, token in self._engine.get_added_tokens_decoder().items()
                if token.special
            }
            self._begin, self._end = self._ends()
            unknown = getattr(self._engine.model, "unk_token", None)
            if self._document["model"].get("type") == "Unigram":
                self._unknown = self._document["model"].get("unk_id")
            else:
                self._unknown = None if unknown is None else ids.get(unknown)
        self.normalization = normalization_of(self._document.get("normalizer"))

    @cached_property
    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._content)
        return document

    @cached_property
    def _engine(self) -> tokenizers.Tokenizer:
        """The library's tokenizer, by which ordinary text never becomes a special token."""
        from tokenizers import Tokenizer as Engine

        engine = Engine.from_buffer(self._content)
        engine.no_truncation()
        engine.no_padding()
        engine.encode_special_tokens = True
        return engine

    def _ends(self) -> tuple[int | None, int | None]:
        """The ids that stand before and after a text in training, as far as files say."""

        def named(token: Any) -> int | None:
            text = token.get("content") if isinstance(token, Mapping) else token
            return self._engine.token_to_id(text) if isinstance(text, str) else None

        begin, end = named(self.config.get("bos_token")), named(self.config.get("eos_token"))
        # A model that chats ends its turns with another token than its texts.
        ends = (named(END_OF_TEXT), named("<|end_of_text|>"), end, begin)
        end = next((token for token in ends if token is not None), None)
        put = self._engine.encode("", add_special_tokens=True).ids[:1] == [begin]
        if begin is None or not (put or self.config.get("add_bos_token") is True):
            begin = end
        return begin, end

    @property
    def begin_of_text(self) -> int | None:
        return self._begin

    @property
    def end_of_text(self) -> int | None:
        return self._end

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what decides the ids of a text and of what is around it."""
        parts = f"{fingerprint_of(self._document)} {self._begin} {self._end}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def encode(self, text: str) -> Ids:
        """See `Tokenizer.encode`. Lone surrogates become U+FFFD: the library takes none."""
        with _library_errors():
            found = self._engine.encode(SURROGATE.sub("\ufffd", text), add_special_tokens=False)
        return np.array(found.ids, self.dtype)

    def encode_batch(self, documents: Sequence[str]) -> list[Ids]:
        """See `Tokenizer.encode_batch`; also the beginning of the next text, where that has a
        token of its own.

        Raises TokenizerError for a text that the ids do not spell: what a model says of them would
        be of another text.
        """
        after = [self._end, self._begin] if self._begin != self._end else [self._end]
        ending = np.array([token for token in after if token is not None], self.dtype)
        texts, rows = [SURROGATE.sub("\ufffd", text) for text in documents], []
        with _library_errors():
            found = self._engine.encode_batch_fast(texts, add_special_tokens=False)
        for text, encoding in zip(texts, found, strict=True):
            self._check(text, encoding.ids)
            rows.append(np.concatenate((np.array(encoding.ids, self.dtype), ending)))
        return rows

    def _check(self, text: str, ids: list[int]) -> None:
        if self._unknown is not None and self._unknown in ids:
            raise TokenizerError(
                _(
                    "the tokenizer has no tokens for some characters of {text!r} and would count "
                    "each as one unknown token; take a model whose tokenizer falls back to bytes"
                ).format(text=text[:20])
            )
        spelled = b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        if text not in (spelled, spelled[1:]) and _plain(spelled) != _plain(text):
            raise TokenizerError(
                _(
                    "the tokenizer turns {text!r} into {spelled!r}: what a model says of "
                    "that would be of another text; take a model whose tokenizer keeps the text"
                ).format(text=text[:20], spelled=spelled[:20])
            )

    def token_bytes(self, token_id: int) -> bytes:
        return self._tokens[token_id]

    @cached_property
    def _tokens(self) -> list[bytes]:
        """The bytes of each id; none for special tokens, and for ids that no token has."""
        steps = list(_types(self._document.get("decoder")))
        names = {step["type"] for step in steps}
        if "ByteLevel" in names:
            letters = {letter: byte for byte, letter in enumerate(byte_letters())}

            def spelled(token: str) -> bytes:
                try:
                    return bytes(letters[letter] for letter in token)
                except KeyError:
                    return token.encode("utf-8", "surrogatepass")
        elif names & {"ByteFallback", "Metaspace"} or _replaces_space(steps):

            def spelled(token: str) -> bytes:
                if "ByteFallback" in names and (byte := BYTE.fullmatch(token)):
                    return bytes([int(byte[1], 16)])
                return token.replace(SPACE, " ").encode("utf-8", "surrogatepass")
        else:
            known = ", ".join(sorted(names)) or "none"
            raise TokenizerError(
                _(
                    "its tokens are spelled by a decoder that semigpt does not "
                    "know ({known}); known "
                    "are ByteLevel, Metaspace and ByteFallback"
                ).format(known=known)
            )
        tokens = [b""] * self.vocab_size
        with _library_errors():
            for token, i in self._engine.get_vocab(with_added_tokens=False).items():
                tokens[i] = spelled(token)
            for i, added in self._engine.get_added_tokens_decoder().items():
                tokens[i] = b"" if added.special else added.content.encode()
        return tokens

    def token_text(self, token_id: int) -> str:
        if self.token_bytes(token_id) or token_id in self.special_tokens.values():
            return super().token_text(token_id)
        return f"[unused {token_id}]"

    def tokenizer_json(self) -> dict[str, Any]:
        """See `Tokenizer.tokenizer_json`."""
        return self._document

    def files(self, context_length: int | None = None) -> dict[str, bytes]:
        """Both files as they were; `context_length` is put into the second."""
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self.config}
        if context_length is not None:
            config["model_max_length"] = context_length
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        return {
            TOKENIZER_FILE: self._content,
            CONFIG_FILE: text.encode("utf-8", "surrogatepass"),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Without the library's object, which is made anew."""
        return {name: value for name, value in vars(self).items() if name != "_engine"}


@contextlib.contextmanager
def _library_errors() -> Iterator[None]:
    """The library's errors as TokenizerError; where it panics, too."""
    try:
        yield
    except (TokenizerError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:  # PanicException is no Exception
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TokenizerError(
            _("the tokenizers library does not take it ({reason})").format(reason=reason)
        ) from None


def _types(step: Any) -> Iterator[dict[str, Any]]:
    """A decoder's steps, those of sequences one by one."""
    if not isinstance(step, dict):
        return
    if step.get("type") == "Sequence":
        for inner in step["decoders"]:
            yield from _types(inner)
    elif isinstance(step.get("type"), str):
        yield step


def _replaces_space(steps: list[dict[str, Any]]) -> bool:
    return any(
        step["type"] == "Replace" and step.get("pattern") == {"String": SPACE} for step in steps
    )


def _plain(text: str) -> str:
    """A text as tokenizers that normalize compare it: compatibility forms composed."""
    return unicodedata.normalize("NFKC", text).strip()
