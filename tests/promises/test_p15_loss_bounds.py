"""P15: a fresh model's loss is ln V within 5 %, and one batch is learned by heart; every rung."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from semigpt.corpus import prepare_corpus
from semigpt.dataset import Dataset, TokenStream, prepare_dataset
from semigpt.evaluation.baselines import measure_baselines
from semigpt.evaluation.evaluate import source_entropy, total_information
from semigpt.evaluation.information import bits
from semigpt.models import build_model
from semigpt.models.bigram import SemiGPT
from semigpt.tokenizers import CharTokenizer
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.progress import Progress
from semigpt.training.settings import TrainingSettings
from semigpt.training.trainer import training_steps


def test_a_fresh_model_knows_nothing(rung: str) -> None:
    torch.manual_seed(0)
    model = build_model(rung, 2701, {"context_length": 32})
    _, loss = model(torch.randint(0, 2701, (8, 32)), torch.randint(0, 2701, (8, 32)))
    assert loss.item() == pytest.approx(math.log(2701), rel=0.05)


def test_one_batch_can_be_learned_by_heart(rung: str) -> None:
    torch.manual_seed(0)
    # Every token once: what follows is certain, even to a table that sees one token back.
    stream = TokenStream([np.random.default_rng(0).permutation(65).astype(np.uint16)], 1)
    dataset = Dataset({"train": stream}, 65, "", "")
    # Dropout would keep a part of the answer from the model; the book's rungs are small and want
    # larger rates.
    table = {"dropout": 0.0} if rung in ("feedforward", "blocks") else {}
    model = build_model(rung, 65, {"context_length": 16, **table})
    rate = {"bigram": 0.3, "feedforward": 0.01, "gpt": 3e-3}.get(rung, 0.02)
    optimizer = Optimizer(
        model,
        OptimizerSettings(
            optimizer="adamw", learning_rate=rate, weight_decay=0, schedule="constant"
        ),
    )
    for report in training_steps(
        model, dataset, optimizer, TrainingSettings(steps=80, batch_size=4), Progress()
    ):
        last = report.loss
    assert last < 0.05, f"80 steps on one batch left {last:.3f} nats per token"


def test_nothing_that_learnt_from_the_news_beats_the_grammar_that_wrote_it() -> None:
    """On unseen text of the bundled corpus the grammar's own information is the least there is."""
    corpus = prepare_corpus("news#articles=300")
    tokenizer = CharTokenizer.from_counts(corpus.character_counts)
    dataset = prepare_dataset(corpus, tokenizer)
    entropy = source_entropy(corpus, "test")
    assert entropy is not None
    assert 0.3 < entropy < 1.0
    counted = SemiGPT.from_counts(dataset)
    nats, _ = total_information(counted, dataset.stream("test"), begins_with_end_of_text=True)
    assert bits(nats) / corpus.characters("test") > entropy
    baselines = measure_baselines(corpus, "test", counted_on=corpus, xz=True)
    for name, value in baselines.as_dict().items():
        assert value is not None
        assert value > entropy, f"{name} is below what the text's own source pays"
