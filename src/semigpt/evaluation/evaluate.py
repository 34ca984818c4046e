"""A model's loss on a split: estimated on a few blocks, or exact and beside the baselines."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from semigpt import html
from semigpt.corpus.corpus import Corpus
from semigpt.dataset import TokenStream, as_block, prepare_dataset
from semigpt.errors import CorpusError, SettingsError
from semigpt.evaluation.baselines import Baselines, measure_baselines
from semigpt.evaluation.information import Information
from semigpt.language import _
from semigpt.models.base import LanguageModel, check_ids, windows_of
from semigpt.models.gpt import GPT
from semigpt.models.gpt_native import native_forward
from semigpt.parallel import ALONE, Group
from semigpt.tokenizers.base import Tokenizer

__all__ = [
    "Evaluation",
    "LossEstimate",
    "check_split",
    "estimate_loss",
    "eval_mode",
    "evaluate",
    "scored_windows",
    "source_entropy",
    "total_information",
]

# Windows scored at a time on a GPU, and what they have at most: tokens whose losses are wanted
# alone, logits where they are held whole.
GPU_ROWS, GPU_TOKENS, GPU_LOGITS = 64, 1 << 16, 1 << 27
# Windows of a split scored at a time on a CPU, or twice as many of 128 tokens. Film reviews by a
# `memory`: 16 of those 9.0 s of one core, 32 8.7, 64 8.7.
CPU_ROWS, CPU_TOKENS = 16, 1 << 12
# Logits of 16 MB: larger ones are given back to the system and faulted in anew at each batch. The
# film reviews' test split took 6 min 44 s with 64 windows, 2 min 20 s with these; docs/log.md.
CPU_LOGITS = 4_000_000


@dataclass(frozen=True, repr=False)
class LossEstimate:
    """A mean loss on `tokens` tokens in nats per token, and the standard error of that mean."""

    loss: float
    standard_error: float
    tokens: int

    def __repr__(self) -> str:
        return (
            f"<LossEstimate: {self.loss:.4f} ± {self.standard_error:.4f} nats per token "
            f"on {self.tokens:,} tokens>"
        )

    def _repr_html_(self) -> str:
        rows = [
            (_("loss, nats per token"), f"{self.loss:.4f}"),
            (_("its standard error"), f"{self.standard_error:.4f}"),
            ("tokens", f"{self.tokens:,}"),
        ]
        return html.table(_("Loss estimate"), rows)


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A text's information under a model, and what simpler models need for it.

    `source_entropy` is what the text's own generator needs, in bits per character: no model can be
    below it. None where nobody knows it.
    """

    information: Information
    baselines: Baselines
    source_entropy: float | None

    def as_dict(self) -> dict[str, Any]:
        """The object that `semigpt evaluate --json` prints."""
        return {
            **self.information.as_dict(),
            "baselines": self.baselines.as_dict(),
            "source_entropy": self.source_entropy,
        }

    def bits_per_character(self) -> list[tuple[str, float]]:
        """(name, bits per character) of model, baselines and source, the largest first."""
        rows = [(_("this model"), self.information.bits_per_character), *self.baselines.named()]
        if self.source_entropy is not None:
            rows.append((_("the source itself: no model can be below"), self.source_entropy))
        return sorted(rows, key=lambda row: -row[1])

    def __repr__(self) -> str:
        others = ", ".join(
            f"{name} {value:.3f}"
            for name, value in self.bits_per_character()
            if name != _("this model")
        )
        own = self.information.bits_per_character
        return f"<Evaluation: {own:.4f} bits per character; {others}>"

    def _repr_html_(self) -> str:
        rows = [(name, f"{value:.4f}") for name, value in self.bits_per_character()]
        title = _("Bits per character on {characters:,} characters").format(
            characters=self.information.characters
        )
        return html.table(title, rows)


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
    """The information of a whole split, beside baselines counted on `counted_on`'s training split.

    stride:   tokens from one window to the next, half the context length by default
    xz:       whether xz is among the baselines; it is the slow one
    progress: called with (tokens scored, tokens in all)

    Raises CorpusError for a split that is not there or empty, SettingsError for a stride that
    cannot be.
    """
    check_split(corpus, split)
    stream = prepare_dataset(corpus, tokenizer).stream(split)
    nats, tokens = total_information(
        model,
        stream,
        begins_with_end_of_text=tokenizer.end_of_text is not None,
        unscored=tokenizer.unscored,
        stride=stride,
        progress=progress,
    )
    information = Information(nats, tokens, corpus.characters(split), corpus.bytes_of(split))
    baselines = measure_baselines(corpus, split, counted_on=counted_on, xz=xz)
    return Evaluation(information, baselines, source_entropy(corpus, split))


def check_split(corpus: Corpus, split: str) -> None:
    """Raise CorpusError where the corpus has no such split or it holds no text."""
    if split not in corpus.splits:
        raise CorpusError(
            _("no split {split!r} in {spec}; it has {splits}").format(
                split=split, spec=corpus.spec, splits=", ".join(corpus.splits)
            )
        )
    if corpus.characters(split) == 0:
        raise CorpusError(
            _("the {split} split of {spec} is empty; name another with --split").format(
                split=split, spec=corpus.spec
            )
        )


def source_entropy(corpus: Corpus, split: str) -> float | None:
    """Bits per character of the split under the grammar that wrote it; None if not known."""
    total = corpus.source_bits(split)
    return None if total is None else total / corpus.characters(split)


