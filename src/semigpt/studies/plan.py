"""`semigpt plan`: what a training on many GPUs would take, by arithmetic; nothing is run.

Each quantity stands with its formula. What the formulas take for granted, peaks, bandwidths, the
fraction of a peak that is reached and prices, is in plan.toml with its sources; docs/sizes.md
compares what comes out with published runs.

Symbols: P parameters, N GPUs, of which M on a machine and S hold a replica of the model together,
B tokens of a step, T context, L layers, H heads, D head width, C width, V vocabulary, G
micro-batches.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from semigpt import auto
from semigpt.config import Recipe
from semigpt.errors import SettingsError
from semigpt.fitting import LARGER, larger_step
from semigpt.language import N_, _
from semigpt.models.gpt import GPTSettings
from semigpt.parallel import ways
from semigpt.settings import check_choice
from semigpt.sizes import own_vocabulary
from semigpt.training.forecast import checkpoint_disk, readable_bytes
from semigpt.training.memory import (
    FLOAT_BYTES,
    StepMemory,
    TrainingShape,
    block_parameters,
    matrix_stacks,
    step_memory,
)

__all__ = ["GPU", "Plan", "Quantity", "Work", "assumption", "assumptions", "gpu_names", "plan"]

VOCABULARY = 8000  # of a size that has none of its own
LIMITS = {"gpus": 1_000_000, "tokens": 1e18, "context": 10_000_000, "vocabulary": 10_000_000}


@dataclass(frozen=True)
class GPU:
    """A kind of GPU in plan.toml: operations and bytes per second, bytes, dollars per hour."""

    name: str
    peak: float
    memory: float
    link: float
    network: float
    per_node: int
    source: str
    price: float | None = None
    price_source: str = ""


@dataclass(frozen=True)
class Quantity:
    """A number, its unit, and the formula that it comes from."""

    name: str
    value: float
    unit: str
    formula: str


@dataclass(frozen=True)
class Work:
    """What the GPUs compute and hold: a shape, and how its steps are cut.

    sequences: of a step
    machine:   GPUs of each
    shards:    GPUs that hold a replica of the model together
    """

    model: GPTSettings
    gpus: int
    sequences: int
    lanes: int
    checkpoints: bool
    machine: int
    shards: int = 1

    @property
    def step_tokens(self) -> int:
        return self.sequences * self.model.context_length

    @property
    def memory(self) -> StepMemory:
        """Of each GPU, with Muon and bfloat16 products."""
        shape = TrainingShape(
            rows=self.sequences // self.lanes,
            lanes=self.lanes,
            processes=self.gpus,
            shards=self.shards,
            checkpoints=self.checkpoints,
        )
        return step_memory(self.model, shape)

    @property
    def operations_per_token(self) -> float:
        """Of forward and backward; blocks that are run again count a fourth time."""
        model, passes = self.model, 4 if self.checkpoints else 3
        heads = model.num_heads * model.head_width
        blocks = model.num_layers * block_parameters(model)
        attention = model.num_layers * model.context_length * heads  # half of it is masked
        output = model.padded_vocab_size * model.width
        return 2.0 * passes * (blocks + attention) + 2 * 3 * output

    @property
    def orthogonal_operations(self) -> float:
        """Of Newton-Schulz in a step, on each GPU: all of it where each holds the whole model."""
        total = 0.0
        for number, rows, columns in matrix_stacks(self.model):
            short, long = sorted((rows, columns))
            total += number * 5 * (4.0 * short * short * long + 2.0 * short**3)
        return total / self.shards

    @property
    def sent(self) -> tuple[float, float]:
        """Bytes by each GPU in a step, to its machine's others and to other machines: every
        collective goes within a machine first, and then each GPU has its part to send on.
        """
        gradient = FLOAT_BYTES * self.model.parameter_count
        near = gradient * (self.machine - 1) / self.machine
        far = gradient / self.machine * (1 - self.machine / self.gpus)
        # Of a micro-batch, weights in bfloat16 forwards and backwards, and a gradient; or of a
        # step, a gradient and its sum.
        cut, added = 2 * self.lanes / self.gpus, 2
        within = added if self.shards == 1 else cut
        return near * within, far * (cut if self.shards == self.gpus else added)


@dataclass(frozen=True)
class Plan:
    """What a training would take; `flags` train it so."""

    work: Work
    gpu: GPU
    price: float | None
    tokens: float
    quantities: tuple[Quantity, ...]
    flags: str
    remarks: tuple[str, ...]

    def value(self, name: str) -> float:
        """Raises KeyError for a quantity that it has not."""
        return {quantity.name: quantity.value for quantity in self.quantities}[name]

    def as_dict(self) -> dict[str, Any]:
        """The object that `semigpt plan --json` prints."""
        return {
            "quantities": {
                q.name: {"value": q.value, "unit": q.unit, "formula": q.formula}
                for q in self.quantities
            },
            "gpu": vars(self.gpu),
            "price": self.price,
            "assumptions": dict(assumptions()),
            "command": self.flags,
            "remarks": list(self.remarks),
        }


@cache
def _data() -> Mapping[str, Any]:
    path = Path(__file__).with_name("plan.toml")
    found: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return found


def gpu_names() -> tuple[str, ...]:
    """The kinds of GPU that are known."""
    return tuple(_data()["gpu"])


def assumptions() -> Mapping[str, Mapping[str, Any]]:
    """What is taken for granted: name → value, unit, source."""
    found: Mapping[str, Mapping[str, Any]] = _data()["assumptions"]
    return found


def assumption(name: str) -> float:
    return float(assumptions()[name]["value"])


def plan(
    size: auto.Size,
    gpus: int,
    tokens: float,
    *,
    gpu: str = "h100",
    context: int | None = None,
    vocabulary: int | None = None,
    price: float | None = None,
) -> Plan:
    """The plan of a size on so many GPUs.

    price: dollars per GPU and hour; default: plan.toml's

    Raises SettingsError for a size or GPU that is not known, numbers that cannot be, and a model
    that the GPUs do not hold.
    """
    check_choice("gpu", gpu, gpu_names())
    given = {"gpus": gpus, "tokens": tokens, "context": context, "vocabulary": vocabulary}
    for name, value in given.items():
        if value is not None and not 1 <= value <= LIMITS[name]:
            raise SettingsError(
                _("{name} must be between 1 and {most:,.0f}, not {value:g}").format(
                    name=name, most=LIMITS[name], value=value
                )
            )
    if price is not None and not 0 <= price < math.inf:
        raise SettingsError(_("price must be 0 or more, not {price:g}").format(price=price))
    kind = GPU(**_data()["gpu"][gpu])
    recipe = Recipe.from_tables({"model": {"size": size}})
    assert isinstance(recipe.model, GPTSettings)
    model = replace(
        recipe.model,
        vocab_size=vocabulary or own_vocabulary(size) or VOCABULARY,
        context_length=context or recipe.model.context_length,
    )
    work = placed(cut(recipe, model, gpus, kind.per_node), kind)
    price = kind.price if price is None else price
    return Plan(
        *(work, kind, price, tokens),
        quantities=tuple(quantities(work, kind, tokens, price, recipe)),
        flags=" ".join(flags(size, recipe, work, tokens)),
        remarks=tuple(remarks(recipe, work, kind)),
    )


def cut(recipe: Recipe, model: GPTSettings, gpus: int, per_node: int) -> Work:
    """The size's own step on these GPUs: at least as many micro-batches, in numbers that they add
    in one order, and at least a sequence each. Machines have equally many GPUs.
    """
    training = recipe.training
    own_sequences = training.batch_size * recipe.model.context_length // model.context_length
    lanes = gpus
    while lanes < training.gradient_accumulation:
        lanes *= 2
    rows = max(own_sequences // lanes, 1)
    machine = gpus if gpus <= per_node else math.gcd(gpus, per_node)
    return Work(model, gpus, rows * lanes, lanes, recipe.machine.checkpoint_activations, machine)


def placed(work: Work, gpu: GPU) -> Work:
    """Whole on each GPU, or cut among those of a machine, or among all, as it fits first.

    Raises SettingsError where it fits in no way.
    """
    room = gpu.memory * (1 - assumption("reserve"))
    for shards in ways(work.lanes, work.gpus, work.machine):
        found = in_shards(work, shards)
        if found.memory.total <= room:
            return found
    raise SettingsError(
        _(
            "{gpus} x {name} do not hold this: {needed} of memory are needed on each, cut among "
            "all, and {room} are there; take more GPUs, a smaller --size or a shorter --context"
        ).format(
            gpus=work.gpus,
            name=gpu.name,
            needed=readable_bytes(found.memory.total),
            room=readable_bytes(room),
        )
    )


def in_shards(work: Work, shards: int) -> Work:
    """The step with each replica of the model cut among so many GPUs. Among all of a number that is
    no power of two, each computes one micro-batch, or the sums would have another order.
    """
    odd = shards == work.gpus and shards & (shards - 1)
    lanes = shards if odd else work.lanes
    return replace(work, shards=shards, lanes=lanes, sequences=work.sequences // work.lanes * lanes)


def exchange_seconds(work: Work, gpu: GPU) -> float:
    """Of a step's bytes, those within a machine and then those between machines."""
    near, far = work.sent
    within = near / (gpu.link * assumption("bandwidth"))
    return within + far / (gpu.network * assumption("network"))


