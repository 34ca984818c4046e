"""Loss and gradients of a stack of GPT-2 blocks on a CPU in one call of C, `blocks_step.c`.

At the book's size a step has little arithmetic, 0.3 GFLOP, in a thousand operations, each of which
takes longer to dispatch than to run. Here it is one operation, in buffers that are kept.

Nothing here knows a model: a step takes weights and plain sizes. `semigpt.training.native_step`
collects them from `semigpt.models.attention`, which with autograd is the oracle
(tests/test_blocks_step.py). Shapes: B sequences, T positions, C width, L layers, U units of
as many sequences as a vector has lanes.
"""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from semigpt.language import _
from semigpt.native.ahead import compiled
from semigpt.native.compiler import NativeUnavailableError

__all__ = [
    "BlocksShape",
    "BlocksStep",
    "dropped_of_256",
    "few_sequences",
    "fits",
    "library",
    "library_or_none",
    "random_bytes",
    "unit_sequences",
]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("blocks_step.c")
WIDTH_MULTIPLE = 16
LONGEST = 256  # positions: the scores, T x T, are kept; longer was not measured


class _Arguments(ctypes.Structure):
    """`Step` of blocks_step.c, in its order."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in ("B", "T", "C", "H", "F", "L", "V", "context", "dropped")
        ),
        *((name, ctypes.c_float) for name in ("epsilon", "weight")),
        *(
            (name, ctypes.c_void_p)
            for name in ("ids", "targets", "random_bytes", "weights", "gradients", "add")
        ),
        *((name, ctypes.c_void_p) for name in ("workspace", "grad_embedded", "losses")),
    )


@cache
def library() -> ctypes.CDLL:
    """blocks_step.c. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE)
    for name, arguments, result in (
        ("threads", (), ctypes.c_int),
        ("workspace", (ctypes.POINTER(_Arguments),), ctypes.c_int64),
        ("step", (ctypes.POINTER(_Arguments),), ctypes.c_double),
    ):
        function = getattr(loaded, f"semigpt_blocks_{name}")
        function.argtypes, function.restype = arguments, result
    return loaded


@cache
def library_or_none() -> ctypes.CDLL | None:
    """`library`, or None after one line in the log that says why; tried once."""
    try:
        return library()
    except NativeUnavailableError as error:
        logger.warning(_("training with PyTorch alone, several times slower: %s"), error)
        return None


def unit_sequences() -> int:
    """Sequences to a unit, as many as a vector of this CPU has lanes: 16, 8 or 4."""
    return ctypes.c_int.in_dll(library(), "semigpt_lanes").value


@dataclass(frozen=True)
class BlocksShape:
    """The sizes of a stack of blocks."""

    vocab_size: int
    context_length: int
    num_layers: int
    width: int
    num_heads: int
    hidden_width: int
    norm_epsilon: float
    dropout: float


def fits(shape: BlocksShape, parameters: Iterable[Tensor]) -> bool:
    """Whether blocks_step.c can run this stack.

    It needs a CPU, widths in multiples of 16, heads of 4, and float32 parameters all of which are
    trained. Its own products stay ahead of autograd's in wider models: 552 ms to 716 at 6 x 256;
    docs/choices.md#blocks-in-c.
    """
    return (
        all(
            p.device.type == "cpu" and p.dtype == torch.float32 and p.requires_grad
            for p in parameters
        )
        and shape.width % WIDTH_MULTIPLE == shape.hidden_width % WIDTH_MULTIPLE == 0
        and shape.width // shape.num_heads % 4 == 0
        and shape.context_length <= LONGEST
    )


def few_sequences(B: int, T: int) -> bool:
    """Whether a batch leaves so many lanes empty that autograd is faster.

    At 2 x 64 and 64 positions, 8 sequences take 16 ms here and 10 with autograd;
    docs/choices.md#few-sequences.
    """
    return T > 16 and unit_sequences() > B


def dropped_of_256(dropout: float) -> int:
    """A dropout rate to the nearest 256th, for masks of one byte an element."""
    return min(round(256 * dropout), 255)


