"""Training steps in C: collects a model's weights for `semigpt.native`, and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.language import N_, _
from semigpt.models.attention import BlocksModel
from semigpt.models.gpt import GPT
from semigpt.models.gpt_native import fits, gpt_shape, gpt_weights
from semigpt.models.memory import MemoryGPT
from semigpt.native import blocks_step, gpt_step
from semigpt.native.compiler import NativeUnavailableError
from semigpt.native.gpt_weights import Mixture, SampledRows
from semigpt.ngrams.counts import Counts
from semigpt.training.output_sample import OutputSampler

if TYPE_CHECKING:
    from semigpt.training.step import Step

__all__ = ["NativeBlocksStep", "NativeGPTStep", "NativeMemoryStep", "available", "limits"]

GPT_LIMITS = N_(
    "a CPU, Qwen3's shape without biases, widths in multiples of 16, heads in multiples of 32, "
    "and a context up to {longest}"
)
BLOCKS_LIMITS = N_(
    "a CPU, float32, ReLU, widths in multiples of 16, heads in multiples of 4, and a context up to "
    "{longest}"
)


def limits(model: GPT | BlocksModel) -> str | None:
    """What the step in C takes, where this model is not it; None where it is."""
    if isinstance(model, GPT):
        return None if fits(model) else _(GPT_LIMITS).format(longest=gpt_step.LONGEST)
    relu = model.settings.activation is None
    return (
        None
        if relu and blocks_step.fits(blocks_shape(model), model.parameters())
        else _(BLOCKS_LIMITS).format(longest=blocks_step.LONGEST)
    )


def available(model: GPT | BlocksModel, *, required: bool) -> bool:
    """Whether the C can be compiled here; SettingsError where it is `required` and cannot."""
    if not required:
        if isinstance(model, GPT):
            return gpt_step.library_or_none(model.compute_dtype) is not None
        return blocks_step.library_or_none() is not None
    try:
        if isinstance(model, GPT):
            gpt_step.library(model.compute_dtype)
        else:
            blocks_step.library()
    except NativeUnavailableError as error:
        raise SettingsError(
            _("no step in C: {error}; leave machine.backend out").format(error=error)
        ) from None
    return True


def blocks_shape(model: BlocksModel) -> blocks_step.BlocksShape:
    settings = model.settings
    return blocks_step.BlocksShape(
        vocab_size=settings.vocab_size,
        context_length=settings.context_length,
        num_layers=settings.num_layers,
        width=settings.width,
        num_heads=settings.num_heads,
        hidden_width=settings.feedforward_width,
        norm_epsilon=settings.norm_epsilon,
        dropout=settings.dropout,
    )


def blocks_parameters(model: BlocksModel) -> list[Tensor]:
    """In the order of `blocks_step.BlocksStep`."""
    blocks: Any = model.blocks
    parameters = [model.token_embedding.weight, model.position_embedding.weight]
    for block in blocks:
        first, second, network = block.attention_norm, block.feedforward_norm, block.feedforward
        parameters += [
            *(first.weight, first.bias, block.heads.query_key_value.weight),
            *(block.projection.weight, block.projection.bias, second.weight, second.bias),
            *(network.expand.weight, network.expand.bias),
            *(network.contract.weight, network.contract.bias),
        ]
    return [*parameters, model.final_norm.weight, model.final_norm.bias, model.lm_head.weight]


class NativeGPTStep:
    """A `gpt`'s step in C; see `semigpt.training.step.Step`."""

    def __init__(
        self, model: GPT, counts: Counts | None, sampler: OutputSampler | None = None
    ) -> None:
        self._model, self._counts, self._sampler = model, counts, sampler
        self._run = gpt_step.GPTStep(gpt_shape(model), gpt_weights(model), model.compute_dtype)

    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        distillation_weight: float = 0.0,
        /,
    ) -> Tensor:
        return self._run(
            *(inputs_BT, targets_BT, weight),
            training=self._model.training,
            teacher=self._teacher(distillation_weight),
            distillation_weight=distillation_weight,
            rows=self._rows(targets_BT),
        )

    def _rows(self, targets_BT: Tensor) -> SampledRows | None:
        if self._sampler is None or not self._model.training:
            return None
        return self._sampler.draw(targets_BT)

    def _teacher(self, distillation_weight: float) -> Any:
        if self._counts is None or not distillation_weight:
            return None
        return self._counts.pointer


class NativeMemoryStep(NativeGPTStep):
    """A `memory`'s step: the net and the mixture in C, the n-gram features by autograd."""

    _model: MemoryGPT

    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        distillation_weight: float = 0.0,
        /,
    ) -> Tensor:
        lookup = self._model.lookup(inputs_BT, targets_BT, leave_one_out=True)
        features_BTC = self._model.embed_features(lookup.features)
        mixture = Mixture(
            lookup.p_BTX.flatten(0, 1),
            lookup.context_BTF.flatten(0, 1),
            self._model.settings.own_loss,
            features_BTC.detach().flatten(0, 1),
        )
        loss = self._run(
            *(inputs_BT, targets_BT, weight),
            training=self._model.training,
            teacher=self._teacher(distillation_weight),
            distillation_weight=distillation_weight,
            mixture=mixture,
            rows=self._rows(targets_BT),
        )
        grad_BTC = self._run.grad_x.view_as(features_BTC) * weight
        features_BTC.backward(grad_BTC)  # type: ignore[no-untyped-call]
        return loss


class NativeBlocksStep:
    """A `blocks`' step in C; `otherwise` runs what it does not know or would slow down."""

    def __init__(
        self, model: BlocksModel, counts: Counts | None, otherwise: Step, *, always: bool
    ) -> None:
        self._model, self._counts, self._otherwise = model, counts, otherwise
        self._always = always  # also with few sequences
        self._run = blocks_step.BlocksStep(blocks_shape(model), blocks_parameters(model))

    def __call__(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        distillation_weight: float = 0.0,
        /,
    ) -> Tensor:
        distils = self._counts is not None and distillation_weight > 0
        if distils or (not self._always and blocks_step.few_sequences(*inputs_BT.shape)):
            return self._otherwise(inputs_BT, targets_BT, weight, distillation_weight)
        return self._run(inputs_BT, targets_BT, weight, training=self._model.training)
