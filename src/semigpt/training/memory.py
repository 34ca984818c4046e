"""How many bytes a process of a training holds at most, from its settings alone.

What a training step allocates is counted, tensor by tensor, for a `gpt` that autograd trains; the
allocator's own losses, CUDA's context and the interpreter come on top. docs/sizes.md compares it
with what was measured.

Shapes: N positions of a micro-batch, C width, H query heads, K key and value heads, D head width,
F hidden width, V vocabulary, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from semigpt.models.base import ModelSettings
from semigpt.models.gpt import GPTSettings
from semigpt.models.loss import LARGEST_LOGITS, too_large

__all__ = ["FLOAT_BYTES", "StepMemory", "TrainingShape", "least_memory", "moments", "step_memory"]

FLOAT_BYTES = 4  # weights, gradients and the optimizer's moments are float32


@dataclass(frozen=True, kw_only=True)
class TrainingShape:
    """What the memory of a step depends on beside the model.

    rows:         sequences of a micro-batch
    lanes:        micro-batches of a step, over all processes
    processes:    that share a step
    shards:       processes that share one copy of the model; 1 where each holds all of it
    muon:         whether the hidden matrices are Muon's
    checkpoints:  whether only each block's input is kept
    number_bytes: of a number in the products
    adapters:     numbers of the adapters that are trained alone; None where all is trained
    """

    rows: int
    lanes: int = 1
    processes: int = 1
    shards: int = 1
    muon: bool = True
    checkpoints: bool = False
    number_bytes: int = 2
    adapters: int | None = None

    @property
    def waiting_sums(self) -> int:
        """Gradients that wait to be added while a process computes the last of 2^k lanes: k."""
        return max(self.lanes // self.processes, 1).bit_length() - 1

    def weights(self, model: ModelSettings) -> int:
        """Bytes of a process's part of the weights."""
        return FLOAT_BYTES * (model.parameter_count + (self.adapters or 0)) // self.shards

    def copied(self, model: ModelSettings) -> int:
        """Bytes of the whole weights that are held for a moment beside a process's part."""
        return FLOAT_BYTES * model.parameter_count if self.shards > 1 else 0

    def trained(self, model: ModelSettings) -> int:
        """Bytes of its part of those that are trained: a gradient's, and each moment's."""
        trained = model.parameter_count if self.adapters is None else self.adapters
        return FLOAT_BYTES * trained // self.shards


@dataclass(frozen=True)
class StepMemory:
    """Bytes held throughout, and those of the three phases of a step, of which the largest counts.

    computing: a micro-batch's activations, logits and gradient, and the sums that wait
    adding:    the gradients that are added and sent
    updating:  the gradient, and Newton-Schulz on the largest stack of matrices
    copying:   of a model in shards, the whole one: as it begins, and where the first process
               evaluates it
    """

    weights: int
    optimizer: int
    computing: int
    adding: int
    updating: int
    copying: int = 0

    @property
    def total(self) -> int:
        """The most that is held at once."""
        phases = self.computing, self.adding, self.updating, self.copying
        return self.weights + self.optimizer + max(phases)


def step_memory(model: GPTSettings, shape: TrainingShape) -> StepMemory:
    """What autograd takes for a step of a `gpt`."""
    weights, whole = shape.weights(model), shape.trained(model)
    positions = shape.rows * model.context_length
    gathered, exchanged = gathered_bytes(model, shape)
    added = 1 if shape.lanes == 1 else 2  # a gradient, and its copy in one row
    sent = 3 if shape.processes > 1 else 0  # what is sent, received, and put together again
    stacks = matrix_stacks(model) if shape.muon and shape.adapters is None else []
    orthogonal = (newton_schulz_bytes(*stack, shape.number_bytes) for stack in stacks)
    return StepMemory(
        weights=weights,
        optimizer=2 * whole,  # two moments, or Muon's one and the buffer of its update
        computing=gathered + whole * shape.waiting_sums + computing_bytes(model, positions, shape),
        adding=max(whole * max(added + shape.waiting_sums, 1 + sent), exchanged),
        updating=whole + max(orthogonal, default=0) // shape.shards,
        copying=shape.copied(model),
    )


