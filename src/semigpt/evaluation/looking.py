"""What happened inside a model before it said what comes next: at one position of one text.

V is the vocabulary, L the layers, H the heads of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.evaluation.evaluate import eval_mode
from semigpt.language import _
from semigpt.models.base import LanguageModel, check_ids
from semigpt.models.memory import MemoryGPT
from semigpt.ngrams.longest_match import longest_match

__all__ = ["Expert", "Opinion", "attention_after", "gate_after", "lens_after"]


@dataclass(frozen=True)
class Opinion:
    """A distribution over the next token.

    likeliest: tokens and their p, the likeliest first
    p: of the token that did come next; None where none was named
    """

    likeliest: list[tuple[int, float]]
    p: float | None


@dataclass(frozen=True)
class Expert:
    """One part of a `memory`, how much its gate believed it, and what it said.

    name: `net`, `counts` after so many `tokens`, or `match`, the longest match of so many tokens
    weight: the weights of all experts sum to 1
    opinion: None for a match where there is none
    """

    name: str
    tokens: int | None
    weight: float
    opinion: Opinion | None


def attention_after(model: LanguageModel, ids: Sequence[int]) -> list[list[list[float]]]:
    """What each head attended to at the last of T ids: `[L][H][T]`, each head's sum 1.

    Raises SettingsError for a rung without layers, and for no ids or too many.
    """
    with eval_mode(model), torch.inference_mode():
        passes = model.layer_passes(_block(model, ids))
    weights = [found.weights_BHS for found in passes]
    return [of_layer[0].float().tolist() for of_layer in weights if of_layer is not None]


def lens_after(
    model: LanguageModel, ids: Sequence[int], *, following: int | None = None, alternatives: int = 5
) -> list[Opinion]:
    """What the embeddings and each layer would have written after the ids: L + 1 opinions.

    The output layer reads what a layer left as if it were the last (the "logit lens"). The last
    opinion is the model's own; of a `memory` it is its net's.

    following: the token that did come next
    Raises SettingsError as `attention_after` does.
    """
    with eval_mode(model), torch.inference_mode():
        passes = model.layer_passes(_block(model, ids))
        read = [model.read_out(found.hidden_BC)[0].float().softmax(dim=-1) for found in passes]
    return [_opinion(p_V, following, alternatives) for p_V in read]


def gate_after(
    model: LanguageModel, ids: Sequence[int], *, following: int | None = None, alternatives: int = 5
) -> list[Expert]:
    """Whom a `memory` believed after the ids: the net, the counts by length, the longest match.

    following: the token that did come next
    Raises SettingsError for any other rung, and for no ids or too many.
    """
    if not isinstance(model, MemoryGPT):
        raise SettingsError(
            _("the {kind} rung has no gate; a memory has one").format(kind=model.kind)
        )
    ids_BT = _block(model, ids)
    with eval_mode(model), torch.inference_mode():
        weights_BE, p_BEV = model.experts(ids_BT)
        matched = int(longest_match(ids_BT)[1][0, -1])
    counted = range(model.settings.memory_order)
    names = [("net", None), *(("counts", k) for k in counted), ("match", matched)]
    return [
        Expert(name, tokens, weight, _opinion(p_V, following, alternatives) if p_V.any() else None)
        for (name, tokens), weight, p_V in zip(names, weights_BE[0].tolist(), p_BEV[0], strict=True)
    ]


def _block(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """The ids as `[1, T]`. Raises SettingsError for none, too many, or one that is no token."""
    if not ids:
        raise SettingsError(_("there is nothing before this place to look at"))
    ids_BT = torch.tensor([list(ids)], device=model.device)
    check_ids(ids_BT, model.settings.vocab_size)
    model.check_context(ids_BT)
    return ids_BT


def _opinion(p_V: Tensor, following: int | None, alternatives: int) -> Opinion:
    p_K, tokens_K = p_V.topk(min(alternatives, len(p_V)))
    likeliest = list(zip(tokens_K.tolist(), p_K.tolist(), strict=True))
    return Opinion(likeliest, None if following is None else float(p_V[following]))
