"""The rung above `gpt`: a GPT that looks things up, the counts of n-grams beside the net and a gate between them.

    p(w) = Σ_e share_e p_e(w)        shares = softmax(gate · [hidden, features, 1])

Counting a text takes seconds and knows its every phrase; a net takes minutes and knows what phrases have in common. The
gate reads the net's last hidden state and how well the counts know the last tokens (`Counts.lookup`), and decides position
by position whom to believe: a mixture of experts (Jacobs and others 1991) of which only one, the net, learns. The others are
what the counts say after the last 0, 1 … order - 1 tokens, each on its own; and the echo, which is sure of the token that
followed the last time these very tokens stood in the text before it (where they did not, it says what the counts do).

While training, the counts' part is what they would say had they not seen the token at hand (leave-one-out): believed on
the text they were counted on, they would be right all the time and the gate would learn to believe them. And the net is
asked for `own_loss` times its own loss too, or it would learn only what the counts do not know.

The net is not left to find out what looking things up would tell it. Beside each token it reads hints: the tokens that the
counts hold likeliest next, each a vector times its p; how much they know; and what followed the last time that these very
tokens stood in the text before it, with how many of them did (what a trained net's induction heads find, Olsson and others
2022, arXiv 2209.11895; here they need not be learnt).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.errors import SettingsError
from semigpt.models.base import lesson_of, taught_loss
from semigpt.models.gpt import GPT, GPTSettings, KeyValueCache
from semigpt.native import ngrams as native_ngrams
from semigpt.native.gpt_step import Recalled
from semigpt.ngrams.counts import LEVELS, Counts
from semigpt.settings import check_positive, to_table

__all__ = ["MemoryGPT", "MemorySettings"]


@dataclass(frozen=True, kw_only=True)
class MemorySettings(GPTSettings):
    """A GPT's, and the memory's."""

    # Tokens of the longest n-gram that is counted. Bits per character on film reviews after 300 steps: 5 3.540, 6 3.514,
    # 8 3.508; 22 million characters counted take 101 MB on disk with 5 and 220 with 6.
    memory_order: int = 6
    own_loss: float = 0.3  # how much of the net's own loss is added to the mixture's
    # Likeliest tokens of the counts that the net is told; 4 are no better than 2 (3.584 and 3.585 bits per character after 300
    # steps on film reviews; 3.606 without any hint, 3.577 with the echo too).
    guesses: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "guesses")
        if not 2 <= self.memory_order <= LEVELS:
            raise SettingsError(
                f"memory_order must be between 2 and {LEVELS}, not {self.memory_order}"
            )
        if self.own_loss < 0:
            raise SettingsError(f"own_loss must not be less than 0, not {self.own_loss}")


LONGEST_ECHO = 8  # tokens of a match; longer ones count as so long
# The counts' logarithms reach 10 and more, and a matrix that Muon trains takes all its inputs for about as large.
LOGARITHM_SCALE = 0.1


def echoes(ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """What followed the longest earlier match of the tokens that end at each position, and its length, `[B, T]` both.

    Of several longest ones the latest; lengths from 0, where no token of the kind was there before (the token is 0 then),
    to `LONGEST_ECHO`.
    """
    if ids_BT.device.type == "cpu" and native_ngrams.available():
        tokens, lengths = native_ngrams.longest_match(ids_BT.numpy(), LONGEST_ECHO)
        return torch.from_numpy(tokens), torch.from_numpy(lengths)
    T = ids_BT.shape[1]
    alike_BTS = (ids_BT[:, :, None] == ids_BT[:, None, :]).tril(-1).int()
    runs_BTS = alike_BTS
    for _ in range(LONGEST_ECHO - 1):
        before_BTS = F.pad(runs_BTS, (1, 0, 1, 0))[:, :-1, :-1]
        runs_BTS = alike_BTS * (1 + before_BTS)
    place_S = torch.arange(T, device=ids_BT.device, dtype=torch.int32)
    at_BT = torch.where(runs_BTS > 0, runs_BTS * T + place_S, -1).argmax(dim=2)
    lengths_BT = runs_BTS.gather(2, at_BT[..., None])[..., 0].long()
    return torch.where(
        lengths_BT > 0, ids_BT.gather(1, (at_BT + 1).clamp(max=T - 1)), 0
    ), lengths_BT


class MemoryCache(KeyValueCache):
    """A KeyValueCache that knows the tokens before too."""

    looked_at: int = 0  # how many of them are looked at
    tokens_BT: Tensor | None = None

    def with_those_before(self, tokens_BT: Tensor) -> Tensor:
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
        seen_BS = self.with_those_before(tokens_BT)
        self.tokens_BT = seen_BS[:, -self.looked_at :]
        return seen_BS


class MemoryGPT(GPT):
    """A GPT with a memory. Fresh, there is nothing in it, and the net speaks alone; `remember` fills it."""

    rung: ClassVar[str] = "memory"
    companion_files: ClassVar[tuple[str, ...]] = ("counts.safetensors",)
    settings: MemorySettings

    def __init__(self, settings: MemorySettings) -> None:
        super().__init__(settings)
        self.counts: Counts | None = None
        # Begins by believing the counts: they know their text, and the net nothing yet.
        # Rows: the net, the counts by contexts of 0, 1 … tokens, the echo.
        inputs = settings.width + 2 * (settings.memory_order - 1) + 1
        self.gate = nn.Parameter(torch.zeros(settings.memory_order + 2, inputs))
        # A vector for each token as the counts' guess, and one as an echo; and for all that is known of the two.
        self.hints = nn.Embedding(2 * settings.vocab_size, settings.width)
        self.known = nn.Parameter(
            torch.zeros(2 * (settings.memory_order - 1) + LONGEST_ECHO + 1, settings.width)
        )
        with torch.no_grad():
            self.gate[:, -1] = -2.0
            self.gate[0, -1], self.gate[settings.memory_order, -1] = 0.0, 1.0
            self.hints.weight.zero_()

    def remember(self, counts: Counts) -> None:
        """Take the counts of the training text. Raises SettingsError for those of another order or vocabulary."""
        if (counts.order, counts.vocab_size) != (
            self.settings.memory_order,
            self.settings.vocab_size,
        ):
            raise SettingsError(
                f"counts of order {counts.order} over {counts.vocab_size} tokens do not fit a memory of order "
                f"{self.settings.memory_order} over {self.settings.vocab_size}"
            )
        self.counts = counts

    def _log_shares(self, hidden_BTC: Tensor, features_BTF: Tensor) -> Tensor:
        """ln of how far each expert is believed, `[B, T, E]`."""
        C = self.settings.width
        by_hidden_BTE = hidden_BTC.float() @ self.gate[:, :C].t()
        by_features_BTE = features_BTF.to(self.gate.device) @ self.gate[:, C:-1].t()
        return (by_hidden_BTE + by_features_BTE + self.gate[:, -1]).log_softmax(dim=-1)

    def _recent(self, seen_BS: Tensor, T: int) -> Tensor:
        """Of S tokens the last T, and as many before them as the counts look at, on the counts' device."""
        assert self.counts is not None
        return seen_BS[:, -(T + self.settings.memory_order - 2) :].to(self.counts.device)

    def _hinted(
        self,
        T: int,
        guesses: tuple[Tensor, Tensor],
        features_BRF: Tensor,
        echo: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The hints at the last T positions, before any weight has a part in it: rows of `hints` and how far each is
        trusted, `[B, T, guesses + 1]` both, and what is known, `[B, T, rows of known]`."""
        tokens_BTK, p_BTK, features_BTF, echo_BT, length_BT = (
            found[:, -T:].to(self.device) for found in (*guesses, features_BRF, *echo)
        )
        rows_BTK = torch.cat((tokens_BTK, (echo_BT + self.settings.vocab_size)[..., None]), dim=2)
        trust_BTK = torch.cat((p_BTK, (length_BT / 4).clamp(max=1)[..., None]), dim=2)
        features_BTF = torch.cat(
            (features_BTF[..., ::2] * LOGARITHM_SCALE, features_BTF[..., 1::2]), dim=2
        )
        known_BTF = torch.cat((features_BTF, F.one_hot(length_BT, LONGEST_ECHO + 1).float()), dim=2)
        return rows_BTK, trust_BTK, known_BTF

    def _told(self, rows_BTK: Tensor, trust_BTK: Tensor, known_BTF: Tensor) -> Tensor:
        """The hints as the net reads them, `[B, T, C]`."""
        hints_NC = F.embedding_bag(
            rows_BTK.flatten(0, 1),
            self.hints.weight,
            per_sample_weights=trust_BTK.flatten(0, 1),
            mode="sum",
        )
        told_BTC: Tensor = hints_NC.view(*rows_BTK.shape[:2], -1) + known_BTF @ self.known
        return told_BTC

    def _embedded(self, inputs_BT: Tensor, cache: KeyValueCache | None) -> Tensor:
        x_BTC = super()._embedded(inputs_BT, cache)
        if self.counts is None:
            return x_BTC
        seen_BS = (
            cache.with_those_before(inputs_BT) if isinstance(cache, MemoryCache) else inputs_BT
        )
        T = inputs_BT.shape[1]
        recent_BR = self._recent(seen_BS, T)
        guesses = self.counts.top_k(recent_BR, self.settings.guesses)
        _, features_BRF = self.counts.lookup(recent_BR, None)
        return x_BTC + self._told(*self._hinted(T, guesses, features_BRF, echoes(seen_BS)))

    def _output(self, hidden_BTC: Tensor, inputs_BS: Tensor) -> Tensor:
        """log p `[B, T, V]`, which are logits too."""
        logits_BTV = super()._output(hidden_BTC, inputs_BS).float()
        if self.counts is None:
            return logits_BTV
        T = hidden_BTC.shape[1]
        recent_BR = self._recent(inputs_BS, T)
        _, features_BTF = self.counts.lookup(recent_BR, None)
        shares_BTE = self._log_shares(hidden_BTC, features_BTF[:, -T:])
        sizes = [1, self.settings.memory_order, 1]
        net_BT1, by_counts_BTK, by_echo_BT1 = torch.split(shares_BTE, sizes, dim=2)
        echo_BT1, length_BT1 = (found[:, -T:, None] for found in echoes(inputs_BS))
        # Where nothing was there before, the echo says what the counts do after the longest context.
        nothing_BT1, by_echo_BT1 = length_BT1 == 0, by_echo_BT1.exp()
        longest_K = (
            torch.arange(self.settings.memory_order, device=self.device)
            == self.settings.memory_order - 1
        )
        weights_BTK = by_counts_BTK.exp() + by_echo_BT1 * nothing_BT1 * longest_K
        weights_BRK = F.pad(weights_BTK, (0, 0, recent_BR.shape[1] - T, 0)).to(recent_BR.device)
        q_BTV = self.counts.distribution(recent_BR, weights_BTK=weights_BRK)[:, -T:].to(
            logits_BTV.device
        )
        q_BTV = q_BTV.scatter_add(2, echo_BT1, by_echo_BT1 * ~nothing_BT1)
        return torch.logaddexp(net_BT1 + logits_BTV.log_softmax(dim=-1), q_BTV.log())

    def _look_up(
        self, inputs_BT: Tensor, targets_BT: Tensor, *, leave_one_out: bool
    ) -> tuple[Tensor, ...]:
        """All that the counts and the text itself say at each position, before any weight has a part in it: what each expert
        but the net gives each target, `[B, T, E - 1]`; what `Counts.lookup` tells of the contexts; the hints."""
        assert self.counts is not None
        home = self.counts.device
        ids_BT, wanted_BT = inputs_BT.to(home), targets_BT.to(home)
        p_BTK, features_BTF = self.counts.lookup(ids_BT, wanted_BT, leave_one_out=leave_one_out)
        guesses = self.counts.top_k(
            ids_BT, self.settings.guesses, wanted_BT if leave_one_out else None
        )
        echo_BT, length_BT = echoes(ids_BT)
        by_echo_BT = torch.where(length_BT > 0, (echo_BT == wanted_BT).float(), p_BTK[..., -1])
        said_BTX = torch.cat((p_BTK, by_echo_BT[..., None]), dim=2)
        hints = self._hinted(ids_BT.shape[1], guesses, features_BTF, (echo_BT, length_BT))
        return said_BTX.to(self.device), features_BTF.to(self.device), *hints

    def learn(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        *,
        teacher: Counts | None = None,
        taught: float = 0.0,
    ) -> Tensor:
        """As `LanguageModel.learn`, through the mixture: its loss, plus `own_loss` times what a `gpt` is taught."""
        if self.counts is None:
            return super().learn(inputs_BT, targets_BT, weight, teacher=teacher, taught=taught)
        self.check_context(inputs_BT)
        looked_up = self._look_up(inputs_BT, targets_BT, leave_one_out=True)
        step = self.native_step()
        if step is not None:
            said_BTX, features_BTF, *hints = looked_up
            told_BTC = self._told(*hints)
            recalled = Recalled(
                self.gate,
                said_BTX.flatten(0, 1),
                features_BTF.flatten(0, 1),
                self.settings.own_loss,
                told_BTC.detach().flatten(0, 1),
            )
            loss = step(
                inputs_BT, targets_BT, weight, teacher if taught else None, taught, recalled
            )
            told_BTC.backward(step.by_x.view_as(told_BTC) * weight)  # type: ignore[no-untyped-call]
            return loss
        lesson_BTV = lesson_of(teacher, taught, inputs_BT)
        given = inputs_BT, targets_BT, *looked_up
        return self._learn_by_autograd(self._mixed_objective, given, weight, lesson_BTV, taught)

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """As `LanguageModel.token_losses`, but the counts are asked for the targets alone."""
        if self.counts is None:
            return super().token_losses(inputs_BT, targets_BT)
        self.check_context(inputs_BT)
        looked_up = self._look_up(inputs_BT, targets_BT, leave_one_out=False)
        return self._mixed_losses(inputs_BT, targets_BT, *looked_up)[2]

    def _mixed_objective(
        self, inputs_BT: Tensor, targets_BT: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor]:
        """As `objective`, through the mixture: `rest` is what `_look_up` gave, the lesson and `taught`."""
        *looked_up, lesson_BTV, taught = rest
        net_BT, logits_BTV, loss_BT = self._mixed_losses(inputs_BT, targets_BT, *looked_up)
        loss = loss_BT.mean()
        own = taught_loss(logits_BTV, net_BT.mean(), lesson_BTV, taught)
        return loss, loss + self.settings.own_loss * own

    def _mixed_losses(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        said_BTX: Tensor,
        features_BTF: Tensor,
        *hints: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each target costs the net, the net's logits, and what it costs the mixture."""
        T = inputs_BT.shape[1]
        rotary = (self.cos_TD[:T].to(self.compute_dtype), self.sin_TD[:T].to(self.compute_dtype))
        embedded_BTC = super()._embedded(inputs_BT, None) + self._told(*hints)
        hidden_BTC = self._hidden(inputs_BT, rotary, None, embedded_BTC)
        logits_BTV = super()._output(hidden_BTC, inputs_BT)
        net_BT = F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none"
        ).view_as(targets_BT)
        said_BTE = torch.cat((-net_BT[..., None], said_BTX.log()), dim=2)
        return (
            net_BT,
            logits_BTV,
            -(self._log_shares(hidden_BTC, features_BTF) + said_BTE).logsumexp(dim=2),
        )

    def new_cache(self, batch_size: int) -> MemoryCache:
        cache = MemoryCache(self.settings, batch_size, self.device, self.compute_dtype)
        # An echo may come from anywhere in the context; the newest token is looked at with those before it.
        cache.looked_at = max(self.settings.context_length, self.settings.memory_order) - 1
        return cache

    def huggingface_config(self) -> dict[str, Any]:
        """A config of semigpt's own: transformers has no such model."""
        shape = {
            name: value for name, value in to_table(self.settings).items() if name != "dropout"
        }
        return {
            "model_type": "semigpt-memory",
            "architectures": ["MemoryGPT"],
            **shape,
            "torch_dtype": "float32",
        }

    def companions(self) -> dict[str, dict[str, Tensor]]:
        if self.counts is None:
            return {}
        return {
            "counts.safetensors": {
                name: tensor.cpu() for name, tensor in self.counts.tensors().items()
            }
        }

    def load_companions(self, found: dict[str, dict[str, Tensor]]) -> None:
        """Raises SettingsError, ValueError or LookupError for counts that do not fit."""
        if "counts.safetensors" in found:
            self.remember(
                Counts.from_tensors(found["counts.safetensors"], self.settings.vocab_size)
            )
