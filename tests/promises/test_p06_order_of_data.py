"""P6: the blocks of a step depend on (seed, step, data), not on processes and micro-batches."""

from __future__ import annotations

import pytest
import torch

from conftest import small_model
from semigpt.dataset import BlockOrder, Dataset
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.progress import Progress
from semigpt.training.settings import TrainingSettings
from semigpt.training.trainer import training_steps


@pytest.mark.parametrize("order", ["epoch", "random"])
def test_the_same_blocks_at_one_two_and_four_processes(dataset: Dataset, order: BlockOrder) -> None:
    for step in (0, 1, 77):
        whole = dataset.batch("train", 16, 8, seed=3, step=step, order=order)
        for processes in (1, 2, 4):
            parts = [
                dataset.batch(
                    "train", 16, 8, seed=3, step=step, order=order, rank=rank, world_size=processes
                )
                for rank in range(processes)
            ]
            for index in (0, 1):
                assert torch.equal(torch.cat([part[index] for part in parts]), whole[index])


@pytest.mark.parametrize("accumulation", [1, 2, 8])
def test_the_same_blocks_at_one_two_and_eight_micro_batches(
    dataset: Dataset, accumulation: int
) -> None:
    """What the model really is given, in its order."""
    model = small_model("gpt")
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    settings = TrainingSettings(steps=3, batch_size=8, gradient_accumulation=accumulation, seed=3)
    list(
        training_steps(model, dataset, Optimizer(model, OptimizerSettings()), settings, Progress())
    )
    assert len(seen) == 3 * accumulation
    expected = [dataset.batch("train", 16, 8, seed=3, step=step)[0] for step in range(3)]
    assert torch.equal(torch.cat(seen), torch.cat(expected))


def test_another_seed_or_step_gives_other_blocks(dataset: Dataset) -> None:
    first = dataset.batch("train", 16, 8, seed=0, step=0)[0]
    assert not torch.equal(first, dataset.batch("train", 16, 8, seed=1, step=0)[0])
    assert not torch.equal(first, dataset.batch("train", 16, 8, seed=0, step=1)[0])
