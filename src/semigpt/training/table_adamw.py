"""AdamW for a model that is one table, at the cost of the rows that a batch reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from semigpt.training.adamw import check_like

__all__ = ["TableAdamW", "touched_rows"]


def touched_rows(weight_VV: Tensor) -> tuple[Tensor, Tensor]:
    """The rows `[U]` of a sparse gradient, ascending and unique, and a view of their values."""
    gradient = weight_VV.grad
    assert gradient is not None
    rows = gradient._indices()[0]
    # Autograd drops the mark that a gradient is coalesced: coalescing again costs 0.4 ms, checking
    # 10 µs. Only gradients of several micro-batches, which lie end to end, are not.
    if bool((rows[1:] <= rows[:-1]).any()):
        weight_VV.grad = gradient = gradient.coalesce()
        rows = gradient._indices()[0]
    return rows, gradient._values()


class TableAdamW:
    """AdamW for a model that is one table, at the cost of the rows that a batch reads.

    A row that a batch does not read has a gradient of zero, yet AdamW keeps moving it: its
    first moment m decays by beta1 a step, its second v by beta2, and the weight follows. Here
    such a row is left alone, and caught up in one go when it is next read (a forward pre-hook on
    the model) or flushed. Missed steps k = 1, 2 … of a row last read at step t would have moved
    its weights by

        -lr_{t+k} / c1_{t+k} * beta1^k m / (sqrt(beta2^k v / c2_{t+k}) + epsilon)

    with the bias corrections c = 1 - beta^step. Multiply numerator and denominator by sqrt(c2)
    beta2^(-k/2): all but the epsilon is then one number a row times m / sqrt(v). The epsilon's
    factor, sqrt(c2_{t+k}) beta2^(-k/2), hardly changes in the few steps before beta1^k has
    decayed. It is taken as its mean over the missed steps, weighted by how far each moves the
    row; the rest is exact. Where |gradient| >> epsilon the result is AdamW's, and elsewhere the
    error is of second order in that factor's drift over some 1 / (1 - beta1) steps
    (tests/test_table_adamw.py compares with torch.optim.AdamW).

    Six numbers are kept of each row. A step on film reviews that reads 120 of 4,173 rows takes
    2.7 ms where dense AdamW takes 84. The sums of missed steps converge only for beta1 < beta2.
    """

    # Rows of `rows_6V`, the six numbers of each row of the table, in float64.
    STEPS, FADE, FADE_EPSILON, SHRINK, MISSED, MISSED_EPSILON = range(6)
    FRESH = (0.0, 1.0, 1.0, 1.0, 0.0, 0.0)

    def __init__(
        self,
        model: nn.Module,
        table: nn.Embedding,
        *,
        betas: tuple[float, float],
        epsilon: float,
        weight_decay: float,
    ) -> None:
        self.weight = table.weight
        self.beta1, self.beta2 = betas
        self.epsilon, self.weight_decay = epsilon, weight_decay
        self.step_count = 0
        self.m_VV, self.v_VV = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        fresh_6 = torch.tensor(self.FRESH, dtype=torch.float64, device=self.weight.device)
        self.fresh_61 = fresh_6[:, None]
        self.rows_6V = self.fresh_61.repeat(1, len(self.weight))
        # Of the last forward pass: (rows, weights, m, v) up to date, so that `step` need not
        # fetch them.
        self._read: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self._space: Tensor | None = None
        table.sparse = True  # the gradient holds the rows read alone
        model.register_forward_pre_hook(
            lambda module, inputs: self.catch_up(torch.unique(inputs[0]))
        )

    @torch.no_grad()
    def catch_up(self, rows_U: Tensor) -> None:
        """Bring these rows to where dense AdamW would have them by now."""
        shrink_U, missed_U, missed_epsilon_U = (
            self.rows_6V[self.SHRINK :].index_select(1, rows_U).unbind(0)
        )
        epsilon_U1 = torch.where(missed_U > 0, missed_epsilon_U / missed_U, 1.0).float()[:, None]
        weight_UV, m_UV, v_UV, ratio_UV = self._workspace(len(rows_U))
        torch.index_select(self.weight, 0, rows_U, out=weight_UV)
        torch.index_select(self.m_VV, 0, rows_U, out=m_UV)
        torch.index_select(self.v_VV, 0, rows_U, out=v_UV)
        if self.weight_decay:
            weight_UV.mul_(shrink_U.float()[:, None])
        torch.sqrt(v_UV, out=ratio_UV).add_(epsilon_U1)
        torch.div(m_UV, ratio_UV, out=ratio_UV)
        weight_UV.addcmul_(ratio_UV, missed_U.float()[:, None], value=-1.0)
        self.weight.index_copy_(0, rows_U, weight_UV)
        self.rows_6V[self.SHRINK].index_fill_(0, rows_U, 1.0)
        self.rows_6V[self.MISSED :].index_fill_(1, rows_U, 0.0)
        self._read = rows_U, weight_UV, m_UV, v_UV

    def _workspace(self, rows: int) -> list[Tensor]:
        """Four matrices `[rows, V]`, kept: mapping 2 MB anew takes longer than filling it."""
        if self._space is None or self._space.shape[1] < rows:
            with torch.inference_mode(False):  # text may be generated between two steps
                self._space = self.weight.new_empty(4, rows, self.weight.shape[1])
        return [matrix[:rows] for matrix in self._space]

    @torch.no_grad()
    def flush(self) -> None:
        """Catch up every row."""
        for first in range(0, len(self.weight), 256):
            last = min(first + 256, len(self.weight))
            self.catch_up(torch.arange(first, last, device=self.weight.device))
        self._read = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the rows that the gradient holds, and count the step as missed by the others."""
        if self.weight.grad is None:
            return
        rows_U, gradient_UV = touched_rows(self.weight)
        if self._read is None or not torch.equal(self._read[0], rows_U):
            self.catch_up(rows_U)  # more than one forward pass since the last step
        assert self._read is not None
        _, weight_UV, m_UV, v_UV = self._read
        steps_U = self.rows_6V[self.STEPS, rows_U]
        m_UV.mul_(self.beta1 ** steps_U.float()[:, None])
        v_UV.mul_(self.beta2 ** steps_U.float()[:, None])
        adamw(
            [weight_UV],
            [gradient_UV],
            [m_UV],
            [v_UV],
            [],
            [torch.tensor(float(self.step_count), device=weight_UV.device)],
            fused=True,
            amsgrad=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=self.epsilon,
            maximize=False,
        )
        self._read = None
        self.step_count += 1
        for whole, part in ((self.weight, weight_UV), (self.m_VV, m_UV), (self.v_VV, v_UV)):
            whole.index_copy_(0, rows_U, part)
        self._miss(learning_rate)
        self.rows_6V.index_copy_(1, rows_U, self.fresh_61.expand(-1, len(rows_U)))

    def _miss(self, learning_rate: float) -> None:
        """Count this step as missed by every row."""
        steps, fade, fade_epsilon, _, missed, missed_epsilon = self.rows_6V.unbind(0)
        root = math.sqrt(1 - self.beta2**self.step_count)
        rate = learning_rate * root / (1 - self.beta1**self.step_count)
        steps.add_(1.0)
        fade.mul_(self.beta1 / math.sqrt(self.beta2))
        fade_epsilon.mul_(self.beta1 / self.beta2)
        if self.weight_decay:
            self.rows_6V[self.SHRINK :].mul_(1 - learning_rate * self.weight_decay)
        missed.add_(fade, alpha=rate)
        missed_epsilon.add_(fade_epsilon, alpha=rate * root * self.epsilon)

    def state(self) -> dict[str, Tensor]:
        """Its state as it is. Nothing is flushed, so saving changes nothing."""
        step = torch.tensor(self.step_count)
        return {"step": step, "m": self.m_VV, "v": self.v_VV, "rows": self.rows_6V}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave. Raises LookupError or ValueError for another state."""
        places = ((self.m_VV, "m"), (self.v_VV, "v"), (self.rows_6V, "rows"))
        for own, saved in (*places, (torch.tensor(0), "step")):
            check_like(saved, state[saved], own)
        self.step_count = int(state["step"])
        for own, saved in places:
            own.copy_(state[saved])
        self._read = None
