"""What every rung of the ladder offers, from one table to a GPT.

Shapes, here and in every file of models: B texts in a batch, T tokens of a block, C the model's width, H heads,
D the width of a head, V the vocabulary.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.auto import Choice, Size
from semigpt.errors import SettingsError
from semigpt.settings import check_positive, from_table

if TYPE_CHECKING:
    from semigpt.ngrams.counts import Counts

__all__ = [
    "Cache",
    "LanguageModel",
    "ModelSettings",
    "call",
    "lesson_of",
    "linear_loss",
    "own_settings",
    "taught_loss",
    "token_loss",
]

# What the config.json of a semigpt-* model holds beside the fields of its settings.
NOT_SETTINGS = ("model_type", "architectures", "torch_dtype", "bos_token_id", "eos_token_id")
CACHED_NUMBERS = 1 << 18  # of a matrix that shall stay in a core's second-level cache: 1 MiB


@dataclass(frozen=True, kw_only=True)
class ModelSettings(ABC):
    """What every model must be told; each rung adds its shape."""

    vocab_size: int = 0  # 0 in a recipe: the tokenizer decides it
    context_length: int

    def __post_init__(self) -> None:
        check_positive(self, "context_length")
        if self.vocab_size < 0:
            raise SettingsError(f"vocab_size must be 0 or more, not {self.vocab_size}")

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """How many numbers the model of this shape trains; a tied matrix counts once."""

    @property
    def table_bytes(self) -> int:
        """Bytes of tables that are no parameters."""
        return 0

    @property
    def ngram_order(self) -> int | None:
        """The longest n-gram whose counts are part of the model; None where none are."""
        return None


class Cache(ABC):
    """What a model remembers of the text so far, so that one more token costs one position."""

    length: int  # positions seen

    @abstractmethod
    def select(self, rows: Sequence[int]) -> Cache:
        """A cache of these texts alone, in this order; one named twice is continued in two ways."""


def call(part: Callable[..., Any], *given: Any) -> Any:
    """What `part` gives: the plain way to run a part of a training step."""
    return part(*given)


class LanguageModel(nn.Module, ABC):
    """A model of the next token: `model(inputs)` gives logits, `model(inputs, targets)` the loss as well."""

    # What a rung of the ladder says of itself; `models/__init__.py` lists the rungs.
    kind: ClassVar[str]  # its name in `[model] kind` and `--model`
    description: ClassVar[str]  # one line: what it adds to the rung before
    Settings: ClassVar[type[ModelSettings]]
    small: ClassVar[Mapping[str, Any]]  # a shape that a test trains in a second
    auto: ClassVar[frozenset[Choice]] = frozenset()  # automatic choices measured for this rung
    # The study note's own settings for `semigpt ladder --book`, and its validation loss with them.
    book: ClassVar[Mapping[str, Any]] = {"context_length": 8}
    book_loss: ClassVar[float | None] = None
    settings: ModelSettings
    auxiliary_files: ClassVar[tuple[str, ...]] = ()  # what it may have beside its weights
    # The number type of the products. Weights are kept, and updated, in float32 whatever it is.
    compute_dtype: torch.dtype = torch.float32
    # What runs a part of a training step on what it is given: the part itself, or `torch.compile`.
    _call: Callable[..., Any] = staticmethod(call)

    def compile_steps(self, backend: str = "inductor") -> None:
        """Run training steps through `torch.compile` from now on; the first ones wait for its compiler."""
        # Not by what is fastest at the moment where that changes what comes out: a run goes on to the same bits.
        # Inductor's own, about a kernel of the loss that it could have made otherwise.
        warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")
        options: dict[str, Any] | None = None
        if backend == "inductor" and "deterministic" in torch._inductor.list_options():
            options = {"deterministic": True}
        self._call = torch.compile(call, backend=backend, options=options)

    @property
    def compiles_steps(self) -> bool:
        return self._call is not call

    @abstractmethod
    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits `[B, T, V]` of the token after each position, and the mean cross-entropy in nats, or None."""

    def learn(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        *,
        teacher: Counts | None = None,
        taught: float = 0.0,
    ) -> Tensor:
        """The mean loss in nats, and `weight` times its gradients added to `.grad`: what a training step wants.

        With a teacher the gradients are of a softer loss, whose targets give `taught` of their weight to what the counts
        of n-grams say (Hinton and others 2015, arXiv 1503.02531, with counts for the teacher). The loss returned is the
        text's all the same.
        """
        lesson_BTV = lesson_of(teacher, taught, inputs_BT)
        loss, objective = self.objective(inputs_BT, targets_BT, lesson_BTV, taught)
        (objective * weight).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def objective(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        lesson_BTV: Tensor | None,
        taught: float | Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The mean loss in nats, and what training brings down: that loss, but for the share `taught` of it the lesson's."""
        logits_BTV, loss = self._call(self, inputs_BT, targets_BT)
        return loss, taught_loss(logits_BTV, loss, lesson_BTV, taught)

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """What each target costs, in nats: `[B, T]`."""
        logits_BTV, _ = self(inputs_BT)
        losses_N = F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none"
        )
        return losses_N.view_as(targets_BT)

    @classmethod
    @abstractmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        """The tables `model`, `training` and `optimizer` of a recipe that a size sets."""

    @classmethod
    def model_type(cls) -> str:
        """The `model_type` of its config.json."""
        return f"semigpt-{cls.kind}"

    @classmethod
    def settings_from_huggingface(cls, config: Mapping[str, Any]) -> ModelSettings:
        """The settings of the model that a config.json describes.

        Raises SettingsError, LookupError or TypeError for a shape that this rung does not build.
        """
        return own_settings(cls.Settings, config)

    @abstractmethod
    def huggingface_config(self) -> dict[str, Any]:
        """The `config.json` under which `transformers` builds the same model, or one that says it needs semigpt."""

    def huggingface_state(self) -> dict[str, Tensor]:
        """The weights under the names and shapes that `config.json` promises."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def auxiliary(self) -> dict[str, dict[str, Tensor]]:
        """What the model needs beside its weights and never changes, as file name → tensors."""
        return {}

    def load_auxiliary(self, found: dict[str, dict[str, Tensor]]) -> None:
        """Take back what `auxiliary` gave, as far as the files are there."""

    def load_huggingface_state(self, state: dict[str, Tensor]) -> None:
        """Take weights written by `huggingface_state`."""
        self.load_state_dict(state)

    def new_cache(self, batch_size: int) -> Cache | None:
        """An empty cache for `batch_size` texts, or None for a model that reads its whole context anew each time."""
        return None

    def next_logits(self, tokens_BT: Tensor, cache: Cache | None) -> Tensor:
        """Logits `[B, V]` after the last of `tokens_BT`: all the text without a cache, what is new with one."""
        logits_BTV, _ = self(tokens_BT[:, -self.settings.context_length :])
        return logits_BTV[:, -1].float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor,
        max_new_tokens: int,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """The tokens `[B, T]` continued by `max_new_tokens` drawn ones: `[B, T + max_new_tokens]`.

        The book's door: softmax over the last position's logits, then `torch.multinomial`. The text engine
        (`semigpt.generation`) stands behind it.
        """
        from semigpt.generation.engine import generate_tokens
        from semigpt.generation.sampling import SamplingSettings

        return generate_tokens(
            self, inputs, max_new_tokens, SamplingSettings(temperature=temperature), seed=seed
        )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def parameter_count(self) -> int:
        """How many numbers training may change; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def check_context(self, inputs_BT: Tensor) -> None:
        """Raise SettingsError where a block is longer than the model was built for."""
        if inputs_BT.shape[1] > self.settings.context_length:
            raise SettingsError(
                f"a block of {inputs_BT.shape[1]} tokens is longer than the model's context_length of "
                f"{self.settings.context_length}; cut the text or build the model with a longer one"
            )


