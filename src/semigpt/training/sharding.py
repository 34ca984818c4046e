"""A model in parts: each process keeps its rows of every parameter, gradient and moment.

FSDP2 (`torch.distributed.fsdp.fully_shard`) gathers a block's weights where a step needs them and
scatters its gradients. What it would add up by itself is added as the tree of
`semigpt.parallel`, and what needs a whole matrix is computed by its owner, so the bits
are a replica's. A checkpoint is the replica's file too: each process writes its rows into it.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from semigpt.device import MachineSettings, pick_precision
from semigpt.errors import CheckpointError, SettingsError
from semigpt.language import _
from semigpt.models import model_class
from semigpt.models.base import LanguageModel
from semigpt.models.memory import MemoryGPT
from semigpt.parallel import Processes, Turn
from semigpt.tensor_file import Parts, WriteFile, begin_file, fill_in
from semigpt.training.adamw import SLOTS, check_like
from semigpt.training.muon import Muon
from semigpt.training.optimizer import (
    Optimizer,
    OptimizerSettings,
    adamw_of,
    grouped,
    learning_rate_scale,
)
from semigpt.training.owners import Owners, balanced, rows_of
from semigpt.training.progress import FIRST_LEG
from semigpt.training.settings import LegSettings
from semigpt.training.step import Step

__all__ = ["ShardedOptimizer", "check_sharded", "is_plain"]

VECTOR = 16  # float32 numbers in the widest


def is_plain(machine: MachineSettings) -> bool:
    """Whether each step is computed by autograd as it is, on every machine."""
    plain = machine.backend == "plain"
    again = machine.backend == "auto" and machine.checkpoint_activations
    return (plain or again) and not machine.compile


def check_sharded(
    machine: MachineSettings, *, lora: int | None = None, output_sample: int = 0
) -> None:
    """Raise SettingsError where a run is not computed as a sharded model can be."""
    if lora is not None:
        raise SettingsError(_("adapters are trained beside a whole model: leave --shard out"))
    if output_sample:
        raise SettingsError(
            _("a sharded model's output layer is not sampled: leave --shard or output_sample out")
        )
    if not is_plain(machine):
        raise SettingsError(
            _(
                "a sharded model is computed by autograd, which rounds otherwise than this run's "
                "machine.backend and compile: leave --shard out, or begin a run with "
                "--set machine.backend=plain"
            )
        )


class ShardedOptimizer(Optimizer):
    """The optimizers of a model in parts. Until `shard` cuts it, the model is whole.

    `parameters` are this process's rows, which AdamW moves as they are. A hidden matrix has an
    owner, which keeps its momentum, makes it orthogonal, and sends each process its rows; so has a
    parameter too small or odd to be moved in parts.
    """

    def __init__(self, settings: OptimizerSettings, group: Processes, device: torch.device) -> None:
        self.settings, self._group, self._device = settings, group, device
        self._table = self._muon = None
        self.parameters = []
        self._saved: dict[str, Tensor] = {}
        self._owned: dict[int, Tensor] = {}  # whole gradients of hidden matrices, by number

    def shard(self, model: LanguageModel, step: Step) -> Step:
        """Cut the model and the state that was loaded, on every process; returns its step."""
        if len(list(model.parameters())) == 1:
            raise SettingsError(_("a bigram is trained by one process, whole: leave --shard out"))
        size = self._group.shards
        weights = [p.detach() for p in model.parameters() if p.requires_grad]
        self._owners = balanced([p.numel() for p in weights], size)
        cut(model, self._group, self._device)
        self._model = model
        sharded = [p for p in model.parameters() if p.requires_grad]
        self._sharded, self._shapes = sharded, [p.shape for p in sharded]
        self.parameters = [nn.Parameter(rows_in(p)) for p in sharded]
        number_of = {id(p): number for number, p in enumerate(sharded)}
        hidden, *others = (
            [number_of[id(p)] for p in parameters] for parameters in grouped(model, self.settings)
        )
        self._numbers = [n for own in others for n in own]  # as AdamW counts
        self._odd = [n for n in self._numbers if not moved_in_parts(self._shapes[n], size)]
        moved = list(self.parameters)
        for n in self._odd:
            own = self._is_own(n)
            moved[n] = nn.Parameter(weights[n].to(self._device) if own else torch.empty(0))
        self._moved, self._trained = moved, set[int]()  # those that AdamW has moments of
        self._adamw = adamw_of([[moved[n] for n in own] for own in others], self.settings)
        self._hidden: dict[tuple[int, int], list[int]] = {}
        for n in hidden:
            self._hidden.setdefault((self._shapes[n][0], self._shapes[n][1]), []).append(n)
        self._muon = Muon(
            [sharded[n] for own in self._hidden.values() for n in own if self._is_own(n)],
            self.settings.momentum,
            self.settings.matrix_decay,
        )
        try:
            self._load()
        except (LookupError, ValueError) as error:
            raise CheckpointError(
                _("the optimizer's checkpoint is of another model: {error}").format(error=error)
            ) from None

        def sharded_step(*arguments: Any) -> Tensor:
            loss = step(*arguments)
            for whole, rows in zip(self._sharded, self.parameters, strict=True):
                rows.grad = None if whole.grad is None else rows_in(whole.grad)
                whole.grad = None
            return loss

        return sharded_step

    def _is_own(self, number: int) -> bool:
        return self._owners[number] == self._group.part

    @torch.no_grad()
    def clip_gradients(self) -> Tensor:
        """As a replica's: each norm is that of a whole gradient, computed by its owner."""
        touched = [n for n, rows in enumerate(self.parameters) if rows.grad is not None]
        gradients = [cast(Tensor, self.parameters[n].grad) for n in touched]
        owners = self._exchange(touched)
        wholes = owners.gather(gradients)
        norms = gradients[0].new_zeros(len(touched))
        if wholes:
            norms[owners.own] = torch.stack(torch._foreach_norm(wholes))
        norm: Tensor = torch.linalg.vector_norm(self._group.sum_in_replica(norms))
        own = [touched[n] for n in owners.own]
        read = {n for numbers in self._hidden.values() for n in numbers} | {*self._odd}
        self._owned = {n: whole for n, whole in zip(own, wholes, strict=True) if n in read}
        if self.settings.clip:
            scale = (self.settings.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_([*gradients, *self._owned.values()], scale)
        return norm

    def zero_gradients(self) -> None:
        super().zero_gradients()
        self._owned = {}

    @torch.no_grad()
    def step(self, fraction: float, leg: LegSettings = FIRST_LEG) -> float:
        scale = learning_rate_scale(fraction, self.settings, leg)
        self._trained |= {n for n in self._numbers if self.parameters[n].grad is not None}
        for n in self._odd:
            self._moved[n].grad = self._owned.get(n)
        self._adamw.step(self.settings.learning_rate * scale)
        if self._odd:
            wholes = [self._moved[n].detach() for n in self._odd if self._is_own(n)]
            rows = self._exchange(self._odd).scatter(wholes, self.parameters[0].new_empty(0))
            torch._foreach_copy_([self.parameters[n] for n in self._odd], rows)
        if self._hidden:
            self._move_hidden(self.settings.muon_learning_rate * scale)
        return self.settings.learning_rate * scale

    def _move_hidden(self, rate: float) -> None:
        assert self._muon is not None
        wholes: dict[int, Tensor] = {}
        for shape, numbers in self._hidden.items():
            if own := [n for n in numbers if self._is_own(n)]:
                updates = self._muon.updates(shape, [self._owned[n] for n in own])
                wholes.update(zip(own, updates, strict=True))
        hidden = sorted(n for numbers in self._hidden.values() for n in numbers)
        dtype = pick_precision(self._device, "auto")  # of `Muon.orthogonal`
        nothing = torch.empty(0, device=self._device, dtype=dtype)
        moved = self._exchange(hidden).scatter([wholes[n] for n in sorted(wholes)], nothing)
        update_of = dict(zip(hidden, moved, strict=True))
        for shape, numbers in self._hidden.items():
            parts: list[Tensor] = [self.parameters[n] for n in numbers]
            self._muon.move(shape, parts, [update_of[n].to(parts[0]) for n in numbers], rate)

    def _exchange(self, numbers: Sequence[int]) -> Owners:
        shapes = [self._shapes[n] for n in numbers]
        return Owners(shapes, [self._owners[n] for n in numbers], self._group)

    # What the first process writes and speaks with

    def whole(self, model: LanguageModel) -> LanguageModel | None:
        """The first process's copy of the whole model; every process calls."""
        cast(Any, model).reshard()  # `fully_shard` has made a module of FSDP's of it
        if self._group.replica:
            return None
        copy = blank_like(model) if not self._group.rank else None
        wanted = {} if copy is None else dict(copy.named_parameters(remove_duplicate=False))
        for name, parameter in model.named_parameters(remove_duplicate=False):
            owner = Owners([parameter.shape], [0], self._group)
            for whole in owner.gather([rows_in(parameter)]):
                wanted[name].data.copy_(whole)
        return copy

    # Saving and restoring

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Keep a whole state until `shard` takes this process's part of it."""
        self._saved = state

    def _load(self) -> None:
        """Take this process's part of the state that was loaded. Raises LookupError or ValueError
        for that of another model.
        """
        saved, self._saved = self._saved, {}
        rows: dict[str, Tensor] = {}
        for key, whole in saved.items():
            if not key.startswith("adamw."):
                continue
            name = key.removeprefix("adamw.")
            n = self._numbers[int(name.split(".")[0])]
            self._trained.add(n)
            if key.endswith(".step"):
                rows[name] = whole
            else:
                check_like(key, whole, self._sharded[n])
                rows[name] = whole[slice(*self._rows(n))] if n not in self._odd else whole
            if n in self._odd and not self._is_own(n):
                del rows[name]
        self._adamw.load_state(rows)
        for name, place, momentum in self._momenta() if saved else ():
            check_like(name, saved[name][place], momentum)
            momentum.copy_(saved[name][place])

    def _rows(self, number: int) -> tuple[int, int]:
        """This process's rows of a parameter."""
        return rows_of(self._shapes[number][0], self._group.part, self._group.shards)

    def _momenta(self) -> Iterator[tuple[str, int, Tensor]]:
        """This process's own momenta: (stack in a checkpoint, place in it, matrix)."""
        assert self._muon is not None
        for shape, numbers in self._hidden.items():
            own = [place for place, n in enumerate(numbers) if self._is_own(n)]
            for place, momentum in zip(own, self._muon.momenta.get(shape, ()), strict=True):
                yield stack_name(shape), place, momentum

    def checkpoint(self, model: LanguageModel) -> tuple[dict[str, Any], WriteFile]:
        return {**self.parts()}, self.write

    def parts(self) -> dict[str, Parts]:
        """What this process writes of a checkpoint's files, by their names without ending.

        What several replicas hold they write in turn.
        """
        shapes: dict[str, Sequence[int]] = {}
        held: list[tuple[str, int, Tensor]] = []
        for name, parameter in self._model.named_parameters():
            if not parameter.requires_grad:
                continue
            shapes[name] = parameter.shape
            first, _ = rows_of(len(parameter), self._group.part, self._group.shards)
            held.append((name, first * parameter.shape[1:].numel(), rows_in(parameter)))
        in_turn = slice(self._group.replica, None, self._group.size // self._group.shards)
        model = Parts(shapes, held[in_turn])
        shapes, held = {}, []
        state = self._adamw.state()
        for number, n in enumerate(self._numbers):
            for slot in SLOTS if n in self._trained else ():
                key, alone = f"{number}.{slot}", slot == "step" or n in self._odd
                shapes[f"adamw.{key}"] = () if slot == "step" else self._shapes[n]
                first = 0 if alone else self._rows(n)[0] * self._shapes[n][1:].numel()
                if self._is_own(n) or not alone:
                    held.append((f"adamw.{key}", first, state[key]))
        shapes |= {stack_name(s): (len(numbers), *s) for s, numbers in self._hidden.items()}
        held += [(name, place * m.numel(), m) for name, place, m in self._momenta()]
        return {"model": model, "optimizer": Parts(shapes, held[in_turn])}

    def write(self, parts: Parts, path: Path) -> None:
        """Write a checkpoint's file with the other processes. Raises OSError where one cannot."""
        begin_file(path, parts.shapes)
        self._group.agree(0.0, Turn.SAVE)
        wrong = self.write_part(str(path))
        if wrong:
            raise OSError(wrong, os.strerror(wrong), str(path))

    def write_part(self, path: str = "") -> int:
        """Write this process's part of the file that the first names; the errno of one that could
        not, or 0. Every process calls.
        """
        file = Path(self._group.told(path))
        wrong = torch.zeros(self._group.size)
        try:
            fill_in(file, self.parts()[file.stem])
        except OSError as error:
            wrong[self._group.rank] = error.errno or errno.EIO
        return int(self._group.sum(wrong).max())


def moved_in_parts(shape: torch.Size, size: int) -> bool:
    """Whether AdamW's kernel computes each number of a tensor's parts as it does in the whole: the
    last numbers that fill no vector are rounded otherwise.
    """
    _, end = rows_of(shape[0], 0, size)
    return end * shape[1:].numel() % VECTOR == 0


def stack_name(shape: tuple[int, int]) -> str:
    """A stack of momenta in a checkpoint's optimizer file."""
    return f"muon.{shape[0]}x{shape[1]}"


def rows_in(tensor: Tensor) -> Tensor:
    """This process's rows of a tensor that FSDP2 has cut, in its memory."""
    rows: Tensor = cast(Any, tensor).to_local().detach()
    return rows


def blank_like(model: LanguageModel) -> LanguageModel:
    """A whole model of the shape, on the device and in the dtype of one in parts; its parameters
    are not set.
    """
    with torch.device("meta"):
        blank = model_class(model.kind)(model.settings)
    blank.to_empty(device=model.device)
    for name, buffer in blank.named_buffers():
        buffer.copy_(model.get_buffer(name))
    blank.compute_dtype = model.compute_dtype
    if isinstance(model, MemoryGPT) and isinstance(blank, MemoryGPT):
        blank.counts = model.counts
    return blank


def cut(model: LanguageModel, group: Processes, device: torch.device) -> None:
    """Cut a model into the rows of a replica's processes, on the device: a group of FSDP2's for
    each block, one for the rest. It knows of no other replicas: what they add is added once a step.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    mesh = DeviceMesh.from_group(group.replica_group, device.type)
    # A block rounds each weight once, and that before it goes round is half the bytes.
    rounded = model.compute_dtype if model.compute_dtype != torch.float32 else None
    policy = MixedPrecisionPolicy(rounded, torch.float32, cast_forward_inputs=False)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    blocks = list(next(lists, nn.ModuleList()))
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)
    if isinstance(model, MemoryGPT):
        register_fsdp_forward_method(model, "mixture_losses")
    for module in (*blocks, model):
        in_parts: Any = module
        in_parts.set_custom_reduce_scatter(_TreeReduceScatter(group))
        in_parts.set_custom_all_gather(_AllGather(group))
        in_parts.set_gradient_divide_factor(1.0)  # micro-batches are weighed already
        in_parts.set_force_sum_reduction_for_comms(True)


class _Carried:
    """What FSDP2 asks of a collective of one's own."""

    def __init__(self, group: Processes) -> None:
        self._group = group

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(size, dtype=dtype, device=device)


class _AllGather(_Carried):
    """The library's, with its errors told as a lost process."""

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Any, async_op: bool = False
    ) -> Any:
        import torch.distributed as dist

        # The first has its name from torch 2.13 on, where the second warns of it.
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        with self._group.connected():
            return gather(output_tensor, input_tensor, group=group, async_op=async_op)


class _TreeReduceScatter(_Carried):
    """An all-to-all, and the tree of `semigpt.parallel` in each process."""

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: Any,
        op: Any,
        async_op: bool = False,
    ) -> None:
        output_tensor.copy_(self._group.sum_of_parts(input_tensor))
