"""What a report shows of a model beside its curves: a few passages with their surprisal, where each
head looks in a short one, and the embeddings of the likeliest tokens on a plane.

All of it is plain data that fits in JSON, so that a report is drawn again without the model.
L is the layers, H the heads of each, N the parts of a passage or the tokens of a map.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from semigpt.corpus.corpus import Corpus
from semigpt.dataset import Dataset
from semigpt.errors import SettingsError
from semigpt.evaluation.looking import attention_after
from semigpt.evaluation.surprisal import passages, surprisal
from semigpt.models.base import LanguageModel
from semigpt.tokenizers.base import Tokenizer

__all__ = ["attention_map", "embedding_map", "likeliest_tokens", "portrait"]

PARTS = 14  # of a passage: letters stay legible where sixteen heads stand side by side
MAPPED = 240  # tokens
COUNTED = 2_000_000  # tokens of the training split that say which are likeliest


def portrait(
    model: LanguageModel, tokenizer: Tokenizer, corpus: Corpus, dataset: Dataset
) -> dict[str, Any]:
    """`surprisal`, `attention` and `embeddings` of a model; None for what its rung has not got."""
    shown = passages(corpus.documents("validation"))
    tokens = likeliest_tokens(dataset, tokenizer, MAPPED)
    return {
        "surprisal": [surprisal(model, tokenizer, text) for text in shown],
        "attention": attention_map(model, tokenizer, shown[0]) if shown else None,
        "embeddings": embedding_map(model, tokenizer, tokens),
    }


class Part(NamedTuple):
    """Some tokens that together are whole characters."""

    text: str
    end: int  # tokens up to here, this part included


def attention_map(
    model: LanguageModel, tokenizer: Tokenizer, text: str, most: int = PARTS
) -> dict[str, Any] | None:
    """How much each head looks at each part of a text, once it has read so far.

    `parts` are the first N ≤ `most` of the text, those within a context; `heads[L][H][i]` the
    percent of parts 0 … i at the end of part i. None for a rung without layers, or no text.
    """
    ids = tokenizer.encode(text[: 4 * most]).tolist()[: model.settings.context_length]
    parts = _parts(tokenizer, ids)[:most]
    if not parts:
        return None
    starts = [0, *(part.end for part in parts)]
    try:
        after = [attention_after(model, ids[: part.end]) for part in parts]
    except SettingsError:
        return None

    def percents(layer: int, head: int) -> list[list[int]]:
        rows = []
        for part, weights in enumerate(after):
            sums = np.add.reduceat(weights[layer][head], starts[: part + 1])
            rows.append([round(100 * weight) for weight in sums.tolist()])
        return rows

    heads = [
        [percents(layer, head) for head in range(len(of_layer))]
        for layer, of_layer in enumerate(after[0])
    ]
    return {"parts": [part.text for part in parts], "heads": heads}


def _parts(tokenizer: Tokenizer, ids: list[int]) -> list[Part]:
    decoder, parts, text = tokenizer.stream(), [], ""
    for end, token in enumerate(ids, 1):
        if text := decoder.push(token):
            parts.append(Part(text, end))
    return parts


def likeliest_tokens(dataset: Dataset, tokenizer: Tokenizer, count: int) -> list[int]:
    """The tokens that are commonest in the training split, the commonest first; those that are
    whole characters alone.
    """
    stream = dataset.stream("train")
    seen = np.bincount(stream.read(0, min(COUNTED, len(stream))), minlength=tokenizer.vocab_size)
    order = (int(token) for token in np.argsort(-seen, kind="stable") if seen[token])
    whole = (token for token in order if _is_text(tokenizer.token_bytes(token)))
    return list(islice(whole, count))


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


def embedding_map(
    model: LanguageModel, tokenizer: Tokenizer, tokens: list[int]
) -> dict[str, Any] | None:
    """The embeddings of N tokens on the plane in which they differ most (principal components).

    `x` and `y` are in units of the largest distance from the middle, `variance` the two parts of
    the whole that the plane shows, `width` the directions that there were. None for a model
    without a table of tokens, and for fewer than three tokens.
    """
    table = _token_table(model)
    if table is None or len(tokens) < 3:
        return None
    rows_NC = table[tokens].detach().double().cpu()
    rows_NC = rows_NC - rows_NC.mean(dim=0)
    u_NK, s_K, vh_KC = torch.linalg.svd(rows_NC, full_matrices=False)
    # An axis may point either way: its largest component is positive.
    signs_K = torch.sign(vh_KC.gather(1, vh_KC.abs().argmax(dim=1, keepdim=True))[:, 0])
    points_N2 = (u_NK * s_K * signs_K)[:, :2]
    squares_K = s_K**2
    total = float(squares_K.sum())
    if not 0 < total < float("inf") or points_N2.shape[1] < 2:
        return None
    x_N, y_N = (points_N2 / points_N2.norm(dim=1).max()).T
    return {
        "tokens": [tokenizer.decode([token]) for token in tokens],
        "x": [round(x, 3) for x in x_N.tolist()],
        "y": [round(y, 3) for y in y_N.tolist()],
        "variance": [round(float(square) / total, 4) for square in squares_K[:2]],
        "width": rows_NC.shape[1],
    }


def _token_table(model: LanguageModel) -> Tensor | None:
    """The first table of a model that has a row for each token."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings >= model.settings.vocab_size:
            return module.weight
    return None
