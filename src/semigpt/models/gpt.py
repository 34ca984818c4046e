"""The top rung: a GPT of today, with Qwen3's shape and names, so that other tools load it.

Settings make it a Llama, Mistral or Qwen2 (`semigpt.models.families`).

    RMSNorm instead of LayerNorm      Zhang and Sennrich 2019, arXiv 1910.07467
    rotary positions (RoPE)           Su and others 2021, arXiv 2104.09864
    SwiGLU feed-forward               Shazeer 2020, arXiv 2002.05202
    grouped-query attention           Ainslie and others 2023, arXiv 2305.13245
    RMSNorm on each head's q and k    Henry and others 2020, arXiv 2010.04245, as in Qwen3

Shapes: B sequences, T positions, C width, H query heads, K key and value heads, D head width,
F hidden width of the feed-forward, V vocabulary. Inside, V is rounded up to a multiple of 64: 3,237
rows run the output product at half the speed of 3,264.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.auto import LARGER_SIZES, SIZES, Choice, Size
from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.models.base import Cache, LanguageModel, LayerPass, ModelSettings, windows_of
from semigpt.models.cache import KeyValueCache
from semigpt.models.families import FAMILIES, Family, config_of, settings_of
from semigpt.models.layers import (
    Linear,
    RMSNorm,
    RopeScaling,
    attend,
    attention_weights,
    inverse_frequencies,
    joined,
    repeated,
    rotary_table,
    rotate,
)
from semigpt.models.loss import chunked_loss, token_loss
from semigpt.native.gpt_weights import SampledRows
from semigpt.settings import check_positive
from semigpt.sizes import size_tables

if TYPE_CHECKING:
    from semigpt.native.gpt_forward import GPTForward

__all__ = ["GPT", "GPTSettings", "RunBlock", "run_plainly"]

VOCABULARY_MULTIPLE = 64
# Of one product with the output layer, for losses alone: 16 MB. Larger ones are faulted in anew.
LOGITS = 4_000_000

# Calls a block on its arguments: a training step may put torch.compile or checkpointing in between.
RunBlock: TypeAlias = Callable[..., Tensor]


def run_plainly(block: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The `RunBlock` that does nothing else."""
    return block(*arguments)