def own_settings(cls: type[ModelSettings], config: Mapping[str, Any]) -> ModelSettings:
    """The settings in the config.json of a shape of semigpt's own, which holds their fields.

    Raises SettingsError for a field that is missing, unknown or of the wrong type.
    """
    table = {key: value for key, value in config.items() if key not in NOT_SETTINGS}
    return from_table(cls, table, "config.json")


def token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """The mean cross-entropy in nats: -ln of the probability given to each target, averaged over B * T.

    `F.cross_entropy` wants one row a guess, so `[B, T, V]` is flattened to `[B * T, V]` and `[B, T]` to `[B * T]`.
    """
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())


def lesson_of(teacher: Counts | None, taught: float, inputs_BT: Tensor) -> Tensor | None:
    """What the teacher says after each position, `[B, T, V]`, where it is listened to at all."""
    if teacher is None or not taught:
        return None
    return teacher.distribution(inputs_BT.to(teacher.device)).to(inputs_BT.device)


def taught_loss(
    logits_BTV: Tensor, loss: Tensor, lesson_BTV: Tensor | None, taught: float | Tensor
) -> Tensor:
    """`loss`, of the tokens that came, but for the share `taught` of what the lesson says instead of them."""
    if lesson_BTV is None:
        return loss
    softer = -(lesson_BTV * logits_BTV.float().log_softmax(dim=-1)).sum(dim=-1).mean()
    return (1 - taught) * loss + taught * softer


