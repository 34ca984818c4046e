"""How a training step is run: compiled C, a CUDA graph, torch.compile or autograd.

A step takes a batch, returns its mean loss and accumulates gradients. Models know nothing of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from semigpt.device import MachineSettings
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.models.attention import BlocksModel
from semigpt.models.base import LanguageModel, check_ids
from semigpt.models.gpt import GPT, RunBlock, run_plainly
from semigpt.models.loss import token_loss, too_large
from semigpt.models.memory import Lookup, MemoryGPT
from semigpt.native.compiler import build_identity
from semigpt.native.gpt_weights import SampledRows
from semigpt.ngrams.counts import Counts
from semigpt.training import native_step
from semigpt.training.cuda_graph import CapturedSteps
from semigpt.training.distillation import Teacher, distillation_loss, teacher_probabilities
from semigpt.training.output_sample import OutputSampler

__all__ = ["Backend", "Step", "arithmetic_of", "backend_of", "make_step", "samples"]

Backend: TypeAlias = Literal["native", "cuda graph", "autograd"]


class Step(Protocol):
    """Computes the loss and gradients of a batch."""

    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        distillation_weight: float = 0.0,
        /,
    ) -> Tensor:
        """The mean loss in nats; `weight` times its gradients are added to `.grad`.

        `distillation_weight` is the teacher's fraction of the targets. The gradients are those of
        the mixed targets; the loss returned is the text's all the same.

        Raises SettingsError for ids outside the vocabulary or a block longer than the context.
        """
        ...


def arithmetic_of(device: torch.device) -> dict[str, str]:
    """What the bits of a step depend on beside its recipe: a checkpoint keeps it."""
    found = {"torch": str(torch.__version__), "device": device.type}
    if device.type == "cuda":
        return found | {"GPU": torch.cuda.get_device_name(device)}
    return found | {
        "threads": str(torch.get_num_threads()),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "native code": build_identity(),
    }


def make_step(
    model: LanguageModel,
    machine: MachineSettings,
    teacher: Teacher | None = None,
    *,
    sampler: OutputSampler | None = None,
    compiler: str = "inductor",
) -> Step:
    """The fastest step there is for a model, on the device and in the dtype that it has now.

    `machine` may force or forbid backends; `compiler` is torch.compile's. With a `sampler` the step
    of a net on a CPU multiplies the rows of the output layer that it draws. Raises SettingsError
    where `machine` demands the step in C and there is none for this model, and for a sampler where
    there is no such step.
    """
    if sampler is not None and not samples(model):
        raise SettingsError(
            _(
                "training.output_sample is of a gpt or a memory on a CPU; leave it out, or set it "
                "to 0"
            )
        )
    counts = None if teacher is None else teacher.counts
    backend = backend_of(model, machine)
    run = _compiled(compiler) if machine.compile else run_plainly
    autograd = _AutogradStep(
        *(model, counts, sampler, run),
        checkpoints=machine.checkpoint_activations,
        captures=backend == "cuda graph",
    )
    step: Step = autograd
    if backend == "native":
        if isinstance(model, MemoryGPT) and model.counts is not None:
            step = native_step.NativeMemoryStep(model, counts, sampler)
        elif isinstance(model, GPT):
            step = native_step.NativeGPTStep(model, counts, sampler)
        elif isinstance(model, BlocksModel):
            forced = machine.backend == "native"
            step = native_step.NativeBlocksStep(model, counts, autograd, always=forced)
    return _CheckedStep(model, step)


def samples(model: LanguageModel) -> bool:
    """Whether a step of this model may sample its output layer."""
    return isinstance(model, GPT) and model.device.type == "cpu"


def backend_of(model: LanguageModel, machine: MachineSettings) -> Backend:
    """The backend that `make_step` picks. Raises SettingsError as it does."""
    asked = machine.backend
    if asked == "plain":
        return "autograd"
    as_written = not (machine.compile or machine.checkpoint_activations)
    if isinstance(model, GPT | BlocksModel) and as_written:
        limits = native_step.limits(model)
        if limits is None and native_step.available(model, required=asked == "native"):
            return "native"
        if limits is not None and asked == "native":
            raise SettingsError(
                _("the step in C takes {limits}; leave machine.backend out").format(limits=limits)
            )
    captures = isinstance(model, GPT) and model.device.type == "cuda"
    return "cuda graph" if captures and not machine.checkpoint_activations else "autograd"


class _CheckedStep:
    """A step behind the check of its input."""

    def __init__(self, model: LanguageModel, step: Step) -> None:
        self._model, self._step = model, step

    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        distillation_weight: float = 0.0,
        /,
    ) -> Tensor:
        self._model.check_context(inputs_BT)
        # CUDA's own kernels check ids, and asking here would wait for the GPU.
        if inputs_BT.device.type != "cuda":
            for ids_BT in (inputs_BT, targets_BT):
                check_ids(ids_BT, self._model.settings.vocab_size)
        return self._step(inputs_BT, targets_BT, weight, distillation_weight)


class _AutogradStep:
    """Any model on any device, by autograd; captured as CUDA graphs where `captures`."""

    def __init__(
        self,
        model: LanguageModel,
        counts: Counts | None,
        sampler: OutputSampler | None,
        run: Callable[..., Any],
        *,
        checkpoints: bool,
        captures: bool,
    ) -> None:
        self._model, self._counts, self._sampler, self._run = model, counts, sampler, run
        # One block is compiled and serves for all: 17 s for `base` on an H100 where the whole model
        # takes 25. The embedding's gradient stays PyTorch's, which sums in a fixed order.
        self._run_block: RunBlock = _checkpointed(run) if checkpoints else run
        self._captured = CapturedSteps(model) if captures else None

    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        distillation_weight: float = 0.0,
        /,
    ) -> Tensor:
        rows = None
        if self._sampler is not None and self._model.training:
            rows = self._sampler.draw(targets_BT)
        teacher_BTV = teacher_probabilities(self._counts, distillation_weight, inputs_BT)
        if rows is not None and teacher_BTV is not None:
            teacher_BTV = rows.distribution(teacher_BTV)
        batch = inputs_BT, targets_BT, *self._lookup(inputs_BT, targets_BT)
        tensors = batch if teacher_BTV is None else (*batch, teacher_BTV)

        def accumulate(
            weight: float | Tensor, distillation_weight: float | Tensor, *tensors: Tensor
        ) -> Tensor:
            teacher_BTV = tensors[len(batch)] if len(tensors) > len(batch) else None
            loss, objective = self._losses(
                tensors[: len(batch)], rows, teacher_BTV, distillation_weight
            )
            (objective * weight).backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        if self._captured is None:
            return accumulate(weight, distillation_weight, *tensors)
        kind = self._model.training, self._model.compute_dtype
        return self._captured(kind, accumulate, (weight, distillation_weight), tensors)

    def _lookup(self, inputs_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, ...]:
        """What a memory reads beside the batch."""
        if isinstance(self._model, MemoryGPT) and self._model.counts is not None:
            return self._model.lookup(inputs_BT, targets_BT, leave_one_out=True)
        return ()

    def _losses(
        self,
        batch: tuple[Tensor, ...],
        rows: SampledRows | None,
        teacher_BTV: Tensor | None,
        distillation_weight: float | Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The mean loss of the text in nats, and what training minimizes."""
        model = self._model
        inputs_BT, targets_BT, *lookup = batch
        if lookup:
            assert isinstance(model, MemoryGPT)
            net_loss_BT, logits_BTV, loss_BT = model.mixture_losses(
                inputs_BT, targets_BT, Lookup(*lookup), run_block=self._run_block, rows=rows
            )
            loss = loss_BT.mean()
            own = distillation_loss(
                logits_BTV, net_loss_BT.mean(), teacher_BTV, distillation_weight
            )
            return loss, loss + model.settings.own_loss * own
        if isinstance(model, GPT):
            # What a teacher says of every position is as large as the logits.
            whole = rows is None and teacher_BTV is None
            if whole and too_large(inputs_BT.numel(), model.settings.vocab_size):
                _, loss = model(inputs_BT, targets_BT, run_block=self._run_block, keep_logits=False)
                return loss, loss
            logits_BTV, _ = model(inputs_BT, run_block=self._run_block, rows=rows)
            targets_BT = targets_BT if rows is None else rows.places(targets_BT)
            losses: tuple[Tensor, Tensor] = self._run(
                _text_and_mixed_loss, logits_BTV, targets_BT, teacher_BTV, distillation_weight
            )
            return losses
        logits_BTV, loss = self._run(model, inputs_BT, targets_BT)
        return loss, distillation_loss(logits_BTV, loss, teacher_BTV, distillation_weight)


def _text_and_mixed_loss(
    logits_BTV: Tensor,
    targets_BT: Tensor,
    teacher_BTV: Tensor | None,
    distillation_weight: float | Tensor,
) -> tuple[Tensor, Tensor]:
    loss = token_loss(logits_BTV, targets_BT)
    return loss, distillation_loss(logits_BTV, loss, teacher_BTV, distillation_weight)


def _checkpointed(run: Callable[..., Tensor]) -> RunBlock:
    """Keep only a block's input, and run the block again in the backward pass."""

    def run_block(*arguments: Any) -> Tensor:
        output: Tensor = checkpoint(run, *arguments, use_reentrant=False)
        return output

    return run_block


def _compiled(backend: str) -> Callable[..., Any]:
    """`run_plainly` through torch.compile; the first calls wait for its compiler."""
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")  # inductor's notice
    options: dict[str, Any] | None = None
    # Kernels chosen by what is fastest at the moment would change a resumed run's bits.
    if backend == "inductor" and "deterministic" in torch._inductor.list_options():
        options = {"deterministic": True}
    compiled: Callable[..., Any] = torch.compile(run_plainly, backend=backend, options=options)
    return compiled
