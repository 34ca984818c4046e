"""What could stand at a place of a text, as whole characters.

A token may be a byte of a character, or a letter of a syllable: it is completed by its likeliest
rest, and its share is the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from semigpt.evaluation.evaluate import eval_mode
from semigpt.generation.constraint import DEAD, START
from semigpt.generation.engine import Engine
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Candidate", "candidates_after"]

MOST_PARTS = 4  # tokens of a character
FIRST_SYLLABLE, VOWELS, FINALS = ord("가"), 21, 28  # of Unicode; 28 with no final at all


class Candidate(NamedTuple):
    """Some tokens that are whole characters; `text` is None for the end of a text."""

    text: str | None
    tokens: list[int]
    p: float


def candidates_after(engine: Engine, before: Sequence[int], count: int) -> list[Candidate]:
    """The likeliest tokens after the ids, of those that text may go on with, each completed."""
    if not before:
        return []
    p_V = _next(engine, before)
    may_follow = engine.free.transitions(START) != DEAD
    p_V[~torch.from_numpy(may_follow)] = 0
    p_K, tokens_K = p_V.topk(min(count, int(may_follow.sum())))
    return [
        _completed(engine, before, token, p)
        for token, p in zip(tokens_K.tolist(), p_K.tolist(), strict=True)
    ]


def _completed(engine: Engine, before: Sequence[int], token: int, p: float) -> Candidate:
    tokenizer, tokens, state = engine.tokenizer, [token], START
    if token == tokenizer.end_of_text:
        return Candidate(None, tokens, p)
    while len(tokens) < MOST_PARTS:
        state = int(engine.free.transitions(state)[tokens[-1]])
        rest, may_end = _rest(engine, tokens, state)
        if not rest:
            break
        p_V = _next(engine, [*before, *tokens])
        p_R = p_V[rest]
        likeliest, ended = int(p_R.argmax()), float(1 - p_R.sum())
        if may_end and ended > p_R[likeliest]:
            p *= ended
            break
        p *= float(p_R[likeliest])
        tokens.append(rest[likeliest])
    return Candidate(tokenizer.decode(tokens), tokens, p)


def _rest(engine: Engine, tokens: Sequence[int], state: int) -> tuple[list[int], bool]:
    """The tokens that may complete the last character, none where it is whole, and whether it may
    stand without them.
    """
    vowels, finals = _letters(engine.tokenizer)
    if finals and tokens[-1] in vowels and len(tokens) > 1:
        return finals, True
    if finals and tokens[-1] < min(vowels) and len(engine.tokenizer.token_bytes(tokens[-1])) == 3:
        return vowels, False
    if engine.free.accepts(state):
        return [], True
    return torch.from_numpy(engine.free.transitions(state) != DEAD).nonzero()[:, 0].tolist(), False


def _letters(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of vowels and of finals; none where syllables are not spelt."""
    if tokenizer.kind != "jamo":
        return [], []
    open_syllables = (chr(FIRST_SYLLABLE + FINALS * vowel) for vowel in range(VOWELS))
    closed = (chr(FIRST_SYLLABLE + final) for final in range(1, FINALS))
    return (
        [int(tokenizer.encode(syllable)[1]) for syllable in open_syllables],
        [int(tokenizer.encode(syllable)[2]) for syllable in closed],
    )


def _next(engine: Engine, ids: Sequence[int]) -> Tensor:
    """The probability of each token after the ids, `[V]`."""
    model = engine.model
    ids_BT = torch.tensor([list(ids)[-model.settings.context_length :]], device=model.device)
    with eval_mode(model), torch.inference_mode():
        logits_BV = model.next_logits(ids_BT, None)
    return logits_BV[0].float().softmax(dim=-1).cpu().clone()
