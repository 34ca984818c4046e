"""Rungs two to five, from one attention head to a stack of blocks; read it from top to bottom.

The bigram predicts the next token from one. Each rung here adds one idea to the one before:

    attention     a position mixes the values of all earlier ones, weighted by query and key
    multihead     several such heads side by side, each with weights of its own
    feedforward   a two-layer network at each position, after attention
    blocks        both as residual branches on a normalized copy, layer upon layer: a GPT-2

The defaults are the book's: width 32, 4 heads of 8, 4 layers, dropout 0.1. The initialization is
PyTorch's own, as in the book: embeddings standard normal, products uniform within
1 / sqrt(width).

Sources: Vaswani and others 2017, arXiv 1706.03762, section 3; Radford and others 2019, section 2.3,
for the order inside a block. Shapes: B sequences, T positions, C width, H heads, D head width,
F hidden width of the feed-forward, V vocabulary.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.auto import Size
from semigpt.errors import SettingsError
from semigpt.language import N_, _
from semigpt.models import gpt2
from semigpt.models.base import LanguageModel, LayerPass, ModelSettings
from semigpt.models.loss import linear_loss
from semigpt.settings import check_positive, to_table

__all__ = [
    "AttentionModel",
    "AttentionSettings",
    "BlocksModel",
    "BlocksSettings",
    "FeedForwardModel",
    "FeedForwardSettings",
    "MultiHeadModel",
    "MultiHeadSettings",
    "attend",
]


# Rung two: attention


@dataclass(frozen=True, kw_only=True)
class AttentionSettings(ModelSettings):
    """One head as wide as the model."""

    width: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "width")

    @property
    def embedding_parameters(self) -> int:
        """Of the token and position embeddings and of the output layer without its bias."""
        return (2 * self.vocab_size + self.context_length) * self.width

    @property
    def parameter_count(self) -> int:
        return self.embedding_parameters + self.vocab_size + 3 * self.width**2


def attend(q_BTD: Tensor, k_BTD: Tensor, v_BTD: Tensor) -> Tensor:
    """Causal attention, softmax(q kᵀ / √D) v, of `[..., T, D]` with any leading dimensions.

    The product of a query and a key of D independent numbers of variance 1 has variance D.
    Divided by √D it has variance 1, and the softmax starts out soft. The book divides by the
    square root of the model's width instead: the same for one head as wide as the model, half as
    large for 4 heads of 8. transformers divides by the head's width, and so does every folder
    that semigpt saves.
    """
    return attention_weights(q_BTD, k_BTD) @ v_BTD


def attention_weights(q_BTD: Tensor, k_BTD: Tensor) -> Tensor:
    """What each position attends to, softmax(q kᵀ / √D): `[..., T, T]`."""
    T, D = q_BTD.shape[-2:]
    scores_BTT = q_BTD @ k_BTD.transpose(-2, -1) / math.sqrt(D)
    past_TT = torch.ones(T, T, dtype=torch.bool, device=q_BTD.device).tril()
    # The softmax turns a score of -inf, which every future position gets, into a weight of
    # exactly 0.
    return scores_BTT.masked_fill(~past_TT, float("-inf")).softmax(dim=-1)


class Head(nn.Module):
    """One attention head: the softmax of queries and keys weighs the values."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, head_width, bias=False)
        self.key = nn.Linear(width, head_width, bias=False)
        self.value = nn.Linear(width, head_width, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return attend(self.query(x_BTC), self.key(x_BTC), self.value(x_BTC))

    def last_weights(self, x_BTC: Tensor) -> Tensor:
        """What the head attends to at the last position, `[B, 1, T]`."""
        return attention_weights(self.query(x_BTC), self.key(x_BTC))[:, -1:]


class _EmbeddingModel(LanguageModel):
    """What rungs two to five share: token plus position embeddings, and an output layer.

    What lies between the two, `mix`, is the rung.
    """

    settings: AttentionSettings
    Settings: ClassVar[type[AttentionSettings]]
    batch_size: ClassVar[int] = 12
    learning_rate: ClassVar[float] = 0.015

    @classmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        # Batches and rates of `tiny` by 24 s each: docs/choices.md#rates. No dropout: within
        # minutes a text is read a few times at most, and there is little to memorise.
        width, layers = {"tiny": (64, 2), "small": (128, 4), "base": (256, 6), "large": (512, 8)}[
            size
        ]
        shape = {
            "width": width,
            "context_length": 64,
            "num_heads": 4,
            "num_layers": layers,
            "dropout": 0.0,
        }
        known = {field.name for field in fields(cls.Settings)}
        return {
            "model": {name: value for name, value in shape.items() if name in known},
            "training": {"batch_size": cls.batch_size},
            "optimizer": {
                "optimizer": "adamw",
                "learning_rate": cls.learning_rate,
                "weight_decay": 0.0,
            },
        }

    def __init__(self, settings: AttentionSettings, *, output_bias: bool = True) -> None:
        super().__init__()
        settings.require_vocabulary()
        self.settings = settings
        self.token_embedding = nn.Embedding(settings.vocab_size, settings.width)
        self.position_embedding = nn.Embedding(settings.context_length, settings.width)
        self.lm_head = nn.Linear(settings.width, settings.vocab_size, bias=output_bias)

    @abstractmethod
    def mix(self, x_BTC: Tensor) -> Tensor:
        """From embeddings to what the output layer reads, `[B, T, C]` both."""

    @abstractmethod
    def _passes(self, x_BTC: Tensor) -> Iterator[LayerPass]:
        """What each layer does at the last position."""

    def layer_passes(self, inputs_BT: Tensor) -> list[LayerPass]:
        x_BTC = self._embedded(inputs_BT)
        return [LayerPass(x_BTC[:, -1], None), *self._passes(x_BTC)]

    def read_out(self, hidden_BC: Tensor) -> Tensor:
        return cast(Tensor, self.lm_head(hidden_BC))

    def _embedded(self, inputs_BT: Tensor) -> Tensor:
        self.check_context(inputs_BT)
        positions_TC = self.position_embedding.weight[: inputs_BT.shape[1]]
        return cast(Tensor, self.token_embedding(inputs_BT) + positions_TC)

    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        x_BTC = self.mix(self._embedded(inputs_BT))
        if targets_BT is None:
            return self.lm_head(x_BTC), None
        return linear_loss(x_BTC, self.lm_head.weight, self.lm_head.bias, targets_BT)

    def huggingface_config(self) -> dict[str, Any]:
        """A config of semigpt's own, which transformers cannot build; dropout is for training."""
        shape = {
            name: value for name, value in to_table(self.settings).items() if name != "dropout"
        }
        own_type = {"model_type": self.model_types()[0], "architectures": [type(self).__name__]}
        return {**own_type, **shape, "torch_dtype": "float32"}


class AttentionModel(_EmbeddingModel):
    """Rung two: the next token is predicted from a weighted mean over the whole context."""

    kind: ClassVar[str] = "attention"
    description: ClassVar[str] = N_("one head that looks back")
    Settings: ClassVar[type[AttentionSettings]] = AttentionSettings
    small: ClassVar[Mapping[str, Any]] = {"context_length": 16}
    book: ClassVar[Mapping[str, Any]] = {"context_length": 8, "width": 32}
    book_loss: ClassVar[float | None] = 3.44

    def __init__(self, settings: AttentionSettings) -> None:
        super().__init__(settings)
        self.head = Head(settings.width, settings.width)

    def mix(self, x_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.head(x_BTC))

    def _passes(self, x_BTC: Tensor) -> Iterator[LayerPass]:
        yield LayerPass(self.mix(x_BTC)[:, -1], self.head.last_weights(x_BTC))


# Rung three: several heads


@dataclass(frozen=True, kw_only=True)
class MultiHeadSettings(AttentionSettings):
    """`num_heads` heads, each of width / num_heads."""

    num_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "num_heads")
        if self.width % self.num_heads:
            raise SettingsError(
                _(
                    "width {width} cannot be shared by {num_heads} heads; choose a width "
                    "that {num_heads} divides"
                ).format(width=self.width, num_heads=self.num_heads)
            )