def linear_loss(
    x_BTC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, targets_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """An output layer and `token_loss` behind it as one: logits `[B, T, V]` and the loss, in float32.

    For a small model this is most of a step. The gradient of the loss by the logits, (softmax - one-hot) / (B * T), is
    known as soon as the logits are, so it is multiplied on at once, some rows at a time, while it lies in the cache:
    2.0 ms instead of the 2.6 to 3.0 that autograd's own way takes forward and backward (256 tokens, width 32, 3,237 rows,
    one thread, nobody else; twice as long where its memory has to be faulted in anew).
    """
    logits_NV, loss = _LinearLoss.apply(
        x_BTC.flatten(0, 1), weight_VC, bias_V, targets_BT.flatten()
    )  # type: ignore[no-untyped-call]
    return logits_NV.view(*targets_BT.shape, -1), loss


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        N, V = len(x_NC), len(weight_VC)
        logits_NV = F.linear(x_NC, weight_VC, bias_V)
        by_x_NC = torch.empty_like(x_NC)
        by_weight_VC, by_bias_V = (
            torch.zeros_like(weight_VC),
            None if bias_V is None else torch.zeros_like(bias_V),
        )
        loss = torch.zeros((), dtype=x_NC.dtype, device=x_NC.device)
        rows = max(CACHED_NUMBERS // V, 16) if x_NC.device.type == "cpu" else N
        for first in range(0, N, rows):
            part = slice(first, first + rows)
            part_loss, gradient_RV = loss_and_gradient(logits_NV[part], targets_N[part])
            loss += part_loss * len(gradient_RV)
            if any(ctx.needs_input_grad):
                torch.mm(gradient_RV, weight_VC, out=by_x_NC[part])
                by_weight_VC.addmm_(gradient_RV.t(), x_NC[part])
                if by_bias_V is not None:
                    by_bias_V += gradient_RV.sum(dim=0)
        loss /= N
        ctx.save_for_backward(x_NC, weight_VC, by_x_NC, by_weight_VC, by_bias_V)
        return logits_NV, loss

    @staticmethod
    def backward(
        ctx: Any, by_logits_NV: Tensor | None, by_loss: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x_NC, weight_VC, *gradients = ctx.saved_tensors
        found = [
            g if g is None or by_loss is None else g * (by_loss / len(x_NC)) for g in gradients
        ]
        if by_logits_NV is not None:  # whoever differentiates the logits themselves
            more = by_logits_NV @ weight_VC, by_logits_NV.t() @ x_NC, by_logits_NV.sum(dim=0)
            found = [
                g if g is None else m if by_loss is None else g + m
                for g, m in zip(found, more, strict=True)
            ]
        elif by_loss is None:
            found = [None, None, None]
        return (*found, None)


def loss_and_gradient(
    logits_RV: Tensor, targets_N: Tensor, row_of_N: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy in nats of N guesses, and N times its gradient by the logits `[R, V]`.

    Guess i is made by row i, or by row `row_of_N[i]` where rows make several guesses. The gradient of a row is
    (its guesses * softmax - its targets' counts) / N; to divide the few numbers that come of it is left to the caller.
    """
    shares_RV = logits_RV.softmax(dim=-1)
    rows_N = torch.arange(len(targets_N), device=targets_N.device) if row_of_N is None else row_of_N
    share_N = shares_RV[rows_N, targets_N]
    if bool((share_N > 1e-30).all()):
        loss = -share_N.log().mean()
    else:  # A share too small for a float. ln Σ exp(logits) comes from the largest one then, which is at least 1 / V.
        normalizer_R = logits_RV.amax(dim=-1) - shares_RV.amax(dim=-1).log()
        loss = (normalizer_R[rows_N] - logits_RV[rows_N, targets_N]).mean()
    if row_of_N is not None:
        shares_RV.mul_(torch.bincount(row_of_N, minlength=len(logits_RV))[:, None])
    minus_one = shares_RV.new_full((), -1.0)
    return loss, shares_RV.index_put_((rows_N, targets_N), minus_one, accumulate=True)