def random_bytes(layers: int, B: int, T: int, C: int) -> Tensor:
    """The dropout masks' randomness `[U, 2 L, T, C, lanes]`, from PyTorch's generator, as uint8.

    Two branches a layer. A byte below `dropped_of_256` drops its element. Drawn eight bytes at a
    time: 0.1 ms where a Bernoulli draw for each of eight branches takes 0.3.
    """
    lanes = unit_sequences()
    shape = (-(-B // lanes), 2 * layers, T, C, lanes)
    words = torch.empty(math.prod(shape) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8).view(shape)


class BlocksStep:
    """The training step of one stack of blocks, with the memory it works in.

    `parameters` in C's order: token and position embedding; of each block the attention's norm
    (weight, bias), query-key-value, projection (weight, bias), the feed-forward's norm (weight,
    bias), expand (weight, bias), contract (weight, bias); the final norm (weight, bias) and the
    output layer. Raises NativeUnavailableError without a compiler.
    """

    def __init__(self, shape: BlocksShape, parameters: Sequence[Tensor]) -> None:
        self.shape = shape
        self._c = library()
        self._parameters = list(parameters)
        self._gradients = {id(p): torch.empty_like(p) for p in self._parameters}
        count = len(self._parameters)
        self._weight_pointers = (ctypes.c_void_p * count)()
        self._gradient_pointers = (ctypes.c_void_p * count)()
        self._add = (ctypes.c_uint8 * count)()
        self._arguments = _Arguments(
            C=shape.width,
            H=shape.num_heads,
            F=shape.hidden_width,
            L=shape.num_layers,
            V=shape.vocab_size,
            context=shape.context_length,
            epsilon=shape.norm_epsilon,
            weights=ctypes.addressof(self._weight_pointers),
            gradients=ctypes.addressof(self._gradient_pointers),
            add=ctypes.addressof(self._add),
        )
        self._key = (0, 0, 0)  # of the workspace: B, T, threads

    @torch.no_grad()
    def __call__(
        self, ids_BT: Tensor, targets_BT: Tensor, weight: float = 1.0, *, training: bool = True
    ) -> Tensor:
        """The mean loss in nats; `weight` times its gradients are added to every `.grad`.

        Ids and targets must lie in the vocabulary. Dropout acts where `training`.
        """
        B, T = ids_BT.shape
        # Asked of the C: its OpenMP need not be PyTorch's, and the number may change between steps.
        # A unit is one thread's, so more threads than units would have nothing to do.
        threads = min(self._c.semigpt_blocks_threads(), -(-B // unit_sequences()))
        if self._key != (B, T, threads):
            self._allocate(B, T, threads)
        arguments = self._arguments
        ids_BT, targets_BT = ids_BT.contiguous(), targets_BT.contiguous()
        arguments.ids, arguments.targets = ids_BT.data_ptr(), targets_BT.data_ptr()
        arguments.weight = weight
        arguments.dropped = dropped_of_256(self.shape.dropout) if training else 0
        if arguments.dropped:
            randomness = random_bytes(self.shape.num_layers, B, T, self.shape.width)
            arguments.random_bytes = randomness.data_ptr()
        # All asked before any is set: a tied matrix is there twice.
        self._add[:] = [parameter.grad is not None for parameter in self._parameters]
        for i, parameter in enumerate(self._parameters):
            if parameter.grad is None:
                parameter.grad = self._gradients[id(parameter)]
            self._weight_pointers[i] = parameter.data_ptr()
            self._gradient_pointers[i] = parameter.grad.data_ptr()
        return torch.tensor(self._c.semigpt_blocks_step(arguments), dtype=torch.float32)

    def _allocate(self, B: int, T: int, threads: int) -> None:
        arguments, self._key = self._arguments, (B, T, threads)
        arguments.B, arguments.T = B, T
        self._workspace = torch.empty(threads, self._c.semigpt_blocks_workspace(arguments))
        self._grad_embedded = torch.empty(B * T, arguments.C)
        self._losses = torch.empty(threads, dtype=torch.float64)
        arguments.workspace = self._workspace.data_ptr()
        arguments.grad_embedded = self._grad_embedded.data_ptr()
        arguments.losses = self._losses.data_ptr()
