"""What every rung of the ladder offers, from one table to a GPT.

A model maps token ids to logits. How a training step is run is `semigpt.training.step`'s; how text
is generated fast is `semigpt.generation`'s.

Shapes, here and in every file of models: B sequences in a batch, T tokens of a block, C the model's
width, H heads, D the width of a head, V the vocabulary.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.auto import SIZES, Choice, Size
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.settings import check_at_most, check_finite, check_positive, from_table

__all__ = [
    "Cache",
    "LanguageModel",
    "LayerPass",
    "ModelSettings",
    "check_ids",
    "own_settings",
    "windows_of",
]


MOST_LAYERS = 10_000  # modules, each with its objects in Python
# What the config.json of a semigpt-* model holds beside the fields of its settings.
NOT_SETTINGS = ("model_type", "architectures", "torch_dtype", "bos_token_id", "eos_token_id")


@dataclass(frozen=True, kw_only=True)
class ModelSettings(ABC):
    """The sizes that every model has; each rung adds its shape."""

    vocab_size: int = 0  # 0 in a recipe, until the tokenizer is known
    context_length: int

    def __post_init__(self) -> None:
        check_finite(self)
        check_at_most(self, num_layers=MOST_LAYERS)
        check_positive(self, "context_length")
        if self.vocab_size < 0:
            raise SettingsError(
                _("vocab_size must be 0 or more, not {vocab_size}").format(
                    vocab_size=self.vocab_size
                )
            )

    def require_vocabulary(self) -> None:
        """Raise SettingsError where no vocabulary was given: a model needs one."""
        if not self.vocab_size:
            raise SettingsError(_("a model needs a vocab_size of at least 1; take the tokenizer's"))

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """How many numbers the model of this shape trains; a tied matrix counts once."""

    @property
    def adapted_shapes(self) -> Sequence[tuple[int, int]]:
        """(outputs, inputs) of each matrix that LoRA adapts; none where it does not serve."""
        return ()

    @property
    def table_bytes(self) -> int:
        """Bytes of tables that are no parameters."""
        return 0

    @property
    def ngram_order(self) -> int | None:
        """The longest n-gram whose counts are part of the model; None where none are."""
        return None


class Cache(ABC):
    """What a model keeps of a sequence, so that one more token costs one position."""

    length: int  # positions seen

    @abstractmethod
    def select(self, rows: Sequence[int]) -> Cache:
        """A cache of these sequences, in this order. A row named twice becomes two sequences."""


class LayerPass(NamedTuple):
    """What a layer did at the last position of some blocks.

    hidden_BC: what it left to the next layer
    weights_BHS: what each of its heads attended to; None for the embeddings
    """

    hidden_BC: Tensor
    weights_BHS: Tensor | None


class LanguageModel(nn.Module, ABC):
    """A model of the next token: ids to logits, and with targets to the loss as well."""

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
    sizes: ClassVar[tuple[Size, ...]] = SIZES
    shares_steps: ClassVar[bool] = True  # whether several processes may compute a step
    cuts_context: ClassVar[bool] = False  # whether weights serve a shorter context too
    auxiliary_files: ClassVar[tuple[str, ...]] = ()  # files it may have beside its weights
    # The dtype of the products. Weights are kept, and updated, in float32 whatever it is.
    compute_dtype: torch.dtype = torch.float32

    @abstractmethod
    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits `[B, T, V]` of the token after each position, and the mean cross-entropy in nats.

        The loss is None without targets. Raises SettingsError for a block longer than the context.
        """

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """The cross-entropy of each target in nats, `[B, T]`."""
        logits_BTV, _ = self(inputs_BT)
        losses_N = F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none"
        )
        return losses_N.view_as(targets_BT)

    def window_losses(self, ids_S: Tensor, starts_B: Tensor, scored_BT: Tensor) -> Tensor:
        """The cross-entropy of targets in windows of one stretch of text, in nats: `[N]`.

        Window b has T targets and begins at `starts_B[b]` of `ids_S`; its targets are the ids one
        place later. Those that `scored_BT` marks are scored, window by window.
        """
        windows_BT = windows_of(ids_S, starts_B, scored_BT.shape[1] + 1)
        return self.token_losses(windows_BT[:, :-1], windows_BT[:, 1:])[scored_BT]

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor,
        max_new_tokens: int,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """The ids `[B, T]` continued by `max_new_tokens` sampled ones: `[B, T + max_new_tokens]`.

        The book's own loop: the logits of the last position, a softmax, `torch.multinomial`,
        `torch.cat`. The whole context is read again for each token; `semigpt.generation` does the
        same with caches and compiled code. Temperature 0 takes the likeliest token.

        Raises SettingsError for ids outside the vocabulary, no prompt, or impossible settings.
        """
        if inputs.dim() != 2 or inputs.shape[1] == 0:
            raise SettingsError(
                _("generate takes ids of shape [batch, at least 1], not {shape}").format(
                    shape=list(inputs.shape)
                )
            )
        if max_new_tokens < 0:
            raise SettingsError(
                _("max_new_tokens must be 0 or more, not {max_new_tokens}").format(
                    max_new_tokens=max_new_tokens
                )
            )
        if not 0 <= temperature < math.inf:
            raise SettingsError(
                _("temperature must be 0 or more and finite, not {temperature}").format(
                    temperature=temperature
                )
            )
        check_ids(inputs, self.settings.vocab_size)
        generator = torch.Generator(inputs.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        was_training = self.training
        self.eval()
        try:
            for _step in range(max_new_tokens):
                logits_BTV, _loss = self(inputs[:, -self.settings.context_length :])
                logits_BV = logits_BTV[:, -1].float()
                if temperature < 1e-6:  # as `SamplingSettings.greedy` has it
                    next_B1 = logits_BV.argmax(dim=-1, keepdim=True)
                else:
                    p_BV = (logits_BV / temperature).softmax(dim=-1)
                    next_B1 = torch.multinomial(p_BV, num_samples=1, generator=generator)
                inputs = torch.cat((inputs, next_B1), dim=1)
        finally:
            self.train(was_training)
        return inputs

    def new_cache(self, batch_size: int) -> Cache | None:
        """An empty cache for `batch_size` sequences; None for a model that rereads its context."""
        return None

    def next_logits(self, tokens_BT: Tensor, cache: Cache | None) -> Tensor:
        """Logits `[B, V]` after the last of `tokens_BT`: a whole text, or what a cache lacks."""
        logits_BTV, _ = self(tokens_BT[:, -self.settings.context_length :])
        return logits_BTV[:, -1].float()  # type: ignore[no-any-return]

    def layer_passes(self, inputs_BT: Tensor) -> list[LayerPass]:
        """What the embeddings and then each layer did at the last position of `inputs_BT`.

        Raises SettingsError for a rung without layers.
        """
        raise SettingsError(_("the {kind} rung has no layers to look into").format(kind=self.kind))

    def read_out(self, hidden_BC: Tensor) -> Tensor:
        """The logits `[B, V]` that the output layer reads from what any layer left.

        Raises SettingsError for a rung without layers.
        """
        raise SettingsError(_("the {kind} rung has no layers to look into").format(kind=self.kind))

    @classmethod
    @abstractmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        """The tables `model`, `training` and `optimizer` of a recipe that a size sets."""

    @classmethod
    def model_types(cls) -> tuple[str, ...]:
        """Each `model_type` of a config.json that this rung builds."""
        return (f"semigpt-{cls.kind}",)

    @classmethod
    def settings_from_huggingface(cls, config: Mapping[str, Any]) -> ModelSettings:
        """The settings of the model that a config.json describes.

        Raises SettingsError, LookupError or TypeError for a shape that this rung does not build.
        """
        return own_settings(cls.Settings, config)

    @abstractmethod
    def huggingface_config(self) -> dict[str, Any]:
        """The `config.json`: one that `transformers` builds, or one that names semigpt."""

    def uncut_shapes(self, context_length: int) -> dict[str, tuple[int, ...]]:
        """The shapes by `huggingface_state` that are others with this context length."""
        return {}

    def stored_name(self, name: str) -> str | None:
        """A tensor's name in weights that another program saved, as `huggingface_state` has it;
        None for what is no weight of this model.
        """
        return name

    def adapted_names(self) -> dict[str, str]:
        """The layers that LoRA adapts, in the order of `ModelSettings.adapted_shapes`: their names
        here and in transformers' model.
        """
        return {}

    def huggingface_state(self) -> dict[str, Tensor]:
        """The weights under the names and shapes that `config.json` promises."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def load_huggingface_state(self, state: dict[str, Tensor]) -> None:
        """Load weights written by `huggingface_state`."""
        self.load_state_dict(state)

    def auxiliary_tensors(self) -> dict[str, dict[str, Tensor]]:
        """What the model needs beside its weights and never changes, as file name → tensors."""
        return {}

    def load_auxiliary_tensors(self, found: dict[str, dict[str, Tensor]]) -> None:
        """Load what `auxiliary_tensors` gave, as far as the files are there."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def parameter_count(self) -> int:
        """The number of trainable weights; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def check_context(self, inputs_BT: Tensor) -> None:
        """Raise SettingsError for a block longer than the model was built for."""
        if inputs_BT.shape[1] > self.settings.context_length:
            raise SettingsError(
                _(
                    "a block of {shape} tokens is longer than the model's context_length "
                    "of {context_length}; cut the text or build the model with a longer "
                    "one"
                ).format(shape=inputs_BT.shape[1], context_length=self.settings.context_length)
            )


def windows_of(of_S: Tensor, starts_B: Tensor, length: int) -> Tensor:
    """The values `[B, length, ...]` of `[S, ...]` from each start on."""
    return of_S[starts_B[:, None] + torch.arange(length, device=of_S.device)]


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise SettingsError naming the first id that is not in 0 … vocab_size - 1."""
    if ids.numel() == 0:
        return
    low, high = ids.aminmax()
    if low < 0 or high >= vocab_size:
        wrong = int(ids[(ids < 0) | (ids >= vocab_size)][0])
        raise SettingsError(
            _(
                "token id {wrong} is outside the vocabulary of {vocab_size} tokens "
                "(0 to {last}); encode the text with the model's own tokenizer"
            ).format(wrong=wrong, vocab_size=vocab_size, last=vocab_size - 1)
        )


def own_settings(cls: type[ModelSettings], config: Mapping[str, Any]) -> ModelSettings:
    """The settings in the config.json of a shape of semigpt's own, which holds their fields.

    Raises SettingsError for a field that is missing, unknown or of the wrong type.
    """
    table = {key: value for key, value in config.items() if key not in NOT_SETTINGS}
    return from_table(cls, table, "config.json")