@dataclass(frozen=True, kw_only=True)
class GPTSettings(ModelSettings):
    """The shape of a GPT; what is None follows from the rest."""

    width: int = 256
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int | None = None  # default: num_heads, every head its own keys and values
    head_dim: int | None = None  # default: width / num_heads
    # Default: 8/3 of the width, rounded up to 64. Three such matrices weigh what two of 4 x do.
    hidden_width: int | None = None
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    tie_embeddings: bool = False
    dropout: float = 0.0
    # Whose shape it is, and is saved as; default: qwen3, which alone normalizes queries and keys.
    family: Family | None = None
    # Of qwen3 and llama, on queries, keys, values and the projection behind them. qwen2 has biases
    # on the first three, mistral none.
    attention_bias: bool | None = None
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self, "width", "num_layers", "num_heads", "num_kv_heads", "head_dim", "hidden_width"
        )
        check_positive(self, "rope_theta", "norm_epsilon")
        if self.head_dim is None and self.width % self.num_heads:
            raise SettingsError(
                _(
                    "width {width} cannot be shared by {num_heads} heads; choose a width "
                    "that {num_heads} divides, or set head_dim"
                ).format(width=self.width, num_heads=self.num_heads)
            )
        problem = ""
        if self.num_heads % self.kv_heads:
            problem = _("num_heads {heads} is not a multiple of num_kv_heads {kv_heads}")
        elif self.head_width % 2:
            problem = _("a head of width {head_width} cannot be rotated in pairs; make it even")
        elif not 0 <= self.dropout < 1:
            problem = _("dropout must be at least 0 and less than 1, not {dropout}")
        if problem:
            values = {name: getattr(self, name) for name in ("kv_heads", "head_width", "dropout")}
            raise SettingsError(problem.format(heads=self.num_heads, **values))
        if self.rope_scaling is not None:
            factor, low, high, context = self.rope_scaling
            if not (factor > 0 and low < high and context >= 0):
                raise SettingsError(
                    _(
                        "rope_scaling is a factor of more than 0, a low and a higher high "
                        "frequency factor, and a context or 0, not {rope_scaling}"
                    ).format(rope_scaling=self.rope_scaling)
                )

    @property
    def qk_norm(self) -> bool:
        """Whether each head's queries and keys are normalized."""
        return self.family in (None, "qwen3")

    @property
    def biases(self) -> tuple[bool, bool]:
        """Whether queries, keys and values have biases, and whether the projection behind has."""
        both = bool(self.attention_bias) and self.family in (None, "qwen3", "llama")
        return both or self.family == "qwen2", both

    @property
    def in_c(self) -> bool:
        """Whether it is of the shape that the C computes: Qwen3's, without biases."""
        return self.qk_norm and not self.biases[0]

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def head_width(self) -> int:
        return self.head_dim or self.width // self.num_heads

    @property
    def feedforward_width(self) -> int:
        return self.hidden_width or math.ceil(self.width * 8 / 3 / 64) * 64

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and of the output layer."""
        return math.ceil(self.vocab_size / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    @property
    def table_bytes(self) -> int:
        """The rotations of every position, two float32 tables, and their frequencies."""
        return 4 * (2 * self.context_length * self.head_width + self.head_width // 2)

    @property
    def adapted_shapes(self) -> Sequence[tuple[int, int]]:
        C, A, inner = self.width, self.num_heads * self.head_width, self.feedforward_width
        kv, wide = (self.kv_heads * self.head_width, C), (inner, C)
        return [(A, C), kv, kv, (C, A), wide, wide, (C, inner)] * self.num_layers

    @property
    def parameter_count(self) -> int:
        C, D = self.width, self.head_width
        tables = (1 if self.tie_embeddings else 2) * self.padded_vocab_size * C
        attention = 2 * C * D * (self.num_heads + self.kv_heads) + 2 * D * self.qk_norm
        on_heads, behind = self.biases
        attention += D * (self.num_heads + 2 * self.kv_heads) * on_heads + C * behind
        a_block = 2 * C + attention + 3 * C * self.feedforward_width
        return tables + self.num_layers * a_block + C


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions; Qwen3 normalizes queries and keys."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.num_heads, self.kv_heads, self.head_width = (
            settings.num_heads,
            settings.kv_heads,
            settings.head_width,
        )
        self.dropout = settings.dropout
        C, D, (on_heads, behind) = settings.width, self.head_width, settings.biases
        self.q_proj = Linear(C, self.num_heads * D, bias=on_heads)
        self.k_proj = Linear(C, self.kv_heads * D, bias=on_heads)
        self.v_proj = Linear(C, self.kv_heads * D, bias=on_heads)
        self.o_proj = Linear(self.num_heads * D, C, bias=behind)
        self.q_norm, self.k_norm = (
            RMSNorm(D, settings.norm_epsilon) if settings.qk_norm else nn.Identity()
            for _ in range(2)
        )

    def forward(
        self,
        x_BTC: Tensor,
        rotary: tuple[Tensor, Tensor],
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        B, T, _ = x_BTC.shape
        q, k, v = self._heads(x_BTC, rotary)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        mixed_BHTD = attend(q, k, v, self.dropout if self.training else 0.0)
        return cast(Tensor, self.o_proj(mixed_BHTD.transpose(1, 2).reshape(B, T, -1)))

    def last_weights(self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """What each head attends to at the last position, `[B, H, T]`."""
        q, k, _ = self._heads(x_BTC, rotary)
        return attention_weights(q[:, :, -1:], repeated(k, self.num_heads))[:, :, 0]

    def _heads(self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[B, H, T, D]`, keys and values `[B, K, T, D]`, normalized and rotated."""
        (B, T, _), D = x_BTC.shape, self.head_width
        heads_BTHD = joined(x_BTC, (self.q_proj, self.k_proj, self.v_proj)).view(B, T, -1, D)
        q, k, v = torch.split(
            heads_BTHD.transpose(1, 2), [self.num_heads, self.kv_heads, self.kv_heads], dim=1
        )
        return rotate(self.q_norm(q), *rotary), rotate(self.k_norm(k), *rotary), v


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.gate_proj = Linear(settings.width, settings.feedforward_width)
        self.up_proj = Linear(settings.width, settings.feedforward_width)
        self.down_proj = Linear(settings.feedforward_width, settings.width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        gate_BTF, up_BTF = joined(x_BTC, (self.gate_proj, self.up_proj)).chunk(2, dim=-1)
        return cast(Tensor, self.down_proj(F.silu(gate_BTF) * up_BTF))


class Block(nn.Module):
    """Attention, then feed-forward, each on a normalized copy and added back."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(settings.width, settings.norm_epsilon)
        self.self_attn = Attention(settings)
        self.post_attention_layernorm = RMSNorm(settings.width, settings.norm_epsilon)
        self.mlp = FeedForward(settings)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self,
        x_BTC: Tensor,
        rotary: tuple[Tensor, Tensor],
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        x_BTC = x_BTC + self.dropout(
            self.self_attn(self.input_layernorm(x_BTC), rotary, cache, layer)
        )
        return cast(Tensor, x_BTC + self.dropout(self.mlp(self.post_attention_layernorm(x_BTC))))


class Decoder(nn.Module):
    """Everything from the ids to the output layer."""

    def __init__(self, settings: GPTSettings, rows: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(rows, settings.width)
        self.layers = nn.ModuleList(Block(settings) for _ in range(settings.num_layers))
        self.norm = RMSNorm(settings.width, settings.norm_epsilon)


class GPT(LanguageModel):
    """A Qwen3-shaped GPT, saved as a folder that `AutoModelForCausalLM` loads."""

    kind: ClassVar[str] = "gpt"
    description: ClassVar[str] = "RMSNorm, RoPE, SwiGLU, QK-norm (Qwen3)"
    Settings: ClassVar[type[ModelSettings]] = GPTSettings
    small: ClassVar[Mapping[str, Any]] = {
        "context_length": 16,
        "width": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
    }
    auto: ClassVar[frozenset[Choice]] = frozenset(get_args(Choice))
    book: ClassVar[Mapping[str, Any]] = {
        "context_length": 8,
        "width": 32,
        "num_layers": 4,
        "num_heads": 4,
    }
    sizes: ClassVar[tuple[Size, ...]] = (*SIZES, *LARGER_SIZES)
    cuts_context: ClassVar[bool] = True
    settings: GPTSettings

    @classmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        return size_tables(size)

    @classmethod
    def model_types(cls) -> tuple[str, ...]:
        return tuple(FAMILIES)

    @classmethod
    def settings_from_huggingface(cls, config: Mapping[str, Any]) -> ModelSettings:
        return GPTSettings(**settings_of(config))

    inverse_frequencies_P: Tensor
    cos_TD: Tensor
    sin_TD: Tensor

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        settings.require_vocabulary()
        self.settings = settings
        rows = settings.padded_vocab_size
        self.model = Decoder(settings, rows)
        self.lm_head = Linear(settings.width, rows)
        if settings.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # GPT-2's: residual branches start smaller in a deeper net, so that their sum does
                # not grow.
                branch = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(
                    parameter, std=0.02 / math.sqrt(2 * settings.num_layers) if branch else 0.02
                )
            elif name.endswith("_proj.bias"):
                nn.init.zeros_(parameter)
        frequencies_P = inverse_frequencies(
            settings.head_width, settings.rope_theta, settings.rope_scaling
        )
        cos_TD, sin_TD = rotary_table(torch.arange(settings.context_length), frequencies_P)
        self.register_buffer("inverse_frequencies_P", frequencies_P, persistent=False)
        self.register_buffer("cos_TD", cos_TD, persistent=False)
        self.register_buffer("sin_TD", sin_TD, persistent=False)

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor | None = None,
        *,
        run_block: RunBlock = run_plainly,
        keep_logits: bool = True,
        rows: SampledRows | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As `LanguageModel.forward`. Without `keep_logits` they are computed in chunks for the
        loss, and an empty tensor stands for them. With `rows` they are the sample's, alone.
        """
        self.check_context(inputs_BT)
        hidden_BTC = self._hidden(self._embedded(inputs_BT, None), run_block)
        weight_VC, V = self.lm_head.weight, self.settings.vocab_size
        if rows is not None:
            return rows.logits(hidden_BTC, weight_VC), None
        if targets_BT is not None and not keep_logits:
            return hidden_BTC.new_empty(0), chunked_loss(hidden_BTC, weight_VC, targets_BT, V)
        logits_BTV = self._output(hidden_BTC, inputs_BT)
        return logits_BTV, None if targets_BT is None else token_loss(logits_BTV, targets_BT)

    def window_losses(
        self,
        ids_S: Tensor,
        starts_B: Tensor,
        scored_BT: Tensor,
        forward: GPTForward | None = None,
    ) -> Tensor:
        """As `LanguageModel.window_losses`: the output layer reads what is scored alone.

        forward: computes losses instead of PyTorch
        """
        windows_BT = windows_of(ids_S, starts_B, scored_BT.shape[1] + 1)
        inputs_BT = windows_BT[:, :-1].contiguous()
        return self._scored(inputs_BT, windows_BT[:, 1:], scored_BT, None, forward)[1]

    def _scored(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        scored_BT: Tensor,
        added_BTC: Tensor | None,
        forward: GPTForward | None,
    ) -> tuple[Tensor, Tensor]:
        """What the output layer reads where it is scored, `[N, C]`, and the net's losses, `[N]`."""
        if forward is not None:
            return forward.scored(inputs_BT, targets_BT, scored_BT, added_BTC)
        x_BTC = self.model.embed_tokens(inputs_BT)
        hidden_NC = self._hidden(x_BTC if added_BTC is None else x_BTC + added_BTC)[scored_BT]
        return hidden_NC, self._net_losses(hidden_NC, targets_BT[scored_BT])

    def _net_losses(self, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
        """The net's cross-entropy of each target, `[N]`, from what its output layer reads."""
        weight_VC = self.lm_head.weight[: self.settings.vocab_size].to(hidden_NC.dtype)
        rows = max(LOGITS // len(weight_VC), 1)
        parts = [
            F.cross_entropy(F.linear(hidden, weight_VC).float(), targets, reduction="none")
            for hidden, targets in zip(
                torch.split(hidden_NC, rows), torch.split(targets_N, rows), strict=True
            )
        ]
        return torch.cat(parts)

    def _embedded(self, inputs_BT: Tensor, cache: KeyValueCache | None) -> Tensor:
        """What the first block reads, `[B, T, C]`, in float32."""
        return cast(Tensor, self.model.embed_tokens(inputs_BT))

    def _hidden(self, embedded_BTC: Tensor, run_block: RunBlock = run_plainly) -> Tensor:
        """From the embeddings of whole blocks to what the output layer reads, `[B, T, C]` both."""
        T = embedded_BTC.shape[1]
        rotary = (self.cos_TD[:T].to(self.compute_dtype), self.sin_TD[:T].to(self.compute_dtype))
        x_BTC = embedded_BTC.to(self.compute_dtype)
        for block in self.model.layers:
            x_BTC = run_block(block, x_BTC, rotary)
        return cast(Tensor, self.model.norm(x_BTC))

    def _output(self, hidden_BTC: Tensor, inputs_BS: Tensor) -> Tensor:
        """The logits `[B, T, V]` after the last T of S positions, whose tokens are `inputs_BS`."""
        return cast(Tensor, self.lm_head(hidden_BTC)[..., : self.settings.vocab_size])

    def layer_passes(self, inputs_BT: Tensor) -> list[LayerPass]:
        self.check_context(inputs_BT)
        embedded_BTC = self._embedded(inputs_BT, None)
        passes = [LayerPass(embedded_BTC[:, -1], None)]

        def note(block: Callable[..., Tensor], *arguments: Any) -> Tensor:
            assert isinstance(block, Block)
            x_BTC, rotary = arguments
            weights_BHS = block.self_attn.last_weights(block.input_layernorm(x_BTC), rotary)
            left_BTC = block(x_BTC, rotary)
            passes.append(LayerPass(left_BTC[:, -1], weights_BHS))
            return cast(Tensor, left_BTC)

        self._hidden(embedded_BTC, note)
        return passes

    def read_out(self, hidden_BC: Tensor) -> Tensor:
        normed_BC = self.model.norm(hidden_BC.to(self.compute_dtype))
        return cast(Tensor, self.lm_head(normed_BC)[..., : self.settings.vocab_size])

    def new_cache(self, batch_size: int) -> KeyValueCache:
        return KeyValueCache(self.settings, batch_size, self.device, self.compute_dtype)

    def next_logits(self, tokens_BT: Tensor, cache: Cache | None) -> Tensor:
        if not isinstance(cache, KeyValueCache):
            return super().next_logits(tokens_BT, cache)
        if cache.length == 0:
            tokens_BT = tokens_BT[:, -self.settings.context_length :]
        T = tokens_BT.shape[1]
        if T > 1 and cache.length + T > self.settings.context_length:
            # Where the window slides, each token sees another window: one at a time.
            for token_B1 in torch.split(tokens_BT, 1, dim=1):
                logits_BV = self.next_logits(token_B1, cache)
            return logits_BV
        positions_T = torch.arange(cache.length, cache.length + T, device=tokens_BT.device)
        cos_TD, sin_TD = rotary_table(positions_T, self.inverse_frequencies_P)
        rotary = (cos_TD.to(self.compute_dtype), sin_TD.to(self.compute_dtype))
        x_BTC = self._embedded(tokens_BT, cache).to(self.compute_dtype)
        for layer, block in enumerate(self.model.layers):
            x_BTC = block(x_BTC, rotary, cache, layer)
        hidden_BTC = self.model.norm(x_BTC)
        cache.length += T
        return self._output(hidden_BTC[:, -1:], cache.recent(tokens_BT))[:, -1].float()

    def huggingface_config(self) -> dict[str, Any]:
        return config_of(self.settings)

    def adapted_names(self) -> dict[str, str]:
        layers = self.model.layers.named_modules(prefix="model.layers")
        return {name: name for name, layer in layers if isinstance(layer, Linear)}

    def stored_name(self, name: str) -> str | None:
        tied = name == "lm_head.weight" and self.settings.tie_embeddings
        return None if tied or name.endswith("rotary_emb.inv_freq") else name

    def huggingface_state(self) -> dict[str, Tensor]:
        """Qwen3's names, without the vocabulary's padding rows and a tied output layer."""
        state = super().huggingface_state()
        V = self.settings.vocab_size
        state["model.embed_tokens.weight"] = state["model.embed_tokens.weight"][:V].contiguous()
        if self.settings.tie_embeddings:
            del state["lm_head.weight"]
        else:
            state["lm_head.weight"] = state["lm_head.weight"][:V].contiguous()
        return state

    @torch.no_grad()
    def load_huggingface_state(self, state: dict[str, Tensor]) -> None:
        V, own, padded = self.settings.vocab_size, self.state_dict(), dict(state)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            source = state.get(name, state["model.embed_tokens.weight"])
            padded[name] = torch.cat((source[:V], own[name][V:].to(source)))
        self.load_state_dict(padded)
