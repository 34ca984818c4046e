"""The rung above `gpt`: a GPT that looks things up, the counts of n-grams beside the net and a gate between them.

    p(w) = (1 - g) softmax(logits)(w) + g p_counts(w | last tokens)        g = sigmoid(gate · [hidden, features, 1])

Counting a text takes seconds and knows its every phrase; a net takes minutes and knows what phrases have in common. The
gate reads the net's last hidden state and how well the counts know the last tokens (`Counts.recall`), and decides position
by position whom to believe: a mixture of experts of two (Jacobs and others 1991), one of which never learns.

While training, the counts' part is what they would say had they not seen the token at hand (leave-one-out): believed on
the text they were counted on, they would be right all the time and the gate would learn to believe them. And the net is
asked for `own_loss` times its own loss too, or it would learn only what the counts do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.errors import SettingsError
from semigpt.models.base import taught_loss
from semigpt.models.counts import LEVELS, Counts
from semigpt.models.gpt import GPT, GPTSettings, KeyValueCache
from semigpt.models.step import Recalled
from semigpt.settings import to_table

__all__ = ["MemoryGPT", "MemorySettings"]


@dataclass(frozen=True, kw_only=True)
class MemorySettings(GPTSettings):
    """A GPT's, and the memory's."""

    memory_order: int = 5  # tokens of the longest n-gram that is counted
    own_loss: float = 0.3  # how much of the net's own loss is added to the mixture's

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.memory_order <= LEVELS:
            raise SettingsError(f"memory_order must be between 2 and {LEVELS}, not {self.memory_order}")
        if self.own_loss < 0:
            raise SettingsError(f"own_loss must not be less than 0, not {self.own_loss}")


class MemoryCache(KeyValueCache):
    """A KeyValueCache that knows the last tokens too."""

    looked_at: int = 0  # tokens that the counts want
    tokens_BT: Tensor | None = None

    def select(self, rows: Sequence[int]) -> MemoryCache:
        chosen = super().select(rows)
        assert isinstance(chosen, MemoryCache)
        if self.tokens_BT is not None:
            chosen.tokens_BT = self.tokens_BT[torch.tensor(rows, device=self.tokens_BT.device)]
        return chosen

    def recent(self, tokens_BT: Tensor) -> Tensor:
        seen = tokens_BT if self.tokens_BT is None else torch.cat((self.tokens_BT, tokens_BT), dim=1)
        self.tokens_BT = seen[:, -self.looked_at :]
        return self.tokens_BT


class MemoryGPT(GPT):
    """A GPT with a memory. Fresh, there is nothing in it, and the net speaks alone; `remember` fills it."""

    rung: ClassVar[str] = "memory"
    companion_files: ClassVar[tuple[str, ...]] = ("counts.safetensors",)
    settings: MemorySettings

    def __init__(self, settings: MemorySettings) -> None:
        super().__init__(settings)
        self.counts: Counts | None = None
        # Begins by believing the counts: they know their text, and the net nothing yet.
        self.gate = nn.Parameter(torch.zeros(settings.width + 2 * (settings.memory_order - 1) + 1))
        with torch.no_grad():
            self.gate[-1] = 1.0

    def remember(self, counts: Counts) -> None:
        """Take the counts of the training text. Raises SettingsError for those of another order or vocabulary."""
        if (counts.order, counts.vocab_size) != (self.settings.memory_order, self.settings.vocab_size):
            raise SettingsError(
                f"counts of order {counts.order} over {counts.vocab_size} tokens do not fit a memory of order "
                f"{self.settings.memory_order} over {self.settings.vocab_size}"
            )
        self.counts = counts

    def _gate_logit(self, hidden_BTC: Tensor, features_BTF: Tensor) -> Tensor:
        C = self.settings.width
        by_hidden = hidden_BTC.float() @ self.gate[:C]
        return by_hidden + features_BTF.to(self.gate.device) @ self.gate[C:-1] + self.gate[-1]

    def _output(self, hidden_BTC: Tensor, inputs_BS: Tensor) -> Tensor:
        """log p `[B, T, V]`, which are logits too."""
        logits_BTV = super()._output(hidden_BTC, inputs_BS).float()
        if self.counts is None:
            return logits_BTV
        T = hidden_BTC.shape[1]
        seen_BS = inputs_BS.to(self.counts.device)
        q_BTV = self.counts.distribution(seen_BS)[:, -T:].to(logits_BTV.device)
        _, features_BTF = self.counts.recall(seen_BS, None)
        gate_BT1 = self._gate_logit(hidden_BTC, features_BTF[:, -T:])[..., None]
        log_net = F.logsigmoid(-gate_BT1) + logits_BTV.log_softmax(dim=-1)
        return torch.logaddexp(log_net, F.logsigmoid(gate_BT1) + q_BTV.log())

    def learn(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weight: float = 1.0,
        *,
        teacher: Counts | None = None,
        taught: float = 0.0,
        forward: Callable[..., Any] | None = None,
    ) -> Tensor:
        """As `LanguageModel.learn`, through the mixture: its loss, plus `own_loss` times what a `gpt` is taught."""
        if self.counts is None:
            return super().learn(
                inputs_BT, targets_BT, weight, teacher=teacher, taught=taught, forward=forward
            )
        self.check_context(inputs_BT)
        own, home = self.settings.own_loss, self.counts.device
        p_BT, features_BTF = self.counts.recall(inputs_BT.to(home), targets_BT.to(home), leave_one_out=True)
        step = self.native_step()
        if step is not None:
            recalled = Recalled(self.gate, p_BT.flatten(), features_BTF.flatten(0, 1), own)
            return step(inputs_BT, targets_BT, weight, teacher if taught else None, taught, recalled)
        net_BT, logits_BTV, loss = self._mixed_losses(inputs_BT, targets_BT, p_BT, features_BTF)
        mean = loss.mean()
        objective = mean + own * taught_loss(logits_BTV, net_BT.mean(), inputs_BT, teacher, taught)
        (objective * weight).backward()  # type: ignore[no-untyped-call]
        return mean.detach()

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """As `LanguageModel.token_losses`, but the counts are asked for the targets alone."""
        if self.counts is None:
            return super().token_losses(inputs_BT, targets_BT)
        self.check_context(inputs_BT)
        home = self.counts.device
        recalled = self.counts.recall(inputs_BT.to(home), targets_BT.to(home))
        return self._mixed_losses(inputs_BT, targets_BT, *recalled)[2]

    def _mixed_losses(
        self, inputs_BT: Tensor, targets_BT: Tensor, p_BT: Tensor, features_BTF: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each target costs the net, the net's logits, and what it costs the mixture."""
        T = inputs_BT.shape[1]
        rotary = (self.cos_TD[:T].to(self.compute_dtype), self.sin_TD[:T].to(self.compute_dtype))
        hidden_BTC = self._hidden(inputs_BT, rotary, None)
        logits_BTV = super()._output(hidden_BTC, inputs_BT)
        net_BT = F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none"
        ).view_as(targets_BT)
        gate_BT = self._gate_logit(hidden_BTC, features_BTF)
        log_p_BT = p_BT.to(gate_BT.device).log()
        return (
            net_BT,
            logits_BTV,
            -torch.logaddexp(F.logsigmoid(-gate_BT) - net_BT, F.logsigmoid(gate_BT) + log_p_BT),
        )

    def new_cache(self, batch_size: int) -> MemoryCache:
        cache = MemoryCache(self.settings, batch_size, self.device, self.compute_dtype)
        cache.looked_at = self.settings.memory_order - 1
        return cache

    def huggingface_config(self) -> dict[str, Any]:
        """A config of semigpt's own: transformers has no such model."""
        shape = {name: value for name, value in to_table(self.settings).items() if name != "dropout"}
        return {
            "model_type": "semigpt-memory",
            "architectures": ["MemoryGPT"],
            **shape,
            "torch_dtype": "float32",
        }

    def companions(self) -> dict[str, dict[str, Tensor]]:
        if self.counts is None:
            return {}
        return {"counts.safetensors": {name: tensor.cpu() for name, tensor in self.counts.tensors().items()}}

    def load_companions(self, found: dict[str, dict[str, Tensor]]) -> None:
        """Raises SettingsError, ValueError or LookupError for counts that do not fit."""
        if "counts.safetensors" in found:
            self.remember(Counts.from_tensors(found["counts.safetensors"], self.settings.vocab_size))
