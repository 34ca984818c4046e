"""A tokenizer as GGUF's keys have it: `tokenizer.ggml.*`.

llama.cpp normalizes nothing: a text in NFD has other ids there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semigpt.errors import SettingsError
from semigpt.language import N_, _
from semigpt.tokenizers.base import Tokenizer, byte_token

__all__ = ["GGUFVocabulary", "gguf_vocabulary"]

NORMAL, CONTROL, UNUSED, BYTE = 1, 3, 5, 6  # `tokenizer.ggml.token_type`
SPACE = "\u2581"  # how SentencePiece, and llama.cpp after it, write a space

# llama.cpp wants a merge; this pair of bytes is in no UTF-8.
NO_MERGE = "ÿ ÿ"

REFUSED = {
    "jamo": N_("llama.cpp joins the bytes of tokens, and cannot compose a syllable of its letters"),
    "unigram": N_("llama.cpp has no Unigram over bytes and would split some texts otherwise"),
}


@dataclass(frozen=True, kw_only=True)
class GGUFVocabulary:
    """model: `tokenizer.ggml.model`; scores for `llama` (SentencePiece), merges for `gpt2`."""

    model: Literal["llama", "gpt2"]
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]


def gguf_vocabulary(tokenizer: Tokenizer) -> GGUFVocabulary:
    """The keys with which llama.cpp gives the ids of `tokenizer`.

    Raises SettingsError, saying what to train with, where no keys do.
    """
    if tokenizer.kind in REFUSED:
        raise SettingsError(
            _(
                "a {kind} tokenizer cannot be a GGUF file: {refused}; "
                "train with --tokenizer char_bpe, or char, bpe or byte"
            ).format(kind=tokenizer.kind, refused=_(REFUSED[tokenizer.kind]))
        )
    document = tokenizer.tokenizer_json()["model"]
    # Two merges may make one token: the second gets the id, and the first no text ever.
    names = {i: token for token, i in document["vocab"].items()}
    tokens = [names.get(i, f"[unused {i}]") for i in range(tokenizer.vocab_size)]
    types = [NORMAL if i in names else UNUSED for i in range(tokenizer.vocab_size)]
    for spelling, i in tokenizer.special_tokens.items():
        tokens[i], types[i] = spelling, CONTROL
    if tokenizer.kind in ("byte", "bpe"):
        merges = [f"{left} {right}" for left, right in document["merges"]]
        return GGUFVocabulary(
            model="gpt2", tokens=tokens, types=types, scores=[], merges=merges or [NO_MERGE]
        )
    if taken := [token for token in tokens if SPACE in token or "\0" in token]:
        raise SettingsError(
            _(
                "the text held the character U+{taken:04X}, which a GGUF file cannot hold "
                "beside the space; train with --tokenizer char_bpe, or without that character"
            ).format(taken=ord(taken[0]))
        )
    for byte in range(256):
        types[document["vocab"][byte_token(byte)]] = BYTE
    # The neighbours with the best score are merged first: here those of the earliest merge.
    scores = [-float(i) for i in range(len(tokens))]
    return GGUFVocabulary(
        model="llama",
        tokens=[token.replace(" ", SPACE) for token in tokens],
        types=types,
        scores=scores,
        merges=[],
    )
