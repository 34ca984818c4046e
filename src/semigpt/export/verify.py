"""An exported file is good if its runtime gives the ids, the probabilities and the text that
semigpt gives.
"""

from __future__ import annotations

import math
import tomllib
import unicodedata
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.tokenizers.base import Tokenizer

__all__ = ["EXACT", "Bound", "Runtime", "Verdict", "trial_texts", "verify"]

NEW = 12  # tokens written after each prompt


class Runtime(Protocol):
    """A program that has loaded an exported file.

    sum_rounding: how far all log-probabilities that it tells of a step may be off alike, in nats,
        since it rounds the sum of the probabilities
    """

    name: str
    sum_rounding: float

    def encode(self, text: str) -> list[int]:
        """The ids that it gives its model for a prompt."""

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, without special tokens."""

    def continue_greedily(
        self, ids: list[int], count: int
    ) -> tuple[list[int], NDArray[np.float64]]:
        """At most `count` new ids, each the likeliest, and the log-probabilities that each was
        chosen by, `[ids, vocabulary]`; NaN for those it does not tell.
        """


@dataclass(frozen=True, kw_only=True)
class Bound:
    """How far a file may be from the model: the furthest log-probability, in nats, and the mean
    Kullback-Leibler divergence, in bits per token.
    """

    difference: float = math.inf
    divergence: float = math.inf
    same_text: bool = False


EXACT = Bound(difference=5e-5, same_text=True)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What `verify` found: of all `texts` the same ids, and the texts back.

    After `prompts` prompts the runtime wrote greedily, `same` times as the model does. At `tokens`
    of the places it told log-probabilities: `difference` is the furthest from the model's, in nats,
    `divergence` the mean Kullback-Leibler divergence, in bits per token.
    """

    runtime: str
    texts: int
    tokens: int
    difference: float
    divergence: float
    same: int
    prompts: int

    @property
    def found(self) -> str:
        """What was found, for a person."""
        exact = self.difference <= EXACT.difference
        loss = (
            ""
            if exact
            else _(", {divergence:.1g} bits per token away").format(divergence=self.divergence)
        )
        return _(
            "{texts} texts: the same ids; {tokens} tokens: log-probabilities within "
            "{difference:.1e}{loss}; {same} of {prompts} greedy texts the same"
        ).format(
            texts=self.texts,
            tokens=self.tokens,
            difference=self.difference,
            loss=loss,
            same=self.same,
            prompts=self.prompts,
        )


def trial_texts() -> list[str]:
    """The Korean that files are tried on."""
    content = resources.files("semigpt.export").joinpath("trials.toml").read_text("utf-8")
    texts: list[str] = tomllib.loads(content)["texts"]
    return texts


def verify(model: LanguageModel, tokenizer: Tokenizer, runtime: Runtime, bound: Bound) -> Verdict:
    """Compare `runtime` with the model on `trial_texts`.

    Raises CheckpointError, saying where, for other ids, a text that does not come back, or
    probabilities or greedy text further away than `bound`.
    """
    end = tokenizer.end_of_text
    assert end is not None
    texts = [unicodedata.normalize("NFC", text) for text in trial_texts()]
    rows = [[end, *tokenizer.encode(text).tolist()] for text in texts]
    for text, ids in zip(texts, rows, strict=True):
        if (found := runtime.encode(text)) != ids:
            pairs = enumerate(zip(found, ids, strict=False))
            place = next((i for i, (a, b) in pairs if a != b), min(len(found), len(ids)))
            raise _refused(
                runtime,
                _("gives other ids for {text!r}, from token {place} on").format(
                    text=text[:20], place=place
                ),
            )
        if (back := runtime.decode(ids)) != text:
            raise _refused(
                runtime,
                _("turns the ids of {text!r} into {back!r}").format(text=text[:20], back=back[:20]),
            )
    context = model.settings.context_length
    prompts = [[end], *(row[: max(context // 2, 1)] for row in rows)]
    differences: list[float] = []
    divergences: list[float] = []
    same = 0
    for prompt in prompts:
        written, theirs = runtime.continue_greedily(prompt, min(NEW, context // 2 + 1))
        ours = _log_probabilities(model, [*prompt, *written[:-1]])[len(prompt) - 1 :]
        told = ~np.isnan(theirs).all(1)
        ours_told, theirs_told = ours[told], theirs[told]
        differences.append(_furthest(ours_told, theirs_told, runtime.sum_rounding))
        divergences += map(_divergence, ours_told, theirs_told)
        chosen = ours[np.arange(len(written)), written]
        same += bool((ours.max(1, initial=-np.inf) - chosen <= 1e-4).all())
    verdict = Verdict(
        runtime=runtime.name,
        texts=len(texts),
        tokens=len(divergences),
        difference=max(differences),
        divergence=max(float(np.mean(divergences)), 0.0),  # rounded, it may be below
        same=same,
        prompts=len(prompts),
    )
    if not verdict.difference <= bound.difference:
        raise _refused(
            runtime,
            _("gives log-probabilities {difference:.1e} away").format(
                difference=verdict.difference
            ),
        )
    if not verdict.divergence <= bound.divergence:
        raise _refused(
            runtime,
            _("is {divergence:.4f} bits per token away").format(divergence=verdict.divergence),
        )
    if bound.same_text and same < len(prompts):
        raise _refused(
            runtime,
            _("writes another text after {count} prompts").format(count=len(prompts) - same),
        )
    return verdict


def _log_probabilities(model: LanguageModel, ids: list[int]) -> NDArray[np.float64]:
    """Of every token after each of `ids`: `[T, V]`."""
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0][0, :, : model.settings.vocab_size]
        rows: NDArray[np.float64] = logits.double().log_softmax(-1).numpy()
    return rows


def _furthest(
    ours_NV: NDArray[np.float64], theirs_NV: NDArray[np.float64], sum_rounding: float
) -> float:
    """The furthest of theirs, without what all of a step share up to `sum_rounding`."""
    if not len(ours_NV):
        return 0.0
    apart_NV = theirs_NV - ours_NV
    shared_N1 = np.nanmedian(apart_NV, axis=1, keepdims=True).clip(-sum_rounding, sum_rounding)
    return float(np.nanmax(np.abs(apart_NV - shared_N1)))


def _divergence(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Kullback-Leibler, in bits; the tokens that theirs does not tell count as one."""
    told = ~np.isnan(theirs)
    p, q = np.exp(ours[told]), np.exp(theirs[told])
    p, q = (np.append(x, max(1 - x.sum(), 1e-9)) for x in (p, q))
    return float((p * np.log2(p / q)).sum())


def _refused(runtime: Runtime, what: str) -> CheckpointError:
    return CheckpointError(_("{name} {what}; no file is left").format(name=runtime.name, what=what))
