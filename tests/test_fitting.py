"""Whether the processes of a run cut its model among them, where memory decides. The memory is a
number here, as is the number of processes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from semigpt import auto, fitting
from semigpt.config import Recipe
from semigpt.errors import SettingsError
from semigpt.fitting import fitted
from semigpt.parallel import Group
from semigpt.recipe import advice
from semigpt.run_events import Sharded
from semigpt.training import forecast
from semigpt.training.forecast import Forecast


class Several(Group):
    """Processes that have memory of their own each, four to a machine."""

    def __init__(self, size: int = 8, shard: bool | None = None) -> None:
        super().__init__(size)
        self.shard = shard

    def ways(self, lanes: int) -> list[int]:
        return [1, 4, self.size] if self.shard is None else [4, self.size] if self.shard else [1]


@pytest.fixture
def having(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`fitted` of a recipe and a group, with so many GB free in each process."""

    def ask(
        gigabytes: float, recipe: Recipe, group: Group, *, new: bool = True
    ) -> tuple[Recipe, Sharded | None]:
        for module in (fitting, forecast):
            monkeypatch.setattr(module, "available_memory", lambda device: int(1e9 * gigabytes))
        return fitted(recipe, tmp_path, torch.device("cpu"), group, new=new)

    return ask


def recipe(**machine: object) -> Recipe:
    """Of half a billion parameters: 18.5 GB in each of eight processes; 10.9 where four hold it
    together, 9.7 where all do.
    """
    found = Recipe.from_tables({"model": {"size": "0.6b"}, "machine": machine})
    return replace(found, model=replace(found.model, vocab_size=64_000))


@pytest.mark.parametrize(
    ("gigabytes", "shard", "expected"),
    [
        (40.0, None, 1),
        (19.0, None, 4),  # whole it would fit, if nothing was forgotten
        (14.0, None, 4),
        (11.0, None, 8),
        (40.0, True, 4),
        (40.0, False, 1),
    ],
)
def test_as_few_processes_hold_a_replica_as_fit_in_memory(
    gigabytes: float, shard: bool | None, expected: int, having: Any
) -> None:
    group = Several(shard=shard)
    found, told = having(gigabytes, recipe(), group)
    assert group.shards == expected
    machine = found.machine
    assert (machine.backend, machine.compile) == (
        ("plain", False) if group.sharded else ("auto", None)
    )
    if shard is None and group.sharded:
        assert (told.processes, told.free) == (expected, 1e9 * gigabytes)
        assert told.part < told.free < auto.HEADROOM * told.whole
    else:
        assert told is None
    # What the text is read with is decided before it is; asked again, the answer is the same.
    assert having(gigabytes, found, group) == (found, told)


def test_where_nothing_says_what_is_free_a_model_stays_whole() -> None:
    assert auto.shards({1: 10, 2: 5}, None) == 1
    assert auto.shards({1: 10, 2: 5}, 10) == 2
    assert auto.shards({1: 10, 2: 10}, 10) == 1  # cutting it would help nothing


@pytest.mark.parametrize(
    ("machine", "new", "shards"),
    [
        ({"backend": "plain", "compile": False}, False, 4),
        ({"compile": False}, False, 4),  # its blocks are run again: by autograd on every machine
        ({"compile": False, "checkpoint_activations": False}, False, None),
        ({"compile": True}, True, None),
        ({"backend": "native", "checkpoint_activations": False}, True, None),
    ],
)
def test_a_model_is_cut_only_where_it_ends_in_the_same_bits(
    machine: dict[str, object], new: bool, shards: int | None, having: Any
) -> None:
    group = Several()
    if shards is None:
        with pytest.raises(
            SettingsError, match=r"this run needs at least \d+\.\d GB of memory and"
        ):
            having(14.0, recipe(**machine), group, new=new)
    else:
        found, _ = having(14.0, recipe(**machine), group, new=new)
        assert group.shards == shards
        assert new or found.machine == recipe(**machine).machine


def test_what_fits_in_no_way_is_one_line_that_names_what_does(having: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        having(2.0, recipe(), Several())
    told = str(caught.value)
    assert "in each of 8 processes that cut its model among them, and cpu has 2.0 GB free" in told
    assert "choose --size base, or more gradient_accumulation" in told
    with pytest.raises(SettingsError, match="cut its model among them, .* choose a smaller --size"):
        having(0.01, recipe(), Several())


def test_more_gpus_are_named_where_they_would_hold_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "available_memory", lambda device: 9 * 10**9)
    found = fitting.what_fits(recipe(), torch.device("cuda"), Group())
    assert list(found) == ["--size base", "16 GPUs"]


@pytest.mark.parametrize(
    ("size", "batch_size", "processes", "advised"),
    [
        ("0.6b", 512, 8, True),  # twice its own
        ("0.6b", 512, 1, False),
        ("0.6b", 256, 8, False),
        ("tiny", 48, 8, False),  # the law of learning may choose as many
        ("tiny", 96, 8, True),
    ],
)
def test_too_many_processes_per_step_are_advised_against(
    size: str, batch_size: int, processes: int, advised: bool
) -> None:
    asked = Recipe.from_tables({"model": {"size": size}, "training": {"batch_size": batch_size}})
    found = Forecast(1, 1.0, 60.0, 0, 0, processes=processes)
    assert ("fewer GPUs learn more from each token" in advice(asked, asked, found)) == advised
