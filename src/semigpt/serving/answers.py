"""Tokens and their scores in OpenAI's forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semigpt.generation.stream import Chunk, TokenScore
from semigpt.tokenizers.base import Tokenizer

__all__ = ["chat_logprobs", "choice_logprobs", "token_name"]


def token_name(tokenizer: Tokenizer, token: int) -> str:
    """A token's text, a special token's spelling, or `bytes:\\xec` for a part of a character."""
    data = tokenizer.token_bytes(token) if token < tokenizer.vocab_size else b""
    if not data:
        known = tokenizer.special_tokens.items()
        return next((spelling for spelling, i in known if i == token), f"<{token}>")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _likeliest(tokenizer: Tokenizer, score: TokenScore) -> dict[str, float]:
    """The alternatives by name; the token itself is one of them."""
    found = {
        token_name(tokenizer, token): log_probability
        for token, (_, log_probability) in zip(score.likeliest, score.alternatives, strict=True)
    }
    found.setdefault(token_name(tokenizer, score.token), score.log_probability)
    return found


def choice_logprobs(
    tokenizer: Tokenizer,
    chunks: Sequence[Chunk],
    offset: int,
    exact: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The four parallel lists of a completion's `logprobs`.

    offset: code points of the choice's text before these chunks
    exact: the ids of the prompt that the first chunk echoes: each has an entry, those before the
        first score without a value
    """
    names: list[str] = []
    values: list[float | None] = []
    likeliest: list[dict[str, float] | None] = []
    offsets: list[int] = []
    decoder = tokenizer.stream()
    if exact is not None:
        for token in exact[: len(exact) - len(chunks[0].scores)]:
            names.append(token_name(tokenizer, token))
            values.append(None)
            likeliest.append(None)
            offsets.append(offset)
            offset += len(decoder.push(token))
    for chunk in chunks:
        end = offset + len(chunk.text)
        if exact is not None and chunk is chunks[0]:
            end = len(chunk.text)
        lengths = [len(decoder.push(score.token)) for score in chunk.scores]
        place = end - sum(lengths)
        for score, length in zip(chunk.scores, lengths, strict=True):
            names.append(token_name(tokenizer, score.token))
            values.append(score.log_probability)
            likeliest.append(_likeliest(tokenizer, score))
            offsets.append(max(place, 0))
            place += length
        offset = end
    return {
        "tokens": names,
        "token_logprobs": values,
        "top_logprobs": likeliest,
        "text_offset": offsets,
    }


def chat_logprobs(tokenizer: Tokenizer, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """The `logprobs` of a chat completion's choice."""

    def entry(token: int, log_probability: float) -> dict[str, Any]:
        data = tokenizer.token_bytes(token) if token < tokenizer.vocab_size else b""
        return {
            "token": token_name(tokenizer, token),
            "logprob": log_probability,
            "bytes": list(data),
        }

    content = []
    for score in (score for chunk in chunks for score in chunk.scores):
        others = zip(score.likeliest, score.alternatives, strict=True)
        top = [entry(token, log_probability) for token, (_, log_probability) in others]
        content.append({**entry(score.token, score.log_probability), "top_logprobs": top})
    return {"content": content}
