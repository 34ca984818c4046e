"""What only a GPU shows: captured steps are the plain ones, runs resume to the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import VOCABULARY, machine, small_model, small_stream
from semigpt.models.gpt import GPT
from semigpt.ngrams.counts import Counts
from semigpt.recipe import Recipe, Stepped, train
from semigpt.training.distillation import Teacher
from semigpt.training.step import backend_of, make_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")

GPU = torch.device("cuda")


def model(rung: str, **changes: object) -> GPT:
    made = small_model(rung, **{"width": 64, "num_heads": 2, "num_kv_heads": None, **changes}).to(
        GPU
    )
    assert isinstance(made, GPT)
    return made


def batch(rows: int = 3) -> tuple[Tensor, Tensor]:
    windows = torch.from_numpy(small_stream()[: rows * 17].astype("int64")).view(rows, 17).to(GPU)
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def learn(
    made: GPT, backend: str, *distillation_weights: float
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Losses and gradients of micro-batches of two shapes, at the last of the weights."""
    counts = Counts.fit(small_stream(), VOCABULARY, order=3).to(GPU)
    step = make_step(made, machine(backend), Teacher(counts, loss=0.0))
    for weight in distillation_weights:
        made.zero_grad()
        losses = [step(*batch(rows), 0.25, weight) for rows in (3, 3, 2)]
    return losses, {
        name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("rung", ["gpt", "memory"])
@pytest.mark.parametrize("weights", [(0.0,), (1.0, 0.4)])
def test_a_captured_step_is_the_plain_one(rung: str, weights: tuple[float, ...]) -> None:
    """Also where it was captured with one distillation weight and is replayed with another."""
    made = model(rung)
    assert backend_of(made, machine()) == "cuda graph"
    assert backend_of(made, machine("plain")) == "autograd"
    captured, plain = learn(made, "auto", *weights), learn(model(rung), "plain", *weights)
    assert captured[1].keys() == plain[1].keys() == dict(made.named_parameters()).keys()
    torch.testing.assert_close(captured, plain, rtol=1e-4, atol=1e-6)


def test_captured_dropout_is_new_in_each_step_and_the_same_again() -> None:
    losses = []
    for _ in range(2):
        made = model("gpt", dropout=0.3)
        step = make_step(made, machine())
        torch.manual_seed(5)
        losses.append([float(step(*batch())) for _ in range(3)])
        assert len(set(losses[-1])) == 3
    assert losses[0] == losses[1]


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute:UserWarning"
)  # and of what a compiled block reads
@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method`:DeprecationWarning"
)  # torch 2.11's own, while it compiles
@pytest.mark.parametrize("changes", [{}, {"machine.compile": True}, {"model.context_length": 600}])
def test_a_run_goes_on_to_the_same_bits(
    changes: dict[str, object], tmp_path: Path, korean_text: str
) -> None:
    text_file = tmp_path / "글.txt"
    text_file.write_text(
        "\n\n".join(f"{i}번 글. {korean_text}" for i in range(200)), encoding="utf-8"
    )
    tables: dict[str, dict[str, object]] = {
        "data": {"spec": str(text_file)},
        "model": {
            "context_length": 128,
            "width": 64,
            "num_layers": 2,
            "num_heads": 2,
            "dropout": 0.1,
        },
        "training": {
            "steps": 12,
            "batch_size": 8,
            "eval_blocks": 8,
            "save_every": 3,
            "teacher": "counts",
        },
        "sample": {"max_new_tokens": 8},
        "machine": {"device": "cuda"},
    }
    for name, value in changes.items():
        table, key = name.split(".")
        tables[table][key] = value
    recipe = Recipe.from_tables(tables)
    for _ in train(recipe, tmp_path / "whole"):
        pass
    for event in train(recipe, tmp_path / "left"):
        if isinstance(event, Stepped) and event.report.step == 8:
            break
    for _ in train(recipe, tmp_path / "left", resume=True):
        pass
    for name in ("metrics.jsonl", "model/model.safetensors", "samples.jsonl"):
        assert (tmp_path / "left" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes(), name


def test_counts_say_there_what_they_say_on_a_cpu() -> None:
    counts = Counts.fit(small_stream(), VOCABULARY, order=4)
    there = counts.to(GPU)
    inputs, targets = batch()
    here = inputs.cpu(), targets.cpu()
    for left_out in (False, True):
        torch.testing.assert_close(
            there.distribution(inputs, targets if left_out else None).cpu(),
            counts.distribution(here[0], here[1] if left_out else None),
        )
        for a, b in zip(
            there.lookup(inputs, targets, leave_one_out=left_out),
            counts.lookup(*here, leave_one_out=left_out),
            strict=True,
        ):
            torch.testing.assert_close(a.cpu(), b)