def quantities(
    work: Work, gpu: GPU, tokens: float, price: float | None, recipe: Recipe
) -> Iterator[Quantity]:
    """Each number of a plan, in the order in which they follow from one another."""
    model, memory, N = work.model, work.memory, work.gpus
    P, reached = model.parameter_count, gpu.peak * assumption("utilisation")
    steps = math.ceil(tokens / work.step_tokens)
    learning = work.operations_per_token * work.step_tokens / N / reached
    orthogonal, exchange = work.orthogonal_operations / reached, exchange_seconds(work, gpu)
    step, least = learning + orthogonal + exchange, max(learning + orthogonal, exchange)
    seconds = steps * step / (1 - assumption("saving"))
    all_cut = work.shards == N > 1
    near, far = work.sent
    passes = 4 if work.checkpoints else 3
    yield Quantity(N_("parameters"), P, "", "tables + L blocks + norm")
    yield Quantity(N_("tokens per parameter"), tokens / P, "", "tokens / P")
    yield Quantity(N_("tokens per step"), work.step_tokens, "", f"{work.sequences} sequences x T")
    yield Quantity(N_("steps"), steps, "", "tokens / B")
    yield Quantity(
        N_("operations per token"),
        work.operations_per_token,
        "",
        f"2 x {passes} (blocks + L T H D) + 6 V C",
    )
    yield Quantity(N_("learning"), learning, "s", "operations B / N / (peak x utilisation)")
    yield Quantity(
        N_("Newton-Schulz"),
        orthogonal,
        "s",
        "5 (4 short² long + 2 short³) a matrix"
        + (" / S" if work.shards > 1 else ", all on each GPU"),
    )
    yield Quantity(
        N_("sent by a GPU within its machine"),
        *(near, "bytes", "8 P (1 - 1 / M)" + (" x G / N" if work.shards > 1 else "")),
    )
    yield Quantity(
        N_("sent by a GPU to other machines"),
        *(far, "bytes", "8 P (1 / M - 1 / N)" + (" x G / N" if all_cut else "")),
    )
    yield Quantity(N_("exchange"), exchange, "s", "bytes / bandwidth, with no overlap")
    yield Quantity(N_("step"), step, "s", "learning + Newton-Schulz + exchange")
    per_second = work.step_tokens / step
    yield Quantity(N_("tokens per second"), per_second, "", "B / step")
    yield Quantity(N_("tokens per second and GPU"), per_second / N, "", "B / step / N")
    yield Quantity(N_("time"), seconds, "s", "steps x step / (1 - saving)")
    overlapped = seconds * least / step
    yield Quantity(N_("time at the least"), overlapped, "s", "the same, were all exchange hidden")
    share = f"4 P{' / S' if work.shards > 1 else ''}"
    yield Quantity(N_("weights"), memory.weights, "bytes", share)
    yield Quantity(N_("optimizer"), memory.optimizer, "bytes", f"2 x {share}")
    working = memory.total - memory.weights - memory.optimizer
    yield Quantity(
        N_("at work"), working, "bytes", "the most of computing, adding and updating: docs/sizes.md"
    )
    yield Quantity(N_("memory of a GPU"), memory.total, "bytes", "weights + optimizer + at work")
    moments = FLOAT_BYTES * (P + P - model.num_layers * block_parameters(model))
    disk = checkpoint_disk(FLOAT_BYTES * P + moments, P, recipe.training.keep)
    yield Quantity(N_("checkpoints"), disk, "bytes", "(keep + 1) (weights + moments) + 2 models")
    text = tokens * assumption("bytes_per_token")
    yield Quantity(N_("text"), text, "bytes", "tokens x bytes per token, read once")
    width = 2 if model.vocab_size <= 1 << 16 else 4
    yield Quantity(N_("token shards"), width * tokens, "bytes", f"{width} tokens")
    yield Quantity(N_("reading"), text / assumption("reading"), "s", "text / reading, on one core")
    yield Quantity(N_("sent in all"), (near + far) * N * steps, "bytes", "sent x N x steps")
    yield Quantity(N_("GPU hours"), N * seconds / 3600, "h", "N x time")
    if price is not None:
        yield Quantity(N_("cost"), price * N * seconds / 3600, "$", f"GPU hours x {price:g} $")