def gathered_bytes(model: GPTSettings, shape: TrainingShape) -> tuple[int, int]:
    """Of a model in shards, what is whole while a step is computed: the block at hand and the next,
    and all that is no block; and of the latter at the end weights, gradient, sent and received.
    """
    if shape.shards == 1:
        return 0, 0
    a_block = block_parameters(model)
    others = model.parameter_count - model.num_layers * a_block
    return FLOAT_BYTES * (2 * a_block + others), 4 * FLOAT_BYTES * others


def computing_bytes(model: GPTSettings, positions: int, shape: TrainingShape) -> int:
    """What a micro-batch of so many positions needs: at its loss, or in the backward pass.

    A block keeps its input, both norms, the heads, as projected and as rotated, attention's output,
    and the feed-forward's four products; and its weights as the products take them. Where it is run
    again, that is of one block, and of the others their input.
    """
    b, C, D, F = shape.number_bytes, model.width, model.head_width, model.feedforward_width
    kept = 4 * C + D * (3 * model.num_heads + 3 * model.kv_heads) + 4 * F
    a_block = b * (positions * kept + block_parameters(model))
    at_work = b * positions * (2 * C + 3 * F)  # gradients of the block at hand
    saved = positions * C * (FLOAT_BYTES + 3 * b)  # embeddings, as read and as cast; the last norm
    if shape.checkpoints:
        saved += model.num_layers * b * positions * C
        at_work += a_block
    else:
        saved += model.num_layers * a_block
    gradients = shape.trained(model)
    return saved + max(logit_bytes(model, positions, b), at_work + gradients)


def logit_bytes(model: GPTSettings, positions: int, number_bytes: int) -> int:
    """The logits of a micro-batch, or of a chunk, and what their loss makes of them."""
    elements = positions * model.vocab_size
    weight = number_bytes * model.padded_vocab_size * model.width
    if not too_large(positions, model.vocab_size):
        return (3 * FLOAT_BYTES + number_bytes) * elements + weight
    # The weight as the products take it, its gradient, and that of a chunk.
    chunk = (2 * FLOAT_BYTES + number_bytes) * LARGEST_LOGITS
    return chunk + 2 * weight + FLOAT_BYTES * model.padded_vocab_size * model.width


def block_parameters(model: GPTSettings) -> int:
    """Numbers in the matrices of a block."""
    return sum(number * rows * columns for number, rows, columns in _a_blocks(model))


def matrix_stacks(model: GPTSettings) -> list[tuple[int, int, int]]:
    """(how many, rows, columns) of the blocks' matrices, those of one shape together."""
    stacks: dict[tuple[int, int], int] = {}
    for number, rows, columns in _a_blocks(model):
        stacks[rows, columns] = stacks.get((rows, columns), 0) + number * model.num_layers
    return [(number, *shape) for shape, number in stacks.items()]


def _a_blocks(model: GPTSettings) -> list[tuple[int, int, int]]:
    C, D, F = model.width, model.head_width, model.feedforward_width
    return [
        (1, model.num_heads * D, C),
        (2, model.kv_heads * D, C),
        (1, C, model.num_heads * D),
        (2, F, C),
        (1, C, F),
    ]


def newton_schulz_bytes(number: int, rows: int, columns: int, number_bytes: int) -> int:
    """What `Muon.orthogonal` holds for a stack: two copies, two squares, or the result twice."""
    elements, short = number * rows * columns, min(rows, columns)
    squares = number * short * short
    return max(2 * number_bytes * (elements + squares), (number_bytes + FLOAT_BYTES) * elements)


def least_memory(model: ModelSettings, shape: TrainingShape) -> int:
    """What a process needs at the least, whatever computes the step: weights, moments, gradients
    and their sums, and a micro-batch's logits with their gradient.
    """
    weights, whole = shape.weights(model), shape.trained(model)
    logits = FLOAT_BYTES * shape.rows * model.context_length * model.vocab_size
    computing = whole * (1 + shape.waiting_sums) + 2 * logits
    adding = whole * (4 if shape.processes > 1 else 1)
    held = weights + moments(muon=shape.muon) * whole
    return held + max(computing, adding, shape.copied(model))


def moments(*, muon: bool) -> int:
    """Numbers that the optimizer keeps of each number that it trains, at the least."""
    return 1 if muon else 2