@torch.no_grad()
def estimate_loss(
    model: LanguageModel,
    stream: TokenStream,
    *,
    context_length: int,
    blocks: int,
    unscored: int | None = None,
    rows: int | None = None,
    group: Group = ALONE,
) -> LossEstimate:
    """The mean loss on `blocks` blocks of `context_length` tokens, spread evenly over the stream.

    They are the same at every call, so two estimates differ by the model alone. The standard error
    is that of the mean of the blocks' means, infinite for a single block. `unscored` tokens count
    as 0. `rows` blocks are scored at a time, by the processes of the `group` in turn:
    each gets the same estimate.

    Raises CorpusError where the stream is shorter than a block.
    """
    available = (len(stream) - 1) // context_length
    if available < 1:
        raise CorpusError(
            _(
                "the validation split has {count} tokens, fewer than one block of "
                "context_length {context_length}; give it more text or a shorter context_length"
            ).format(count=len(stream), context_length=context_length)
        )
    count = min(blocks, available)
    rows = rows or rows_at_once(model)
    starts = (np.arange(count, dtype=np.int64) * available // count) * context_length
    own_losses = torch.zeros(count, dtype=torch.float64)
    with eval_mode(model):
        own = range(group.rank * rows, count, group.size * rows)
        for first in own:
            windows = stream.windows(starts[first : first + rows], context_length + 1)
            own_losses[first : first + rows] = _losses(model, windows, unscored).mean(dim=1)
        if group.sharded and len(own) < len(range(0, count, group.size * rows)):
            # The others need this process's part of the model once more.
            _losses(model, stream.windows(starts[:1], context_length + 1), unscored)
    block_losses = group.sum(own_losses)
    error = block_losses.std().item() / math.sqrt(count) if count > 1 else math.inf
    return LossEstimate(block_losses.mean().item(), error, count * context_length)


@torch.no_grad()
def total_information(
    model: LanguageModel,
    stream: TokenStream,
    *,
    begins_with_end_of_text: bool,
    unscored: int | None = None,
    stride: int | None = None,
    rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, int]:
    """The whole stream's information under the model: (nats, tokens scored).

    begins_with_end_of_text: the stream has an end-of-text id behind each document. It is then read
                             as a ring, so that its first token follows an end-of-text and is scored
                             too. Otherwise the first token is left out: nothing precedes it.
    unscored:                a token that is read and not scored (`Tokenizer.unscored`)
    stride:                  tokens from one window of `context_length` to the next, half of it by
                             default
    rows:                    windows scored at a time
    progress:                called with (tokens scored, tokens in all)

    Raises CorpusError for an empty stream, SettingsError for a stride beyond the context length or
    below 1.
    """
    context = model.settings.context_length
    first = -1 if begins_with_end_of_text else 0
    targets = len(stream) - 1 - first
    if targets < 1:
        raise CorpusError(
            _("there is no text to evaluate on: the split is empty; name another with --split")
        )
    if stride is None:
        stride = max(context // 2, 1)
    if not 1 <= stride <= context:
        raise SettingsError(
            _("stride must be between 1 and the context_length {context}, not {stride}").format(
                context=context, stride=stride
            )
        )
    width = min(context, targets)
    windows = scored_windows(targets, width, min(stride, width))
    on_gpu = min(GPU_ROWS, max(GPU_TOKENS // width, 1))
    on_cpu = max(CPU_ROWS, min(CPU_TOKENS // width, 2 * CPU_ROWS))
    rows = rows or (on_cpu if model.device.type == "cpu" else on_gpu)
    nats, scored = 0.0, 0
    with eval_mode(model):
        score = model.window_losses
        if isinstance(model, GPT) and (forward := native_forward(model)) is not None:
            score = partial(model.window_losses, forward=forward)
        while batch := list(islice(windows, rows)):
            starts, first_scored = torch.tensor(batch).T
            begin, stretch = int(starts[0]), int(starts[-1] - starts[0]) + width + 1
            ids = stream.windows(np.array([begin + first]), stretch)[0]
            check_ids(torch.from_numpy(ids), model.settings.vocab_size)
            counted = torch.arange(width) >= first_scored[:, None]
            if unscored is not None:
                stretch_S = torch.from_numpy(ids)
                counted &= windows_of(stretch_S, starts - begin, width + 1)[:, 1:] != unscored
            losses = score(
                *(torch.from_numpy(ids).to(model.device), (starts - begin).to(model.device)),
                counted.to(model.device),
            )
            nats += losses.double().sum().item()
            scored += len(losses)
            if progress is not None:
                progress(scored, targets)
    return nats, scored


def scored_windows(tokens: int, context_length: int, stride: int) -> Iterator[tuple[int, int]]:
    """Windows that score each of `tokens` targets once: (start, index of the first target scored).

    Past the first window every target has at least `context_length - stride` tokens before it in
    its window.
    """
    yield 0, 0
    scored = min(context_length, tokens)
    while scored < tokens:
        stop = min(scored + stride, tokens)
        yield stop - context_length, context_length - (stop - scored)
        scored = stop


def rows_at_once(model: LanguageModel) -> int:
    """How many windows of the model's context length to score together."""
    logits = model.settings.context_length * model.settings.vocab_size
    if model.device.type != "cpu":
        return min(GPU_ROWS, max(GPU_LOGITS // logits, 1))
    return max(CPU_LOGITS // logits, 1)


@contextlib.contextmanager
def eval_mode(model: LanguageModel) -> Iterator[None]:
    """Without dropout inside the block; afterwards the model is in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _losses(
    model: LanguageModel, windows_BT: np.ndarray[Any, Any], unscored: int | None
) -> torch.Tensor:
    """Each target's loss in nats, 0 for `unscored`, on its device. Ids [B, T + 1] → [B, T]."""
    inputs_BT, targets_BT = (block.to(model.device) for block in as_block(windows_BT))
    losses_BT = model.token_losses(inputs_BT, targets_BT)
    return losses_BT if unscored is None else losses_BT.masked_fill(targets_BT == unscored, 0.0)