def flags(size: auto.Size, recipe: Recipe, work: Work, tokens: float) -> Iterator[str]:
    """The command that trains so, from what a launcher starts on."""
    yield f"semigpt train --size {size} --tokens {tokens:.0f}"
    if work.shards > 1:
        yield "--shard"
    changed = {
        "model.context_length": (work.model.context_length, recipe.model.context_length),
        "training.batch_size": (work.sequences, recipe.training.batch_size),
        "training.gradient_accumulation": (work.lanes, recipe.training.gradient_accumulation),
    }
    yield from (f"--set {name}={new}" for name, (new, own) in changed.items() if new != own)


def remarks(recipe: Recipe, work: Work, gpu: GPU) -> Iterator[str]:
    """What a reader should know beside the numbers."""
    own = recipe.training.batch_size * recipe.model.context_length
    if told := larger_step(work.step_tokens, own):
        yield told
    reached = gpu.peak * assumption("utilisation")
    learning = work.operations_per_token * work.step_tokens / work.gpus / reached
    beside = exchange_seconds(work, gpu) + work.orthogonal_operations / reached
    if beside > learning:
        yield _(
            "exchange and Newton-Schulz take {fraction:.0%} of a step: fewer GPUs cost less"
        ).format(fraction=beside / (learning + beside))
    if LARGER * work.step_tokens < own:
        yield _(
            "a step of {tokens:,} tokens is smaller than the size's own of {own:,}: GPUs whose "
            "number is a power of two add up more micro-batches"
        ).format(tokens=work.step_tokens, own=own)
    if work.gpus > gpu.per_node:
        yield _("more than one machine: `srun` or `torchrun` starts it (docs/processes.md)")
