"""Which parts of a passage a model expects: the surprisal of each of its characters."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
import torch.nn.functional as F

from semigpt.evaluation.evaluate import eval_mode
from semigpt.evaluation.information import bits
from semigpt.models.base import LanguageModel
from semigpt.tokenizers.base import Tokenizer

__all__ = ["passages", "surprisal"]


@torch.no_grad()
def surprisal(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[tuple[str, float]]:
    """The passage token by token as (characters, bits), bits = -log2 of the model's probability.

    The first context of the text is scored, the rest left out. Tokens that are part of a character
    are joined until it is whole. Where the tokenizer has no end-of-text token, nothing precedes the
    first token: it is context alone and not in the result.
    """
    start = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    ids = (start + tokenizer.encode(text).tolist())[: model.settings.context_length]
    if len(ids) < 2:
        return []
    ids_T = torch.tensor(ids, device=model.device)
    with eval_mode(model):
        logits_BTV, _ = model(ids_T[None, :-1])
    losses = F.cross_entropy(logits_BTV[0].float(), ids_T[1:], reduction="none").tolist()
    decoder = tokenizer.stream()
    decoder.push(ids[0])
    found, unfinished = [], 0.0
    for token, nats in zip(ids[1:], losses, strict=True):
        unfinished += bits(nats)
        if characters := decoder.push(token):
            found.append((characters, unfinished))
            unfinished = 0.0
    return found


def passages(documents: Iterable[str], count: int = 3, characters: int = 300) -> list[str]:
    """The beginnings of a few of the first documents, those long enough for a look first."""
    beginnings = [text[:characters] for text in islice(documents, 50)]
    return sorted(beginnings, key=lambda text: -min(len(text), characters // 2))[:count]
