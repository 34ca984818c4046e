"""A model measured in the middle of its training: a loss, and a text that it writes."""

from __future__ import annotations

from typing import NamedTuple

from semigpt.config import SampleSettings
from semigpt.corpus.corpus import Corpus
from semigpt.dataset import Dataset
from semigpt.evaluation.evaluate import LossEstimate, estimate_loss
from semigpt.generation.engine import generate_text
from semigpt.models.base import LanguageModel
from semigpt.parallel import ALONE, Group, Turn
from semigpt.tokenizers.base import Tokenizer
from semigpt.training.optimizer import Optimizer
from semigpt.training.settings import TrainingSettings

__all__ = ["Measurement", "Text", "measure"]


class Text(NamedTuple):
    """A text ready to be trained on."""

    corpus: Corpus
    tokenizer: Tokenizer
    dataset: Dataset


class Measurement(NamedTuple):
    """The loss on the validation split's fixed blocks, and a text as the model writes it."""

    estimate: LossEstimate
    sample: str
    whole: LanguageModel | None = None  # a sharded model's copy, with the weights measured


def measure(
    model: LanguageModel,
    text: Text,
    settings: TrainingSettings,
    sample: SampleSettings,
    group: Group = ALONE,
    optimizer: Optimizer | None = None,
) -> Measurement:
    """Measure a model as it is now; the loss with the other processes of a training.

    optimizer: that of a model which may be sharded; the text is written by a whole copy then
    """
    group.agree(0.0, Turn.EVALUATION)
    estimate = estimate_loss(
        model,
        text.dataset.stream("validation"),
        context_length=model.settings.context_length,
        blocks=settings.eval_blocks,
        group=group,
        unscored=text.tokenizer.unscored,
    )
    whole = optimizer.whole(model) if optimizer is not None else None
    sampled = generate_text(
        whole or model,
        text.tokenizer,
        sample.prompt,
        max_new_tokens=sample.max_new_tokens,
        sampling=sample.sampling(),
        seed=settings.seed,
    )[0]
    return Measurement(estimate, sampled, None if whole is model else whole)
