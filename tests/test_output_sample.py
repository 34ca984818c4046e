"""A step with a sampled output layer: right in expectation, the same in C and in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import machine, small_model
from semigpt import auto
from semigpt.device import MachineSettings
from semigpt.errors import SettingsError
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.models.memory import MemoryGPT, MemorySettings
from semigpt.native.compiler import NativeUnavailableError
from semigpt.native.gpt_step import library
from semigpt.native.gpt_weights import SampledRows
from semigpt.ngrams.counts import Counts
from semigpt.output_layer import output_sample
from semigpt.recipe import Recipe, Stepped, train
from semigpt.run_folder import RunFolder
from semigpt.studies.crash_test import compared_files, small_tables
from semigpt.training.distillation import Teacher
from semigpt.training.output_sample import OutputSampler
from semigpt.training.sharding import check_sharded
from semigpt.training.step import make_step

V, ROWS = 500, 128
TEXT = (np.random.default_rng(0).zipf(1.2, 20_000) % V).astype(np.uint16)
FREQUENCY_V = torch.bincount(torch.from_numpy(TEXT.astype(np.int64)), minlength=V)


@pytest.fixture(scope="module")
def counts() -> Counts:
    return Counts.fit(TEXT, V, order=4)


def model(memory: Counts | None = None) -> GPT:
    """A `gpt`, or a memory that holds these counts."""
    torch.manual_seed(0)
    shape: dict[str, int] = {"context_length": 16, "width": 64, "num_layers": 1, "num_heads": 2}
    if memory is None:
        made = GPT(GPTSettings(vocab_size=V, **shape))
    else:
        made = MemoryGPT(MemorySettings(vocab_size=V, memory_order=memory.order, **shape))
        made.set_counts(memory)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def batch() -> tuple[Tensor, Tensor]:
    windows = torch.from_numpy(TEXT[:68].astype(np.int64)).view(4, 17)
    return windows[:, :-1], windows[:, 1:]


def learn(
    made: GPT, backend: str, seed: int, rows: int = ROWS, counts: Counts | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradients of one step, half of the targets the teacher's."""
    teacher = None if counts is None else Teacher(counts, loss=0.0)
    step = make_step(made, machine(backend), teacher, sampler=OutputSampler(rows, FREQUENCY_V))
    torch.manual_seed(seed)
    made.zero_grad()
    loss = step(*batch(), 1.0, 0.0 if counts is None else 0.5)
    return loss, {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def test_every_token_is_drawn_as_often_as_its_weight_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler, (_, targets_BT) = OutputSampler(ROWS, FREQUENCY_V), batch()
    stands_for_V, draws = torch.zeros(V, dtype=torch.float64), 500
    for draw in range(draws):
        start = torch.tensor((draw + 0.5) / draws, dtype=torch.float64)
        monkeypatch.setattr(torch, "rand", lambda *_, start=start, **__: start)
        rows = sampler.draw(targets_BT)
        assert rows is not None
        assert len(rows.ids_S) == len(rows.ids_S.unique()) == ROWS
        assert torch.equal(rows.ids_S[rows.places(targets_BT)], targets_BT)
        assert (rows.weight_S[rows.places(targets_BT)] == 1).all()
        stands_for_V[rows.ids_S] += rows.weight_S / draws
    torch.testing.assert_close(stands_for_V, torch.ones_like(stands_for_V), rtol=0, atol=0.05)


@pytest.fixture(params=["plain", "taught", "memory"])
def made_and_teacher(request: pytest.FixtureRequest, counts: Counts) -> tuple[GPT, Counts | None]:
    """A net, and the counts that teach it where they do."""
    memory = counts if request.param == "memory" else None
    return model(memory), counts if request.param == "taught" else None


def test_the_mean_gradient_is_near_that_of_the_whole_layer(
    made_and_teacher: tuple[GPT, Counts | None],
) -> None:
    made, teacher = made_and_teacher
    loss, whole = learn(made, "auto", 0, V, teacher)
    found = [learn(made, "auto", seed, ROWS, teacher) for seed in range(100)]
    assert abs(torch.stack([sampled for sampled, _ in found]).mean() - loss) < 0.02
    for name, gradient in whole.items():
        mean = torch.stack([gradients[name] for _, gradients in found]).mean(dim=0)
        assert (mean - gradient).norm() < 0.15 * gradient.norm(), name


def test_c_and_autograd_agree(made_and_teacher: tuple[GPT, Counts | None]) -> None:
    try:
        library(torch.float32)
    except NativeUnavailableError as error:
        pytest.skip(str(error))
    made, teacher = made_and_teacher
    ours, autograds = (learn(made, backend, 5, ROWS, teacher) for backend in ("native", "plain"))
    torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=1e-6)
    again, other = (learn(made, "native", seed, ROWS, teacher) for seed in (5, 6))
    assert torch.equal(ours[0], again[0])
    assert all(torch.equal(ours[1][name], again[1][name]) for name in ours[1])
    assert ours[0] != other[0]


