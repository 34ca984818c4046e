"""The first rung: one table. Row i holds the logits of the token that follows token i."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from semigpt.auto import Size
from semigpt.language import N_
from semigpt.models.base import LanguageModel, ModelSettings
from semigpt.models.loss import loss_and_gradient, token_loss

if TYPE_CHECKING:
    from semigpt.dataset import Dataset

__all__ = ["SemiGPT"]

PAIRS_AT_ONCE = 1 << 23  # tokens of a stream counted in one pass: 64 MB of pair numbers


@dataclass(frozen=True, kw_only=True)
class BigramSettings(ModelSettings):
    """A table has one size, its vocabulary's; `context_length` is that of its blocks."""

    @property
    def parameter_count(self) -> int:
        return self.vocab_size**2


class SemiGPT(LanguageModel):
    """The book's `semiGPT`: an embedding table `[V, V]` whose rows are the logits."""

    kind: ClassVar[str] = "bigram"
    description: ClassVar[str] = N_("one table: the token before")
    Settings: ClassVar[type[ModelSettings]] = BigramSettings
    small: ClassVar[Mapping[str, Any]] = {"context_length": 16}
    book_loss: ClassVar[float | None] = 3.40
    shares_steps: ClassVar[bool] = False  # its gradient is a few rows

    @classmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        # A row is touched seldom, so its moments must last: beta2 0.95 4.20 nats, 0.999 3.72
        # (docs/choices.md#rates).
        return {
            "model": {"context_length": 64},
            "training": {"batch_size": 64},
            "optimizer": {
                "optimizer": "adamw",
                "learning_rate": 0.05,
                "weight_decay": 0.0,
                "betas": [0.9, 0.999],
            },
        }

    def __init__(self, settings: BigramSettings) -> None:
        super().__init__()
        settings.require_vocabulary()
        self.settings = settings
        self.embedding_token_table = nn.Embedding(settings.vocab_size, settings.vocab_size)
        # The book starts from nn.Embedding's standard normal logits, whose loss is ln V + 1/2 nats.
        # From zero every prediction is uniform, and the first loss is ln V to the bit.
        nn.init.zeros_(self.embedding_token_table.weight)

    @classmethod
    def from_counts(
        cls, dataset: Dataset, *, context_length: int = 1, prior: float = 32.0
    ) -> SemiGPT:
        """The table that training converges to, counted in one pass over the training split.

        Row i is ln of p(j | i) = (n(i, j) + prior * p(j)) / (n(i) + prior) with the token
        frequencies p(j) = (n(j) + 1) / (n + V): the pair counts, smoothed toward the token
        frequencies as if `prior` more tokens had been seen after i (MacKay and Bauman Peto 1995,
        "A hierarchical Dirichlet language model"). A row without counts is the token frequencies.

        Characters of film reviews: prior 32 gives 4.938 bits per character, 1 added to every count
        5.097; docs/choices.md#bigram-prior.
        """
        stream, V = dataset.stream("train"), dataset.vocab_size
        counts_VV = np.zeros((V, V), dtype=np.int32)
        for start in range(0, len(stream) - 1, PAIRS_AT_ONCE):
            ids = stream.read(start, start + PAIRS_AT_ONCE + 1).astype(np.int64)
            counts_VV += (
                np.bincount(ids[:-1] * V + ids[1:], minlength=V * V).reshape(V, V).astype(np.int32)
            )
        model = cls(BigramSettings(vocab_size=V, context_length=context_length))
        counts = torch.from_numpy(counts_VV).float()
        followers_V = counts.sum(dim=0, dtype=torch.float64)
        frequency_V = ((followers_V + 1) / (followers_V.sum() + V)).float()
        seen_V1 = counts.sum(dim=1, keepdim=True, dtype=torch.float64).float()
        model.set_table(counts.add_(prior * frequency_V).div_(seen_V1 + prior).log_())
        return model

    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        table = self.embedding_token_table
        if targets_BT is not None and table.sparse:
            logits_NV, loss = _RowLoss.apply(  # type: ignore[no-untyped-call]
                table.weight, inputs_BT.flatten(), targets_BT.flatten()
            )
            return logits_NV.view(*inputs_BT.shape, -1), loss
        logits_BTV = table(inputs_BT)
        return logits_BTV, None if targets_BT is None else token_loss(logits_BTV, targets_BT)

    def next_logits(self, tokens_BT: Tensor, cache: object = None) -> Tensor:
        # Through `__call__`, whose hooks bring rows up to date (training.table_adamw).
        logits_B1V, _ = self(tokens_BT[:, -1:])
        return logits_B1V[:, -1]  # type: ignore[no-any-return]

    def huggingface_config(self) -> dict[str, Any]:
        return {
            "model_type": self.model_types()[0],
            "architectures": ["SemiGPT"],
            "vocab_size": self.settings.vocab_size,
            "context_length": self.settings.context_length,
            "torch_dtype": "float32",
        }

    @torch.no_grad()
    def set_table(self, logits_VV: Tensor) -> None:
        """Replace the table of logits `[V, V]`."""
        self.embedding_token_table.weight.copy_(logits_VV)


class _RowLoss(torch.autograd.Function):
    """The table's loss with a sparse, coalesced gradient that holds only the rows read.

    A token that stands k times in a batch has its row read, normalized and differentiated once
    and counted k times: 256 tokens of Korean read some 150 rows. `nn.Embedding.sparse` turns this
    on; see `semigpt.training.table_adamw`.
    """

    @staticmethod
    def forward(
        ctx: Any, weight_VV: Tensor, inputs_N: Tensor, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows_U, inverse_N = torch.unique(inputs_N, return_inverse=True)
        logits_UV = weight_VV.index_select(0, rows_U)
        loss, grad_logits_UV = loss_and_gradient(logits_UV, targets_N, inverse_N)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rows_U, inverse_N, grad_logits_UV)
        ctx.shape = weight_VV.shape
        return logits_UV.index_select(0, inverse_N), loss

    @staticmethod
    def backward(
        ctx: Any, grad_logits_NV: Tensor | None, grad_loss: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        rows_U, inverse_N, grad_logits_UV = ctx.saved_tensors
        # In place: a copy would cost as much as the softmax. A second backward pass raises, as
        # usual.
        grad_rows_UV = grad_logits_UV.mul_(0.0 if grad_loss is None else grad_loss / len(inverse_N))
        if grad_logits_NV is not None:  # the logits themselves are differentiated
            grad_rows_UV.index_add_(0, inverse_N, grad_logits_NV)
        grad_weight_VV = torch.sparse_coo_tensor(
            rows_U[None], grad_rows_UV, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return grad_weight_VV, None, None
