"""`semigpt plan`: its arithmetic against counts by hand, its bad input, and published runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from semigpt.cli import main
from semigpt.models.gpt import GPTSettings
from semigpt.studies import plan as plans
from semigpt.studies.plan import Work, assumptions, gpu_names, plan

# Llama 3.1, as torchtitan trains it.
SHAPE = {"vocab_size": 128_256, "num_kv_heads": 8, "head_dim": 128, "context_length": 8192}
LLAMA_8B = GPTSettings(
    **SHAPE, width=4096, num_layers=32, num_heads=32, hidden_width=14_336, family="llama"
)
LLAMA_405B = GPTSettings(
    **SHAPE, width=16_384, num_layers=126, num_heads=128, hidden_width=53_248, family="llama"
)


def test_a_plan_follows_from_its_formulas() -> None:
    found = plan("1b", 64, 20e9, price=2.0)
    V, C, L, H, K, D, T, N = 64_000, 1536, 30, 16, 8, 128, 4096, 64
    block = 2 * C * D * (H + K) + 9 * C * C
    P = V * C + L * (block + 2 * C + 2 * D) + C
    B, reached = 256 * T, 0.4 * 989.4e12
    operations = 8 * L * (block + T * H * D) + 6 * V * C
    learning = operations * B / N / reached
    squares = 2 * (4 * C * C * H * D + 2 * C**3) + 2 * (4 * 1024**2 * C + 2 * 1024**3)
    orthogonal = 5 * L * (squares + 3 * (4 * C * C * 3 * C + 2 * C**3)) / reached
    near, far = 8 * P * 7 / 8, 8 * P / 8 * 7 / 8  # on each machine, of a part between eight
    exchange = near / (0.78 * 450e9) + far / 45e9
    step = learning + orthogonal + exchange
    expected = {
        "parameters": P,
        "steps": -(-(20 * 10**9) // B),
        "operations per token": operations,
        "learning": learning,
        "Newton-Schulz": orthogonal,
        "sent by a GPU within its machine": near,
        "sent by a GPU to other machines": far,
        "exchange": exchange,
        "tokens per second": B / step,
        "weights": 4 * P,
        "optimizer": 8 * P,
        "memory of a GPU": (3 + 4) * 4 * P,  # the sum is the most of a step
        "checkpoints": 3 * 4 * (P + P + V * C + L * 2 * (C + D) + C) + 8 * P,
        "token shards": 40e9,
        "cost": 2.0 * N * 19_074 * step / 0.98 / 3600,
    }
    assert {name: found.value(name) for name in expected} == pytest.approx(expected)
    assert found.value("time at the least") < found.value("time")
    assert found.work.shards == 1
    assert found.flags == "semigpt train --size 1b --tokens 20000000000"


def test_what_does_not_fit_whole_is_cut_within_a_machine_or_among_all() -> None:
    near, far = "sent by a GPU within its machine", "sent by a GPU to other machines"
    found = plan("8b", 64, 1e9)
    P = found.value("parameters")
    assert found.work.shards == 8
    assert found.value("optimizer") == 8 * P / 8
    assert found.value(near) == 8 * P * 7 / 8 * 512 / 64
    assert found.value(far) == 8 * P / 8 * 7 / 8
    assert " --shard" in found.flags
    longer = plan("8b", 64, 1e9, context=81_920)
    assert longer.work.shards == 64
    assert longer.value(far) == 8 * P / 8 * 7 / 8 * longer.work.lanes / 64
    assert plan("8b", 8, 1e9).value(far) == 0


def test_a_number_of_gpus_that_is_no_power_of_two_has_micro_batches_of_its_own() -> None:
    found = plan("1b", 24, 1e9)
    assert (found.work.lanes, found.work.sequences) == (96, 192)
    assert "--set training.batch_size=192" in found.flags
    assert "--set training.gradient_accumulation=96" in found.flags
    sharded = plan("8b", 24, 1e9, context=81_920)
    assert (sharded.work.lanes, sharded.work.sequences, sharded.work.shards) == (24, 24, 24)
    assert "smaller than the size's own" in sharded.remarks[0]


def test_more_gpus_than_the_step_has_sequences_are_remarked() -> None:
    told = " ".join(plan("0.3b", 1024, 1e9).remarks)
    assert "larger than the size's own" in told
    assert "exchange and Newton-Schulz take 66% of a step: fewer GPUs cost less" in told
    assert plan("0.3b", 8, 1e9).remarks == ()
    longer = plan("1b", 8, 1e9, context=16_384).work
    assert longer.step_tokens == 256 * 4096


# Tokens per second and GPU that torchtitan published: docs/sizes.md.
@pytest.mark.parametrize(
    ("model", "gpus", "sequences", "published"),
    [(LLAMA_8B, 8, 16, (5762, 6667)), (LLAMA_405B, 512, 512, (100, 128))],
)
def test_the_model_is_near_published_runs(
    model: GPTSettings, gpus: int, sequences: int, published: tuple[int, int]
) -> None:
    gpu = plans.GPU(**plans._data()["gpu"]["h100"])
    work = Work(model, gpus, sequences, gpus, checkpoints=True, machine=8, shards=gpus)
    reached = gpu.peak * plans.assumption("utilisation")
    per_second = reached / work.operations_per_token
    assert 0.8 * published[0] < per_second < 1.2 * published[1]


def test_every_assumption_and_gpu_has_a_source() -> None:
    assert all(given["source"] and given["unit"] for given in assumptions().values())
    assert set(gpu_names()) >= {"h100", "a100"}
    for name in gpu_names():
        gpu = plan("tiny", 1, 1e6, gpu=name).gpu
        assert gpu.source
        assert (gpu.price is None) == (gpu.price_source == "")
    assert "cost" not in plan("1b", 8, 1e9, gpu="b200").as_dict()["quantities"]


def test_the_command_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--size", "1b", "--gpus", "64", "--tokens", "20e9"]) == 0
    told = capsys.readouterr().out
    for words in ("memory of a GPU", "2.9 hours", "assumed:", "semigpt train --size 1b"):
        assert words in told
    assert main(["plan", "--gpus", "64", "--tokens", "20e9", "--gpu", "a100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gpu"]["peak"] == 312e12
    assert found["quantities"]["cost"].keys() == {"value", "unit", "formula"}


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--tokens", "0"], "tokens must be between 1 and"),
        (["--tokens", "nan"], "tokens must be between 1 and"),
        (["--tokens", "1e9", "--gpus", "0"], "gpus must be between 1 and"),
        (["--tokens", "1e9", "--gpu", "tpu"], "gpu must be one of h100, h200, a100, b200"),
        (["--tokens", "1e9", "--size", "2b"], "size must be one of tiny, small"),
        (["--tokens", "1e9", "--context", "-1"], "context must be between 1 and"),
        (["--tokens", "1e9", "--price", "-1"], "price must be 0 or more"),
        (["--tokens", "1e9", "--size", "8b", "--gpus", "1"], "do not hold this: "),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *flags]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_a_price_changes_the_cost_alone() -> None:
    dear, cheap = plan("1b", 8, 1e9, price=6.0), plan("1b", 8, 1e9, price=3.0)
    assert dear.value("cost") == pytest.approx(2 * cheap.value("cost"))
    assert replace(dear, price=3.0, quantities=()) == replace(cheap, quantities=())