def test_outside_training_the_whole_layer_is_computed() -> None:
    made = model().eval()
    plain = make_step(made, machine())(*batch())
    assert learn(made, "auto", 0)[0] == plain


@pytest.mark.parametrize("rung", ["bigram", "blocks"])
def test_other_rungs_are_refused(rung: str) -> None:
    with pytest.raises(SettingsError, match=r"output_sample is of a gpt or a memory on a CPU"):
        make_step(small_model(rung), machine(), sampler=OutputSampler(64, FREQUENCY_V))


def test_a_sharded_model_has_it_whole() -> None:
    plain = MachineSettings(backend="plain")
    check_sharded(plain)
    with pytest.raises(SettingsError, match=r"output layer is not sampled"):
        check_sharded(plain, output_sample=64)


def test_a_run_that_was_left_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, drawn = OutputSampler.draw, []

    def counted(self: OutputSampler, targets_BT: Tensor) -> SampledRows | None:
        drawn.append(draw(self, targets_BT))
        return drawn[-1]

    monkeypatch.setattr(OutputSampler, "draw", counted)
    recipe = Recipe.from_tables(small_tables("gpt", steps=8, save_every=3, output_sample=64))
    list(train(recipe, tmp_path / "whole"))
    for event in train(recipe, tmp_path / "left"):
        if isinstance(event, Stepped) and event.report.step == 5:
            break
    list(train(recipe, tmp_path / "left"))
    whole, left = compared_files(tmp_path / "whole"), compared_files(tmp_path / "left")
    assert [name for name in whole if whole[name] != left[name]] == []
    assert len(drawn) > 8 + 8
    assert all(rows is not None for rows in drawn)


def test_a_run_from_before_there_was_a_choice_keeps_the_whole_layer(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", tables := small_tables("gpt", steps=8))
    run.unlock()
    assert "output_sample" not in tables["training"]
    saved = Recipe.from_tables(run.config())
    assert Recipe.from_tables(tables).resumed_from(saved, run.path).training.output_sample == 0


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, 2585),
        ({"training": {"output_sample": 0}}, 0),
        ({"training": {"steps": 100}}, 0),
        ({"training": {"minutes": 5, "most_tokens": 10**6}}, 0),
        ({"machine": {"backend": "plain"}}, 0),
        ({"machine": {"precision": "bfloat16"}}, 0),
        ({"model": {"size": "small"}}, 0),
        ({"model": {"kind": "memory"}}, 2585),
    ],
)
def test_it_is_chosen_where_it_was_measured(
    changes: dict[str, dict[str, object]], rows: int
) -> None:
    machine = {"device": "cpu", "precision": "float32", **changes.get("machine", {})}
    recipe = Recipe.from_tables({**changes, "machine": machine})
    model = replace(recipe.model, vocab_size=8000)
    assert output_sample(recipe, model, 24, 22_000_000) == rows
    assert output_sample(recipe, model, 24, 1_000_000) == 0
    assert output_sample(recipe, replace(model, vocab_size=3000), 24, 22_000_000) == 0


def test_a_batch_with_many_targets_has_more_rows() -> None:
    assert auto.output_rows(8000, 24 * 128, 128, 850_000) == 2585
    assert auto.output_rows(8000, 200 * 128, 128, 850_000) == 0
    targets_BT = torch.arange(200).view(2, 100)
    rows = OutputSampler(ROWS, FREQUENCY_V).draw(targets_BT)
    assert rows is not None
    assert len(rows.ids_S) == 256
    assert OutputSampler(ROWS, FREQUENCY_V).draw(torch.arange(V).view(2, -1)) is None
