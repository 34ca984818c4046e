"""The rung above `gpt`: a GPT beside the counts of n-grams, with a gate between them.

    p(w) = Σ_e weight_e p_e(w)        weights = softmax(gate · [hidden, context features, 1])

Counting a text takes seconds and knows its every phrase; a net takes minutes and knows what
phrases have in common. The gate reads the net's last hidden state and how well the counts know
the newest tokens, and weighs position by position: a mixture of experts (Jacobs and others 1991)
of which one, the net, is trained. The other experts are the counts after the last 0, 1 … tokens,
each length on its own; and the longest match, which is certain of the token that followed the
latest longest earlier match of the newest tokens (without a match it predicts what the longest
counts do).

While training, the counts leave out the token at hand (leave-one-out). On the text that they were
counted on they would otherwise always be right, and the gate would learn to rely on them. The net's
own loss is added with a weight of `own_loss`; without it the net learns only what the counts miss.

The net also reads n-gram features beside each token: the likeliest next tokens by the counts,
each an embedding times its p; how much the counts know; and what followed the longest match, with
its length. The last is what a trained net's induction heads find (Olsson and others 2022, arXiv
2209.11895).

Shapes: as in `gpt`; K likeliest tokens and the match's, E experts, X = E - 1 of them without the
net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.auto import SIZES, Choice, Size
from semigpt.errors import SettingsError
from semigpt.language import N_, _
from semigpt.models.base import ModelSettings, own_settings, windows_of
from semigpt.models.cache import KeyValueCache
from semigpt.models.gpt import GPT, GPTSettings, RunBlock, run_plainly
from semigpt.native.gpt_weights import SampledRows
from semigpt.ngrams.counts import LEVELS, Counts
from semigpt.ngrams.longest_match import LONGEST_MATCH, longest_match
from semigpt.settings import check_positive, to_table

if TYPE_CHECKING:
    from semigpt.native.gpt_forward import GPTForward

__all__ = ["Lookup", "MemoryGPT", "MemorySettings", "NgramFeatures"]

COUNTS_FILE = "counts.safetensors"
# Logarithms of counts reach 10 and more; Muon steps suit inputs of about one size.
LOGARITHM_SCALE = 0.1


@dataclass(frozen=True, kw_only=True)
class MemorySettings(GPTSettings):
    """A GPT's, and the memory's."""

    # Tokens of the longest n-gram counted. 5: 3.540, 6: 3.514 bits per character;
    # docs/choices.md#memory-order.
    memory_order: int = 6
    own_loss: float = 0.3  # weight of the net's own loss beside the mixture's
    # Likeliest tokens that the net reads. No features: 3.606 bits per character, 2 tokens 3.585,
    # 4 tokens 3.584; docs/choices.md#features.
    ngram_top_k: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "ngram_top_k")
        if not 2 <= self.memory_order <= LEVELS:
            raise SettingsError(
                _("memory_order must be between 2 and {levels}, not {memory_order}").format(
                    levels=LEVELS, memory_order=self.memory_order
                )
            )
        if self.own_loss < 0:
            raise SettingsError(
                _("own_loss must not be less than 0, not {own_loss}").format(own_loss=self.own_loss)
            )

    @property
    def ngram_order(self) -> int:
        return self.memory_order

    @property
    def adapted_shapes(self) -> Sequence[tuple[int, int]]:
        return ()  # its features and gate begin at random, and must be trained

    @property
    def parameter_count(self) -> int:
        features = 2 * (self.memory_order - 1)
        gate = (self.memory_order + 2) * (self.width + features + 1)
        hints = (2 * self.vocab_size + features + LONGEST_MATCH + 1) * self.width
        return super().parameter_count + gate + hints


class NgramFeatures(NamedTuple):
    """What the net reads beside the tokens. No weight of the model takes part in it."""

    token_rows_BTK: Tensor  # rows of `token_features`: likeliest tokens, and the match's
    token_weights_BTK: Tensor  # how far each is trusted: its p, a quarter of the match's length
    values_BTF: Tensor  # logarithms of counts, backoff weights, the match's length as one-hot


class Lookup(NamedTuple):
    """All that the counts and the text itself say at each position of a batch."""

    p_BTX: Tensor  # the probability that each expert but the net gives each target
    context_BTF: Tensor  # what the gate reads of the counts: `Counts.lookup`
    token_rows_BTK: Tensor
    token_weights_BTK: Tensor
    values_BTF: Tensor

    @property
    def features(self) -> NgramFeatures:
        return NgramFeatures(self.token_rows_BTK, self.token_weights_BTK, self.values_BTF)


class MemoryCache(KeyValueCache):
    """A KeyValueCache with the tokens that a longest match may look back at."""

    lookback: int = 0
    tokens_BT: Tensor | None = None

    def with_earlier(self, tokens_BT: Tensor) -> Tensor:
        """The kept tokens and these, `[B, S]`."""
        return (
            tokens_BT if self.tokens_BT is None else torch.cat((self.tokens_BT, tokens_BT), dim=1)
        )

    def select(self, rows: Sequence[int]) -> MemoryCache:
        chosen = super().select(rows)
        assert isinstance(chosen, MemoryCache)
        if self.tokens_BT is not None:
            chosen.tokens_BT = self.tokens_BT[torch.tensor(rows, device=self.tokens_BT.device)]
        return chosen

    def recent(self, tokens_BT: Tensor) -> Tensor:
        seen_BS = self.with_earlier(tokens_BT)
        self.tokens_BT = seen_BS[:, -self.lookback :]
        return seen_BS


class MemoryGPT(GPT):
    """A GPT with a memory. Until `set_counts` fills it, the model is a plain `gpt`."""

    kind: ClassVar[str] = "memory"
    description: ClassVar[str] = N_("the counts of n-grams, features from them, and a gate")
    Settings: ClassVar[type[ModelSettings]] = MemorySettings
    # Of a width that the compiled step takes, as `gpt`'s is one that it does not.
    small: ClassVar[Mapping[str, Any]] = {
        "context_length": 16,
        "width": 64,
        "num_layers": 2,
        "num_heads": 2,
        "memory_order": 3,
    }
    auto: ClassVar[frozenset[Choice]] = frozenset(
        {
            *("size", "tokenizer", "batch_size", "weight_decay", "output_sample", "start"),
            "embeddings",
        }
    )
    sizes: ClassVar[tuple[Size, ...]] = SIZES
    auxiliary_files: ClassVar[tuple[str, ...]] = (COUNTS_FILE,)
    settings: MemorySettings

    def __init__(self, settings: MemorySettings) -> None:
        super().__init__(settings)
        self.counts: Counts | None = None
        # [E, inputs]. Rows: the net, the counts after 0, 1 … tokens, the longest match.
        inputs = settings.width + 2 * (settings.memory_order - 1) + 1
        self.gate = nn.Parameter(torch.zeros(settings.memory_order + 2, inputs))
        # Of each token one row as the counts' prediction, and one as the longest match's.
        self.token_features = nn.Embedding(2 * settings.vocab_size, settings.width)
        self.feature_weights = nn.Parameter(
            torch.zeros(2 * (settings.memory_order - 1) + LONGEST_MATCH + 1, settings.width)
        )
        with torch.no_grad():
            # The first mixture relies on the longest counts: the net knows nothing yet.
            self.gate[:, -1] = -2.0
            self.gate[0, -1], self.gate[settings.memory_order, -1] = 0.0, 1.0
            self.token_features.weight.zero_()

    def set_counts(self, counts: Counts) -> None:
        """Use the counts of the training text. SettingsError for another order or vocabulary."""
        if (counts.order, counts.vocab_size) != (
            self.settings.memory_order,
            self.settings.vocab_size,
        ):
            raise SettingsError(
                _(
                    "counts of order {order} over {vocab_size} tokens do not fit a "
                    "memory of order {memory_order} over {memory_vocab_size}"
                ).format(
                    order=counts.order,
                    vocab_size=counts.vocab_size,
                    memory_order=self.settings.memory_order,
                    memory_vocab_size=self.settings.vocab_size,
                )
            )
        self.counts = counts

    def lookup(self, inputs_BT: Tensor, targets_BT: Tensor, *, leave_one_out: bool) -> Lookup:
        """All that the counts say of a batch, on the model's device; nothing in it has a gradient.

        With `leave_one_out` the batch is of the counted text: each target's own occurrence is
        left out.
        """
        assert self.counts is not None
        home = self.counts.device
        ids_BT, wanted_BT = inputs_BT.to(home), targets_BT.to(home)
        found = self._counted(ids_BT, wanted_BT, leave_one_out=leave_one_out)
        return self._lookup(ids_BT, wanted_BT, *found)

    def _counted(
        self, ids_BT: Tensor, wanted_BT: Tensor, *, leave_one_out: bool
    ) -> tuple[Tensor, ...]:
        """What the counts alone say: p of the targets, features, likeliest tokens and their p."""
        assert self.counts is not None
        p_BTK, context_BTF = self.counts.lookup(ids_BT, wanted_BT, leave_one_out=leave_one_out)
        likeliest = self.counts.top_k(
            ids_BT, self.settings.ngram_top_k, wanted_BT if leave_one_out else None
        )
        return p_BTK, context_BTF, *likeliest

    def _lookup(
        self,
        ids_BT: Tensor,
        wanted_BT: Tensor,
        p_BTK: Tensor,
        context_BTF: Tensor,
        *likeliest: Tensor,
    ) -> Lookup:
        """What `_counted` gave, and the longest matches beside it."""
        match_BT, length_BT = longest_match(ids_BT)
        match_p_BT = torch.where(length_BT > 0, (match_BT == wanted_BT).float(), p_BTK[..., -1])
        p_BTX = torch.cat((p_BTK, match_p_BT[..., None]), dim=2)
        tokens_BTK, likely_BTK = likeliest
        features = self._features(
            ids_BT.shape[1], (tokens_BTK, likely_BTK), context_BTF, (match_BT, length_BT)
        )
        return Lookup(p_BTX.to(self.device), context_BTF.to(self.device), *features)

    def embed_features(self, features: NgramFeatures) -> Tensor:
        """The n-gram features as the net reads them, added to the token embeddings: `[B, T, C]`."""
        rows_BTK, weights_BTK, values_BTF = features
        tokens_NC = F.embedding_bag(
            rows_BTK.flatten(0, 1),
            self.token_features.weight,
            per_sample_weights=weights_BTK.flatten(0, 1),
            mode="sum",
        )
        embedded_BTC: Tensor = (
            tokens_NC.view(*rows_BTK.shape[:2], -1) + values_BTF @ self.feature_weights
        )
        return embedded_BTC

    def mixture_losses(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        lookup: Lookup,
        *,
        run_block: RunBlock = run_plainly,
        rows: SampledRows | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture's loss of each target, from the probabilities of the targets alone.

        Returns the net's own loss `[B, T]`, the net's logits `[B, T, V]` and the mixture's loss
        `[B, T]`. With `rows` the net's are those of the sample.
        """
        self.check_context(inputs_BT)
        embedded_BTC = super()._embedded(inputs_BT, None) + self.embed_features(lookup.features)
        hidden_BTC = self._hidden(embedded_BTC, run_block)
        if rows is None:
            logits_BTV = super()._output(hidden_BTC, inputs_BT)
        else:
            logits_BTV = rows.logits(hidden_BTC, self.lm_head.weight)
            targets_BT = rows.places(targets_BT)
        net_loss_BT = F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none"
        ).view_as(targets_BT)
        log_p_BTE = torch.cat((-net_loss_BT[..., None], lookup.p_BTX.log()), dim=2)
        log_weights_BTE = self._log_mixture_weights(hidden_BTC, lookup.context_BTF)
        return net_loss_BT, logits_BTV, -(log_weights_BTE + log_p_BTE).logsumexp(dim=2)

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """As `LanguageModel.token_losses`, but the counts are asked for the targets alone."""
        if self.counts is None:
            return super().token_losses(inputs_BT, targets_BT)
        lookup = self.lookup(inputs_BT, targets_BT, leave_one_out=False)
        return self.mixture_losses(inputs_BT, targets_BT, lookup)[2]

    def window_losses(
        self,
        ids_S: Tensor,
        starts_B: Tensor,
        scored_BT: Tensor,
        forward: GPTForward | None = None,
    ) -> Tensor:
        """As `GPT.window_losses`: what windows share is looked up once."""
        if self.counts is None:
            return super().window_losses(ids_S, starts_B, scored_BT, forward)
        home, T = self.counts.device, scored_BT.shape[1]
        ids_S, starts_B = ids_S.to(home), starts_B.to(home)
        windows_BT = windows_of(ids_S, starts_B, T + 1)
        inputs_BT, targets_BT = windows_BT[:, :-1], windows_BT[:, 1:]
        shared = self._counted(ids_S[None, :-1], ids_S[None, 1:], leave_one_out=False)
        found = [windows_of(of_1S[0], starts_B, T) for of_1S in shared]
        # At the beginning of a window the contexts end at its edge.
        if edge := min(self.settings.memory_order - 2, T):
            first_BT, next_BT = inputs_BT[:, :edge].contiguous(), targets_BT[:, :edge].contiguous()
            own = self._counted(first_BT, next_BT, leave_one_out=False)
            for of_windows, at_edge in zip(found, own, strict=True):
                of_windows[:, :edge] = at_edge
        lookup = self._lookup(inputs_BT.contiguous(), targets_BT, *found)
        inputs_BT, targets_BT = inputs_BT.to(self.device), targets_BT.to(self.device)
        added_BTC = self.embed_features(lookup.features)
        hidden_NC, net_loss_N = self._scored(inputs_BT, targets_BT, scored_BT, added_BTC, forward)
        log_p_NE = torch.cat((-net_loss_N[:, None], lookup.p_BTX[scored_BT].log()), dim=1)
        log_weights_NE = self._log_mixture_weights(hidden_NC, lookup.context_BTF[scored_BT])
        return -(log_weights_NE + log_p_NE).logsumexp(dim=1)

    def _log_mixture_weights(self, hidden_BTC: Tensor, context_BTF: Tensor) -> Tensor:
        """ln of the weight of each expert, `[B, T, E]`."""
        C = self.settings.width
        hidden_scores_BTE = hidden_BTC.float() @ self.gate[:, :C].t()
        context_scores_BTE = context_BTF.to(self.gate.device) @ self.gate[:, C:-1].t()
        return (hidden_scores_BTE + context_scores_BTE + self.gate[:, -1]).log_softmax(dim=-1)

    def _recent(self, seen_BS: Tensor, T: int) -> Tensor:
        """The last T of S tokens and the context that the counts need before them, `[B, R]`."""
        assert self.counts is not None
        return seen_BS[:, -(T + self.settings.memory_order - 2) :].to(self.counts.device)

    def _features(
        self,
        T: int,
        likeliest: tuple[Tensor, Tensor],
        context_BRF: Tensor,
        match: tuple[Tensor, Tensor],
    ) -> NgramFeatures:
        """The features of the last T positions, on the model's device."""
        tokens_BTK, p_BTK, context_BTF, match_BT, length_BT = (
            found[:, -T:].to(self.device) for found in (*likeliest, context_BRF, *match)
        )
        rows_BTK = torch.cat((tokens_BTK, (match_BT + self.settings.vocab_size)[..., None]), dim=2)
        weights_BTK = torch.cat((p_BTK, (length_BT / 4).clamp(max=1)[..., None]), dim=2)
        context_BTF = torch.cat(
            (context_BTF[..., ::2] * LOGARITHM_SCALE, context_BTF[..., 1::2]), dim=2
        )
        length_BTL = F.one_hot(length_BT, LONGEST_MATCH + 1).float()
        return NgramFeatures(rows_BTK, weights_BTK, torch.cat((context_BTF, length_BTL), dim=2))

    def _embedded(self, inputs_BT: Tensor, cache: KeyValueCache | None) -> Tensor:
        x_BTC = super()._embedded(inputs_BT, cache)
        if self.counts is None:
            return x_BTC
        seen_BS = cache.with_earlier(inputs_BT) if isinstance(cache, MemoryCache) else inputs_BT
        T = inputs_BT.shape[1]
        recent_BR = self._recent(seen_BS, T)
        likeliest = self.counts.top_k(recent_BR, self.settings.ngram_top_k)
        _found, context_BRF = self.counts.lookup(recent_BR, None)
        features = self._features(T, likeliest, context_BRF, longest_match(seen_BS))
        return x_BTC + self.embed_features(features)

    def _output(self, hidden_BTC: Tensor, inputs_BS: Tensor) -> Tensor:
        """ln p of the mixture `[B, T, V]`, which serves as logits."""
        logits_BTV = super()._output(hidden_BTC, inputs_BS).float()
        if self.counts is None:
            return logits_BTV
        T = hidden_BTC.shape[1]
        recent_BR = self._recent(inputs_BS, T)
        _found, context_BRF = self.counts.lookup(recent_BR, None)
        log_weights_BTE = self._log_mixture_weights(hidden_BTC, context_BRF[:, -T:])
        sizes = [1, self.settings.memory_order, 1]
        net_BT1, counts_BTK, match_BT1 = torch.split(log_weights_BTE, sizes, dim=2)
        token_BT1, length_BT1 = (found[:, -T:, None] for found in longest_match(inputs_BS))
        # Without a match, its weight goes to the counts after the longest context.
        unmatched_BT1, match_BT1 = length_BT1 == 0, match_BT1.exp()
        longest_K = (
            torch.arange(self.settings.memory_order, device=self.device)
            == self.settings.memory_order - 1
        )
        weights_BTK = counts_BTK.exp() + match_BT1 * unmatched_BT1 * longest_K
        weights_BRK = F.pad(weights_BTK, (0, 0, recent_BR.shape[1] - T, 0)).to(recent_BR.device)
        p_BTV = self.counts.distribution(recent_BR, weights_BTK=weights_BRK)[:, -T:].to(
            logits_BTV.device
        )
        p_BTV = p_BTV.scatter_add(2, token_BT1, match_BT1 * ~unmatched_BT1)
        return torch.logaddexp(net_BT1 + logits_BTV.log_softmax(dim=-1), p_BTV.log())

    def experts(self, inputs_BT: Tensor) -> tuple[Tensor, Tensor]:
        """After the last of T positions the gate's weight of each expert, `[B, E]`, and what each
        says, p of every token `[B, E, V]`: the net, the counts after 0, 1 … tokens, the longest
        match. Weighed and added they are what `forward` says.

        Where there is no match, it says nothing and its weight is the longest counts'.
        Raises SettingsError for a memory without counts.
        """
        if self.counts is None:
            raise SettingsError(
                _("this memory has no counts, and no gate between them and the net")
            )
        hidden_B1C = self._hidden(self._embedded(inputs_BT, None))[:, -1:]
        net_B1V = super()._output(hidden_B1C, inputs_BT).float().softmax(dim=-1)
        recent_BR = self._recent(inputs_BT, 1)
        _found, context_BRF = self.counts.lookup(recent_BR, None)
        weights_BE = self._log_mixture_weights(hidden_B1C, context_BRF[:, -1:])[:, 0].exp()
        order, V = self.settings.memory_order, self.settings.vocab_size
        alone = F.one_hot(torch.arange(order), order).float().to(recent_BR.device)
        counted = [
            self.counts.distribution(recent_BR, weights_BTK=one_K.expand(*recent_BR.shape, -1))
            for one_K in alone
        ]
        match_BT, length_BT = longest_match(inputs_BT)
        found_B = length_BT[:, -1] > 0
        match_BV = F.one_hot(match_BT[:, -1], V) * found_B[:, None]
        p_BV = [p_BTV[:, -1].to(net_B1V) for p_BTV in counted]
        moved_B = weights_BE[:, -1] * ~found_B
        weights_BE[:, -2] += moved_B
        weights_BE[:, -1] -= moved_B
        return weights_BE, torch.stack((net_B1V[:, 0], *p_BV, match_BV.to(net_B1V)), dim=1)

    def new_cache(self, batch_size: int) -> MemoryCache:
        cache = MemoryCache(self.settings, batch_size, self.device, self.compute_dtype)
        # A match may lie anywhere in the context; the counts look back memory_order - 1 tokens.
        cache.lookback = max(self.settings.context_length, self.settings.memory_order) - 1
        return cache

    @classmethod
    def model_types(cls) -> tuple[str, ...]:
        return (f"semigpt-{cls.kind}",)

    @classmethod
    def settings_from_huggingface(cls, config: Mapping[str, Any]) -> ModelSettings:
        return own_settings(cls.Settings, config)

    def huggingface_config(self) -> dict[str, Any]:
        """A config of semigpt's own, which transformers cannot build; dropout is for training."""
        shape = {
            name: value for name, value in to_table(self.settings).items() if name != "dropout"
        }
        own_type = {"model_type": self.model_types()[0], "architectures": ["MemoryGPT"]}
        return {**own_type, **shape, "torch_dtype": "float32"}

    def auxiliary_tensors(self) -> dict[str, dict[str, Tensor]]:
        if self.counts is None:
            return {}
        tensors = {name: tensor.cpu() for name, tensor in self.counts.tensors().items()}
        return {COUNTS_FILE: tensors}

    def load_auxiliary_tensors(self, found: dict[str, dict[str, Tensor]]) -> None:
        """Raises SettingsError, ValueError or LookupError for counts that do not fit."""
        if COUNTS_FILE in found:
            self.set_counts(Counts.from_tensors(found[COUNTS_FILE], self.settings.vocab_size))
