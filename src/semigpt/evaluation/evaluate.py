"""How well a model knows a text: its loss in units a person can weigh, beside baselines anyone understands."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from semigpt.corpus.corpus import Corpus
from semigpt.dataset import Dataset, TokenStream, as_block, prepare_dataset
from semigpt.errors import CorpusError, SettingsError
from semigpt.evaluation.information import Baselines, Information, baselines, bits, xz_bits
from semigpt.models.base import LanguageModel
from semigpt.storage import replace_file
from semigpt.tokenizers.base import Tokenizer
from semigpt.tokenizers.char import CharTokenizer

__all__ = [
    "Evaluation",
    "LossEstimate",
    "estimate_loss",
    "evaluate",
    "measure_baselines",
    "surprise",
    "total_information",
]

# Tokens whose n-grams are counted at most, from the beginning of the training split: 11 bytes of memory and 0.2 µs each.
COUNTED_TOKENS = 100_000_000


@dataclass(frozen=True)
class LossEstimate:
    """A mean loss over fixed blocks, in nats per token, and the standard error of that mean."""

    loss: float
    standard_error: float
    tokens: int


@torch.no_grad()
def estimate_loss(
    model: LanguageModel,
    stream: TokenStream,
    *,
    context_length: int,
    blocks: int,
    rows: int | None = None,
) -> LossEstimate:
    """The loss on `blocks` blocks that lie evenly over the stream: always the same ones, so that two reports differ by
    the model alone. The standard error is of the mean of the blocks' means.
    """
    available = (len(stream) - 1) // context_length
    if available < 1:
        raise CorpusError(
            f"the validation split has {len(stream)} tokens, fewer than one block of context_length {context_length}; give "
            "it more text or a shorter context_length"
        )
    count = min(blocks, available)
    rows = rows or rows_at_once(model)
    starts = (np.arange(count, dtype=np.int64) * available // count) * context_length
    was_training = model.training
    model.eval()
    losses = []
    for first in range(0, count, rows):
        inputs, targets = as_block(stream.windows(starts[first : first + rows], context_length + 1))
        part = model.token_losses(inputs.to(model.device), targets.to(model.device))
        losses.append(part.mean(dim=1).double().cpu())
    model.train(was_training)
    block_losses = torch.cat(losses)
    error = block_losses.std().item() / math.sqrt(count) if count > 1 else math.inf
    return LossEstimate(block_losses.mean().item(), error, count * context_length)


def rows_at_once(model: LanguageModel) -> int:
    """How many windows to score together.

    On a CPU so many that their logits are 16 MB: what is larger is given back to the system and faulted in anew each
    time, which took longer than the arithmetic (film reviews, 4 x 256: 3 min 42 s for the test split).
    """
    if model.device.type != "cpu":
        return 64
    return max(4_000_000 // (model.settings.context_length * model.settings.vocab_size), 1)


def scored_windows(tokens: int, context_length: int, stride: int) -> Iterator[tuple[int, int]]:
    """Windows over a stream as (start, first scored place): each target is scored once, and every one but those of the
    first window with at least `context_length - stride` tokens before it in its window."""
    yield 0, 0
    scored = min(context_length, tokens)
    while scored < tokens:
        stop = min(scored + stride, tokens)
        yield stop - context_length, context_length - (stop - scored)
        scored = stop


@torch.no_grad()
def total_information(
    model: LanguageModel,
    stream: TokenStream,
    *,
    begins_with_end_of_text: bool,
    stride: int | None = None,
    rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, int]:
    """The whole stream's cost under the model: (nats, tokens scored).

    Windows of `context_length` overlap by half (`stride` changes it). With end-of-text ids between documents the
    stream is read as a ring, so that its first token follows an end-of-text and is scored too; without them the first
    token is the one place with nothing before it, and is left out. `progress` gets (tokens scored, tokens in all).
    """
    context = model.settings.context_length
    first = -1 if begins_with_end_of_text else 0
    targets = len(stream) - 1 - first
    if targets < 1:
        raise CorpusError(
            "there is no text to evaluate on: the split is empty; name another with --split"
        )
    if stride is None:
        stride = max(context // 2, 1)
    if not 1 <= stride <= context:
        raise SettingsError(
            f"stride must be between 1 and the context_length {context}, not {stride}"
        )
    width = min(context, targets)
    windows = scored_windows(targets, width, min(stride, width))
    rows = rows or rows_at_once(model)
    was_training = model.training
    model.eval()
    nats, scored, batch = 0.0, 0, []

    def score(batch: list[tuple[int, int]]) -> tuple[float, int]:
        starts = np.array([start for start, _ in batch], dtype=np.int64) + first
        inputs, goals = as_block(stream.windows(starts, width + 1))
        losses = model.token_losses(inputs.to(model.device), goals.to(model.device))
        counted = torch.arange(width)[None] >= torch.tensor([place for _, place in batch])[:, None]
        return losses.cpu()[counted].double().sum().item(), int(counted.sum())

    for window in windows:
        batch.append(window)
        if len(batch) == rows:
            part = score(batch)
            nats, scored, batch = nats + part[0], scored + part[1], []
            if progress is not None:
                progress(scored, targets)
    if batch:
        part = score(batch)
        nats, scored = nats + part[0], scored + part[1]
    model.train(was_training)
    return nats, scored


@torch.no_grad()
def surprise(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[tuple[str, float]]:
    """A text of at most one context, piece by piece with the bits each cost: -log2 of the probability it was given.

    Tokens that are part of a character are joined until the character is whole.
    """
    start = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    ids = torch.tensor(start + tokenizer.encode(text).tolist(), device=model.device)[
        : model.settings.context_length
    ]
    was_training = model.training
    model.eval()
    logits, _ = model(ids[None, :-1])
    model.train(was_training)
    costs = F.cross_entropy(logits[0].float(), ids[1:], reduction="none").tolist()
    found: list[tuple[str, float]] = []
    decoder, held = tokenizer.stream(), 0.0
    for token in ids[: len(ids) - len(costs)].tolist():
        decoder.push(token)  # a first token that nothing precedes costs nothing and is not shown
    for token, nats in zip(ids[-len(costs) :].tolist(), costs, strict=True):
        held += bits(nats)
        if piece := decoder.push(token):
            found.append((piece, held))
            held = 0.0
    return found


@dataclass(frozen=True)
class Evaluation:
    """What a text cost a model, and what it costs simpler ones: all in bits per character but where said otherwise."""

    information: Information
    baselines: Baselines
    source_entropy: (
        float | None
    )  # what the text's own generator knows of it; no model can be below it

    def as_dict(self) -> dict[str, Any]:
        """The object that `semigpt evaluate --json` prints."""
        return {
            **self.information.as_dict(),
            "baselines": self.baselines.as_dict(),
            "source_entropy": self.source_entropy,
        }


def evaluate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    corpus: Corpus,
    split: str,
    *,
    counted_on: Corpus,
    stride: int | None = None,
    xz: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """The model's information on a whole split, beside the baselines counted on `counted_on`'s training split."""
    check_split(corpus, split)
    stream = prepare_dataset(corpus, tokenizer).stream(split)
    nats, tokens = total_information(
        model,
        stream,
        begins_with_end_of_text=tokenizer.end_of_text is not None,
        stride=stride,
        progress=progress,
    )
    information = Information(nats, tokens, corpus.characters(split), corpus.bytes_of(split))
    source = source_entropy(corpus, split)
    return Evaluation(
        information, measure_baselines(corpus, split, counted_on=counted_on, xz=xz), source
    )


def check_split(corpus: Corpus, split: str) -> None:
    """Raise CorpusError where the corpus has no such split or it holds no text."""
    if split not in corpus.splits:
        raise CorpusError(f"no split {split!r} in {corpus.spec}; it has {', '.join(corpus.splits)}")
    if corpus.characters(split) == 0:
        raise CorpusError(f"the {split} split of {corpus.spec} is empty; name another with --split")


def source_entropy(corpus: Corpus, split: str) -> float | None:
    """Bits per character of the split under the very grammar that wrote it, None where nobody knows."""
    total = corpus.source_bits(split)
    return None if total is None else total / corpus.characters(split)


def character_dataset(corpus: Corpus, counted_on: Corpus) -> tuple[Dataset, CharTokenizer]:
    """The corpus in the characters of another's training split: what every baseline is counted over, whatever the
    model's own tokenizer."""
    # Staged text is in NFC, so that it is asked for changes no id; and these are then the shards of the default model.
    tokenizer = CharTokenizer.from_counts(counted_on.character_counts, normalization="NFC")
    return prepare_dataset(corpus, tokenizer), tokenizer


