"""Loss and gradients of the `blocks` rung on a CPU in one call of C, `blocks_step.c`, compiled on first use.

At the book's size a step does little arithmetic, 0.3 GFLOP, and starts a thousand operations, each of which costs more to
dispatch than to do. Here it is one, in buffers that are kept.

`attention.BlocksModel` and autograd are what this means; tests/test_blocks_step.py holds the two equal, loss and every
gradient. Shapes: B texts, T positions, C width, L layers, U units of sixteen texts.
"""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from semigpt.native.compiler import NativeUnavailableError, compiled

if TYPE_CHECKING:
    from semigpt.models.attention import BlocksModel

__all__ = [
    "BlocksStep",
    "can_step_natively",
    "draw_coins",
    "dropped_of_256",
    "few_texts",
    "library",
    "library_or_none",
]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("blocks_step.c")
LANES = 16  # texts to a unit
LONGEST = 256  # positions: scores are kept, as many as their square; longer was not measured


class _Step(ctypes.Structure):
    """`Step` of blocks_step.c."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in ("B", "T", "C", "H", "F", "L", "V", "context", "dropped")
        ),
        *((name, ctypes.c_float) for name in ("epsilon", "weight")),
        *(
            (name, ctypes.c_void_p)
            for name in ("ids", "targets", "coins", "weights", "gradients", "add")
        ),
        *((name, ctypes.c_void_p) for name in ("room", "by_embedded", "losses")),
    )


@cache
def library() -> ctypes.CDLL:
    """blocks_step.c. Raises NativeUnavailableError, saying why."""
    loaded = compiled(SOURCE)
    for name, arguments, result in (
        ("threads", (), ctypes.c_int),
        ("workspace", (ctypes.POINTER(_Step),), ctypes.c_int64),
        ("step", (ctypes.POINTER(_Step),), ctypes.c_double),
    ):
        function = getattr(loaded, f"semigpt_blocks_{name}")
        function.argtypes, function.restype = arguments, result
    return loaded


@cache
def library_or_none() -> ctypes.CDLL | None:
    """`library`, or None after one line that says why there is none; asked, and tried, once."""
    try:
        return library()
    except NativeUnavailableError as error:
        logger.warning("training with PyTorch alone, several times slower: %s", error)
        return None


def can_step_natively(model: BlocksModel) -> bool:
    """Whether blocks_step.c knows this shape: widths in sixteens, heads in fours, float32 weights all of which learn.

    Its products are its own, and still ahead where they are most of a step: loss and gradients of 48 x 64 tokens, V = 4,420,
    take 35 ms at 2 x 64 (autograd 79), 126 at 4 x 128 (201), 552 at 6 x 256 (716), on two cores with AVX-512, though 48 texts
    are three units and two threads share them unevenly.
    """
    settings = model.settings
    return (
        model.device.type == "cpu"
        and all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())
        and settings.width % LANES == settings.feedforward_width % LANES == 0
        and settings.width // settings.num_heads % 4 == 0
        and settings.context_length <= LONGEST
    )


def few_texts(B: int, T: int) -> bool:
    """Whether a batch leaves too many lanes empty: at 2 x 64, of 64 positions, 8 texts take 16 ms and autograd 10; at the
    book's size, of 8 positions, 8 texts take 1.0 ms and autograd 2.3, and even one takes 1.0 and 1.6.
    """
    return B < LANES and T > 16


def dropped_of_256(dropout: float) -> int:
    """A probability to the nearest 256th: a coin is one byte."""
    return min(round(256 * dropout), 255)


def draw_coins(layers: int, B: int, T: int, C: int) -> Tensor:
    """Random bytes `[U, 2 * layers, T, C, 16]`, a branch of each layer after the other, from torch's own generator.

    A coin below `dropped_of_256` drops its number. Drawn eight at a time: 0.1 ms where a Bernoulli draw for each of eight
    branches takes 0.3.
    """
    shape = ((B + LANES - 1) // LANES, 2 * layers, T, C, LANES)
    words = torch.empty(*shape[:-1], LANES // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)


class BlocksStep:
    """The training step of one model, with the memory it works in. Raises NativeUnavailableError without a compiler."""

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of a model makes a step of its own when it learns: this one's memory is not shared."""

    def __init__(self, model: BlocksModel) -> None:
        self._c = library()
        settings = model.settings
        blocks: Any = model.blocks
        self._parameters: list[Tensor] = [
            model.token_embedding.weight,
            model.position_embedding.weight,
        ]
        for block in blocks:
            norm_1, norm_2, network = (
                block.attention_norm,
                block.feedforward_norm,
                block.feedforward,
            )
            self._parameters += [
                *(norm_1.weight, norm_1.bias, block.heads.query_key_value.weight),
                *(block.projection.weight, block.projection.bias, norm_2.weight, norm_2.bias),
                *(
                    network.expand.weight,
                    network.expand.bias,
                    network.contract.weight,
                    network.contract.bias,
                ),
            ]
        self._parameters += [model.final_norm.weight, model.final_norm.bias, model.lm_head.weight]
        self._gradients = {id(p): torch.empty_like(p) for p in self._parameters}
        self._layers, self._dropout = settings.num_layers, settings.dropout
        count = len(self._parameters)
        self._weights, self._by_weights = (ctypes.c_void_p * count)(), (ctypes.c_void_p * count)()
        self._add = (ctypes.c_uint8 * count)()
        self._step = _Step(
            C=settings.width,
            H=settings.num_heads,
            F=settings.feedforward_width,
            L=settings.num_layers,
            V=settings.vocab_size,
            context=settings.context_length,
            epsilon=settings.norm_epsilon,
            weights=ctypes.addressof(self._weights),
            gradients=ctypes.addressof(self._by_weights),
            add=ctypes.addressof(self._add),
        )
        self._shape = (0, 0, 0)

    def _make_room(self, B: int, T: int, threads: int) -> None:
        step, self._shape = self._step, (B, T, threads)
        step.B, step.T = B, T
        self._room = torch.empty(threads, self._c.semigpt_blocks_workspace(step))
        self._by_embedded = torch.empty(B * T, step.C)
        self._losses = torch.empty(threads, dtype=torch.float64)
        step.room, step.by_embedded = self._room.data_ptr(), self._by_embedded.data_ptr()
        step.losses = self._losses.data_ptr()

    @torch.no_grad()
    def __call__(
        self, inputs_BT: Tensor, targets_BT: Tensor, weight: float, training: bool
    ) -> Tensor:
        """The mean loss in nats, and `weight` times its gradients, written to or added to `.grad` of every parameter.

        Dropout where `training`. The ids must be less than the vocabulary.
        """
        B, T = inputs_BT.shape
        # Asked of the C: its OpenMP need not be PyTorch's, and the number may change from step to step. A unit is one
        # thread's: more threads than units have nothing to learn.
        threads = min(self._c.semigpt_blocks_threads(), -(-B // LANES))
        if self._shape != (B, T, threads):
            self._make_room(B, T, threads)
        step = self._step
        ids, targets = inputs_BT.contiguous(), targets_BT.contiguous()
        step.ids, step.targets, step.weight = ids.data_ptr(), targets.data_ptr(), weight
        step.dropped = dropped_of_256(self._dropout) if training else 0
        if step.dropped:
            coins = draw_coins(self._layers, B, T, step.C)
            step.coins = coins.data_ptr()
        # All asked before any is given: a tied matrix is there twice.
        self._add[:] = [parameter.grad is not None for parameter in self._parameters]
        for i, parameter in enumerate(self._parameters):
            if parameter.grad is None:
                parameter.grad = self._gradients[id(parameter)]
            self._weights[i], self._by_weights[i] = parameter.data_ptr(), parameter.grad.data_ptr()
        return torch.tensor(self._c.semigpt_blocks_step(step), dtype=torch.float32)