class MultiHeadAttention(nn.Module):
    """`num_heads` heads side by side, their outputs concatenated.

    Head by head this is `torch.cat([head(x) for head in heads], dim=-1)`. Here the heads are a
    dimension: one product gives all queries, keys and values, which are then cut into heads. The
    result is equal.
    """

    def __init__(self, width: int, num_heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return attend(*self._heads(x_BTC)).transpose(1, 2).reshape(x_BTC.shape)

    def last_weights(self, x_BTC: Tensor) -> Tensor:
        """What each head attends to at the last position, `[B, H, T]`."""
        q_BHTD, k_BHTD, _ = self._heads(x_BTC)
        return attention_weights(q_BHTD, k_BHTD)[:, :, -1]

    def _heads(self, x_BTC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, `[B, H, T, D]` each."""
        B, T, C = x_BTC.shape
        qkv_BT3HD = self.query_key_value(x_BTC).view(B, T, 3, self.num_heads, C // self.num_heads)
        q_BHTD, k_BHTD, v_BHTD = qkv_BT3HD.permute(2, 0, 3, 1, 4).unbind(0)
        return q_BHTD, k_BHTD, v_BHTD


class MultiHeadModel(_EmbeddingModel):
    """Rung three: several softmaxes attend to several things, with as many weights as one."""

    kind: ClassVar[str] = "multihead"
    description: ClassVar[str] = N_("several heads side by side")
    Settings: ClassVar[type[AttentionSettings]] = MultiHeadSettings
    small: ClassVar[Mapping[str, Any]] = {"context_length": 16}
    book: ClassVar[Mapping[str, Any]] = {**AttentionModel.book, "num_heads": 4}
    book_loss: ClassVar[float | None] = 3.29

    def __init__(self, settings: MultiHeadSettings) -> None:
        super().__init__(settings)
        self.heads = MultiHeadAttention(settings.width, settings.num_heads)

    def mix(self, x_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.heads(x_BTC))

    def _passes(self, x_BTC: Tensor) -> Iterator[LayerPass]:
        yield LayerPass(self.mix(x_BTC)[:, -1], self.heads.last_weights(x_BTC))


# Rung four: a feed-forward network


@dataclass(frozen=True, kw_only=True)
class FeedForwardSettings(MultiHeadSettings):
    """A hidden layer after attention, and dropout while training."""

    hidden_width: int | None = None  # default: 4 x width
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "hidden_width")
        if not 0 <= self.dropout < 1:
            raise SettingsError(
                _("dropout must be at least 0 and less than 1, not {dropout}").format(
                    dropout=self.dropout
                )
            )

    @property
    def feedforward_width(self) -> int:
        return self.hidden_width or 4 * self.width

    @property
    def feedforward_parameters(self) -> int:
        return (2 * self.width + 1) * self.feedforward_width + self.width

    @property
    def parameter_count(self) -> int:
        return super().parameter_count + self.feedforward_parameters


class FeedForward(nn.Module):
    """Two layers with a ReLU, or GPT-2's GELU, between, applied to each position alone."""

    def __init__(self, settings: FeedForwardSettings, activation: gpt2.Gelu | None = None) -> None:
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(settings.width, settings.feedforward_width)
        self.contract = nn.Linear(settings.feedforward_width, settings.width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        hidden_BTF = self.expand(x_BTC)
        if self.activation is None:
            hidden_BTF = hidden_BTF.relu()
        else:
            approximate = "tanh" if self.activation == "gelu_new" else "none"
            hidden_BTF = F.gelu(hidden_BTF, approximate=approximate)
        return cast(Tensor, self.dropout(self.contract(hidden_BTF)))


class FeedForwardModel(_EmbeddingModel):
    """Rung four: attention only averages; the feed-forward computes with the average."""

    kind: ClassVar[str] = "feedforward"
    description: ClassVar[str] = N_("a network after looking")
    Settings: ClassVar[type[AttentionSettings]] = FeedForwardSettings
    small: ClassVar[Mapping[str, Any]] = {"context_length": 16, "dropout": 0.0}
    book: ClassVar[Mapping[str, Any]] = {**MultiHeadModel.book, "dropout": 0.1}
    book_loss: ClassVar[float | None] = 3.36
    batch_size: ClassVar[int] = 24
    learning_rate: ClassVar[float] = 8e-3

    def __init__(self, settings: FeedForwardSettings) -> None:
        super().__init__(settings)
        self.heads = MultiHeadAttention(settings.width, settings.num_heads)
        self.feedforward = FeedForward(settings)

    def mix(self, x_BTC: Tensor) -> Tensor:
        return cast(Tensor, self.feedforward(self.heads(x_BTC)))

    def _passes(self, x_BTC: Tensor) -> Iterator[LayerPass]:
        yield LayerPass(self.mix(x_BTC)[:, -1], self.heads.last_weights(x_BTC))


# Rung five: blocks, stacked


@dataclass(frozen=True, kw_only=True)
class BlocksSettings(FeedForwardSettings):
    """A stack of `num_layers` blocks."""

    num_layers: int = 4
    norm_epsilon: float = 1e-5
    tie_embeddings: bool = False
    # GPT-2's own, exact or by its tanh, and with it biases on queries, keys and values; None: ReLU.
    activation: gpt2.Gelu | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "num_layers", "norm_epsilon")

    @property
    def parameter_count(self) -> int:
        norms = 4 * self.width
        # Queries, keys, values; the projection and its bias.
        attention = 4 * self.width**2 + self.width
        attention += 3 * self.width * (self.activation is not None)
        a_block = norms + attention + self.feedforward_parameters
        tied = self.vocab_size * self.width if self.tie_embeddings else 0
        return self.embedding_parameters - tied + self.num_layers * a_block + 2 * self.width

    @property
    def adapted_shapes(self) -> Sequence[tuple[int, int]]:
        C, inner = self.width, self.feedforward_width
        return [(3 * C, C), (C, C), (inner, C), (C, inner)] * self.num_layers


class Block(nn.Module):
    """Attention, then feed-forward, each on a normalized copy of x and added back to x.

    The sum gives the gradient a direct path from the loss to every layer. The LayerNorm in front
    keeps the input of each branch at one scale at any depth. `projection` mixes the concatenated
    heads.
    """

    def __init__(self, settings: BlocksSettings) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(settings.width, settings.norm_epsilon)
        bias = settings.activation is not None
        self.heads = MultiHeadAttention(settings.width, settings.num_heads, bias=bias)
        self.projection = nn.Linear(settings.width, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.feedforward_norm = nn.LayerNorm(settings.width, settings.norm_epsilon)
        self.feedforward = FeedForward(settings, settings.activation)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.dropout(self.projection(self.heads(self.attention_norm(x_BTC))))
        return x_BTC + cast(Tensor, self.feedforward(self.feedforward_norm(x_BTC)))


class BlocksModel(_EmbeddingModel):
    """Rung five, saved as a GPT-2 that `AutoModelForCausalLM` loads.

    The output layer has no bias, where the book's has one, because GPT-2's has none.
    """

    kind: ClassVar[str] = "blocks"
    description: ClassVar[str] = N_("residual blocks with LayerNorm, stacked (GPT-2)")
    Settings: ClassVar[type[AttentionSettings]] = BlocksSettings
    small: ClassVar[Mapping[str, Any]] = {"context_length": 16, "num_layers": 2, "dropout": 0.0}
    book: ClassVar[Mapping[str, Any]] = {**FeedForwardModel.book, "num_layers": 4}
    book_loss: ClassVar[float | None] = 3.23
    batch_size: ClassVar[int] = 32
    cuts_context: ClassVar[bool] = True
    settings: BlocksSettings

    @classmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        return {**super().defaults(size), "optimizer": {}}  # Muon's, as for `gpt`

    @classmethod
    def model_types(cls) -> tuple[str, ...]:
        return ("gpt2",)

    @classmethod
    def settings_from_huggingface(cls, config: Mapping[str, Any]) -> BlocksSettings:
        return BlocksSettings(**gpt2.settings_of(config))

    def __init__(self, settings: BlocksSettings) -> None:
        super().__init__(settings, output_bias=False)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.num_layers))
        self.final_norm = nn.LayerNorm(settings.width, settings.norm_epsilon)
        if settings.tie_embeddings:
            self.lm_head.weight = self.token_embedding.weight
            # As an output layer, a standard normal embedding gives logits of standard deviation √C.
            nn.init.normal_(self.token_embedding.weight, std=settings.width**-0.5)

    def mix(self, x_BTC: Tensor) -> Tensor:
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return cast(Tensor, self.final_norm(x_BTC))

    def _passes(self, x_BTC: Tensor) -> Iterator[LayerPass]:
        for block in cast(Iterable[Block], self.blocks):
            weights_BHS = block.heads.last_weights(block.attention_norm(x_BTC))
            x_BTC = block(x_BTC)
            yield LayerPass(x_BTC[:, -1], weights_BHS)

    def read_out(self, hidden_BC: Tensor) -> Tensor:
        return cast(Tensor, self.lm_head(self.final_norm(hidden_BC)))

    def huggingface_config(self) -> dict[str, Any]:
        return gpt2.config_of(self.settings)

    def uncut_shapes(self, context_length: int) -> dict[str, tuple[int, ...]]:
        return {gpt2.POSITIONS: (context_length, self.settings.width)}

    def adapted_names(self) -> dict[str, str]:
        return gpt2.adapted_names(self.settings)

    def stored_name(self, name: str) -> str | None:
        return gpt2.stored_name(name, self.settings)

    def huggingface_state(self) -> dict[str, Tensor]:
        return gpt2.state_of(self.state_dict(), self.settings)

    @torch.no_grad()
    def load_huggingface_state(self, state: dict[str, Tensor]) -> None:
        """Load weights written by `huggingface_state`; of positions, as many as it has.

        Raises SettingsError where queries, keys or values have a bias that this shape has not.
        """
        self.load_state_dict(gpt2.own_state(state, self.settings))