def measure_baselines(
    corpus: Corpus, split: str, *, counted_on: Corpus, xz: bool = True
) -> Baselines:
    """The baselines on one split, kept beside the corpus once measured; counted on the first COUNTED_TOKENS of train."""
    key = hashlib.sha256(f"1 {corpus.fingerprint} {counted_on.fingerprint}".encode()).hexdigest()[
        :16
    ]
    kept = corpus.folder / f"baselines-{split}-{key}.json"
    known: dict[str, Any] = {}
    if kept.exists():
        try:
            known = json.loads(kept.read_text(encoding="utf-8"))
            found = Baselines(**known)
            if not xz or found.xz is not None:
                return found if xz else Baselines(**{**known, "xz": None})
        except (ValueError, TypeError, OSError):
            known = {}
    characters = corpus.characters(split)
    xz_total = xz_bits(pieces(counted_on, "train"), pieces(corpus, split)) if xz else None
    if known:
        found = Baselines(**{**known, "xz": None if xz_total is None else xz_total / characters})
    else:
        dataset, tokenizer = character_dataset(corpus, counted_on)
        counted, _ = character_dataset(counted_on, counted_on)
        found = baselines(
            counted.stream("train").read(0, min(len(counted.stream("train")), COUNTED_TOKENS)),
            dataset.stream(split).read(0, len(dataset.stream(split))),
            tokenizer.vocab_size,
            characters,
            xz=xz_total,
        )
    replace_file(kept, json.dumps(found.as_dict()).encode())
    return found


def pieces(corpus: Corpus, split: str, size: int = 1 << 20) -> Iterator[bytes]:
    """The split's staged bytes, a mebibyte at a time."""
    with corpus.path(split).open("rb") as file:
        while piece := file.read(size):
            yield piece
