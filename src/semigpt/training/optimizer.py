"""What changes the weights, and by how much at each moment of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from semigpt.device import pick_precision
from semigpt.errors import SettingsError
from semigpt.settings import check_choice, check_positive

__all__ = ["Muon", "Optimizer", "OptimizerSettings", "TableAdamW", "learning_rate_scale"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Rates, decay and schedule.

    `muon` takes the hidden matrices (Jordan and others 2024, "Muon"), AdamW (Loshchilov and Hutter 2019, arXiv
    1711.05101) the rest: embeddings, the output layer, norms; `adamw` takes everything.
    """

    optimizer: Literal["adamw", "muon"] = "muon"
    learning_rate: float = 3e-3  # AdamW's, at the top of the schedule
    muon_learning_rate: float = 0.02
    # Of embedding tables, as a multiple of AdamW's: a batch touches few of their rows. Not of one that is the output layer too.
    embedding_rate: float = 1.0
    # None: 0.1, but where `semigpt train` goes by how often the text is read (`semigpt.auto.weight_decay_for`).
    weight_decay: float | None = None
    # Norms, biases, and tables that a batch barely touches go free; "all" is what torch.optim.AdamW does by itself.
    decayed: Literal["matrices", "all"] = "matrices"
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    momentum: float = 0.95  # Muon's
    schedule: Literal["cosine", "trapezoid", "constant"] = "trapezoid"
    warmup: float = 0.05  # share of the run over which the rate climbs
    decay: float = 0.6  # trapezoid: share of the run, its last, over which the rate falls
    final_rate: float = 0.0  # where the rate ends, as a share of its top
    clip: float = 1.0  # largest gradient norm; 0 for no limit

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, ("adamw", "muon"))
        check_choice("schedule", self.schedule, ("cosine", "trapezoid", "constant"))
        check_choice("decayed", self.decayed, ("matrices", "all"))
        check_positive(self, "learning_rate", "muon_learning_rate", "embedding_rate", "epsilon")
        for name in ("weight_decay", "clip"):
            if (getattr(self, name) or 0) < 0:
                raise SettingsError(f"{name} must not be less than 0, not {getattr(self, name)}")
        for name in ("warmup", "decay", "final_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(
                    f"{name} is a share, between 0 and 1, not {getattr(self, name)}"
                )
        for name, value in (("momentum", self.momentum), *(("betas", beta) for beta in self.betas)):
            if not 0 <= value < 1:
                raise SettingsError(f"{name} must be at least 0 and less than 1, not {value}")


def learning_rate_scale(progress: float, settings: OptimizerSettings) -> float:
    """The share of the top learning rate at `progress`, the share of the run that is done (0 to 1)."""
    final, rest = settings.final_rate, 1 - settings.final_rate
    if progress < settings.warmup:
        # From a hundredth, not from nothing: the very first step learns too.
        return max(progress / settings.warmup, 0.01)
    match settings.schedule:
        case "constant":
            return 1.0
        case "cosine":
            through = (progress - settings.warmup) / max(1 - settings.warmup, 1e-12)
            return final + rest * 0.5 * (1 + math.cos(math.pi * min(through, 1.0)))
        case "trapezoid":
            left = max(1 - progress, 0.0)
            return final + rest * min(left / settings.decay, 1.0) if settings.decay else 1.0


def touched_rows(weight_VV: Tensor) -> tuple[Tensor, Tensor]:
    """The rows `[U]` of a sparse gradient, ascending, each once, and their values `[U, V]`, not copied."""
    gradient = weight_VV.grad
    assert gradient is not None
    rows = gradient._indices()[0]
    # Autograd forgets that a gradient it takes in is coalesced; to do it again costs 0.4 ms, to see that it is, 10 µs.
    # Only those of several micro-batches, which lie end to end, are not.
    if bool((rows[1:] <= rows[:-1]).any()):
        weight_VV.grad = gradient = gradient.coalesce()
        rows = gradient._indices()[0]
    return rows, gradient._values()


class TableAdamW:
    """AdamW for a model that is one big table, at the cost of the rows a batch touches.

    A row that a step does not touch has a gradient of zero, yet AdamW goes on moving it: its first moment m fades by
    beta1 a step, its second v by beta2, and the weight follows them. Here such a row is left alone and caught up in
    one go when it is next read (a forward pre-hook on the model) or flushed. Missed steps k = 1, 2 … of a row last
    touched at step t would have moved its weights by

        -lr_{t+k} / c1_{t+k} * beta1^k m / (sqrt(beta2^k v / c2_{t+k}) + epsilon)

    with the bias corrections c = 1 - beta^step. Times sqrt(beta2^k / c2) above and below, the only part that is not
    one number a row times m is the epsilon under it, epsilon * sqrt(c2_{t+k}) * beta2^(-k/2), and in the few steps
    before beta1^k has faded that hardly changes. It is taken as its mean over the missed steps, each weighted by how
    far it moves the row; the rest is exact. So where |gradient| >> epsilon the result is AdamW's, and elsewhere the
    error is of second order in epsilon's drift over some 1 / (1 - beta1) steps: measured in
    tests/test_table_adamw.py against torch.optim.AdamW.

    What is remembered of a row meanwhile is six numbers. A step on film reviews, 4,173 rows of which 120 are touched,
    takes 2.7 ms where the book's loop, dense, takes 84 (two threads).
    """

    # Columns of what is remembered of each row, in float64.
    STEPS, FADE, FADE_EPSILON, SHRINK, MISSED, MISSED_EPSILON = range(6)
    FRESH = (0.0, 1.0, 1.0, 1.0, 0.0, 0.0)

    def __init__(
        self,
        model: nn.Module,
        table: nn.Embedding,
        settings: OptimizerSettings,
        weight_decay: float,
    ) -> None:
        self.weight = table.weight
        self.beta1, self.beta2 = settings.betas
        self.epsilon, self.weight_decay = settings.epsilon, weight_decay
        self.step_count = 0
        self.m_VV, self.v_VV = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        fresh_6 = torch.tensor(self.FRESH, dtype=torch.float64, device=self.weight.device)
        self.fresh_61 = fresh_6[:, None]
        self.rows_6V = self.fresh_61.repeat(1, len(self.weight))
        # Rows read by the last forward pass: (rows, weights, m, v) as they are now, so that `step` need not fetch them.
        self._at_hand: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self._space: Tensor | None = None
        table.sparse = True  # the gradient holds the touched rows alone
        model.register_forward_pre_hook(
            lambda module, inputs: self.catch_up(torch.unique(inputs[0]))
        )

    @torch.no_grad()
    def catch_up(self, rows_U: Tensor) -> None:
        """Move these rows to where dense AdamW would have them by now."""
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
        self._at_hand = rows_U, weight_UV, m_UV, v_UV

    def _workspace(self, rows: int) -> list[Tensor]:
        """Four matrices `[rows, V]` that are used again each step: to fault 2 MB in anew costs more than to fill it."""
        if self._space is None or self._space.shape[1] < rows:
            with torch.inference_mode(False):  # a text may be drawn between two steps
                self._space = self.weight.new_empty(4, rows, self.weight.shape[1])
        return [matrix[:rows] for matrix in self._space]

    @torch.no_grad()
    def flush(self) -> None:
        """Catch up every row: the whole table as dense AdamW would have it."""
        for first in range(0, len(self.weight), 256):
            last = min(first + 256, len(self.weight))
            self.catch_up(torch.arange(first, last, device=self.weight.device))
        self._at_hand = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update of the rows that the gradient holds; the others are told what they miss."""
        if self.weight.grad is None:
            return
        rows_U, gradient_UV = touched_rows(self.weight)
        if self._at_hand is None or not torch.equal(self._at_hand[0], rows_U):
            self.catch_up(rows_U)  # more than one forward pass since the last step
        assert self._at_hand is not None
        _, weight_UV, m_UV, v_UV = self._at_hand
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
        self._at_hand = None
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
        """All it remembers, as it is: nothing is flushed, so saving changes nothing."""
        step = torch.tensor(self.step_count)
        return {"step": step, "m": self.m_VV, "v": self.v_VV, "rows": self.rows_6V}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        self.step_count = int(state["step"])
        for own, saved in ((self.m_VV, "m"), (self.v_VV, "v"), (self.rows_6V, "rows")):
            own.copy_(state[saved])
        self._at_hand = None


class Muon:
    """Momentum, made orthogonal: each hidden matrix moves by U Vᵀ of its momentum's U S Vᵀ, nearly.

    Jordan and others 2024, "Muon: An optimizer for hidden layers in neural networks"; what `torch.optim.Muon` computes
    (its oracle in tests/test_training.py), but matrices of one shape are made orthogonal together, as one product of
    stacks: 2.5 ms a step where one after the other takes 12.3 (4 x 128; at 4 x 256 12.9 and 31; two cores with AMX).
    """

    # Newton-Schulz: X ← aX + (bA + cA²)X with A = XXᵀ lifts every singular value to somewhere about 1. It forgives rounding, so
    # it runs in bfloat16 where the hardware multiplies that; elsewhere a CPU takes five times as long for it as for float32
    # (4 x 256 on two cores with AVX-512 alone: 379 ms a step in bfloat16, 106 in float32, where the step without it takes 430).
    STEPS, A, B, C = 5, 3.4445, -4.7750, 2.0315

    def __init__(
        self, parameters: list[nn.Parameter], momentum: float, weight_decay: float
    ) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        self.groups: dict[tuple[int, int], list[Tensor]] = {}
        for parameter in parameters:
            self.groups.setdefault((parameter.shape[0], parameter.shape[1]), []).append(parameter)
        self.momenta = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }
        # Kept from step to step: to fault memory in anew costs more than to fill it.
        self._gradients = {
            shape: torch.empty_like(momentum) for shape, momentum in self.momenta.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update of every matrix; all must have a gradient."""
        for (rows, columns), group in self.groups.items():
            momentum_nRC, update_nRC = self.momenta[rows, columns], self._gradients[rows, columns]
            torch.stack([cast(Tensor, parameter.grad) for parameter in group], out=update_nRC)
            momentum_nRC.lerp_(update_nRC, 1 - self.momentum)
            update_nRC.lerp_(momentum_nRC, self.momentum)  # Nesterov's
            rate = learning_rate * math.sqrt(max(1.0, rows / columns))
            if self.weight_decay:
                torch._foreach_mul_(group, 1 - learning_rate * self.weight_decay)
            updates = list(self.orthogonal(update_nRC).to(group[0].dtype).unbind())
            torch._foreach_add_(group, updates, alpha=-rate)

    @classmethod
    def orthogonal(cls, matrices_nRC: Tensor) -> Tensor:
        """The nearest half-orthogonal matrices, about: singular values between 0.7 and 1.2, in the hardware's number type."""
        tall = matrices_nRC.shape[1] > matrices_nRC.shape[2]
        # A copy in either number type: the update is scaled in place.
        dtype = pick_precision(matrices_nRC.device, "auto")
        x = (
            (matrices_nRC.transpose(1, 2) if tall else matrices_nRC)
            .to(dtype, copy=True)
            .contiguous()
        )
        x /= x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
        gram = x.new_empty(len(x), x.shape[1], x.shape[1])
        polynomial, other = torch.empty_like(gram), torch.empty_like(x)
        for _ in range(cls.STEPS):
            torch.bmm(x, x.transpose(1, 2), out=gram)
            torch.baddbmm(gram, gram, gram, beta=cls.B, alpha=cls.C, out=polynomial)
            torch.baddbmm(x, polynomial, x, beta=cls.A, out=other)
            x, other = other, x
        return x.transpose(1, 2) if tall else x

    def state(self) -> dict[str, Tensor]:
        return {f"{rows}x{columns}": momentum for (rows, columns), momentum in self.momenta.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, momentum in self.state().items():
            momentum.copy_(state[name])


class Optimizer:
    """The optimizers of one model as one: AdamW fused, and Muon beside it where the settings say so.

    A model that is one table and nothing else (the bigram) gets `TableAdamW`. Its weights are then up to date wherever
    the model itself reads them; whoever else does, to save or export them, calls `flush` first.
    """

    def __init__(self, model: nn.Module, settings: OptimizerSettings) -> None:
        self.settings = settings
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        decay = 0.1 if settings.weight_decay is None else settings.weight_decay
        self._table: TableAdamW | None = None
        self._muon: Muon | None = None
        table = next((m for m in model.modules() if isinstance(m, nn.Embedding)), None)
        # The sums of missed steps converge only where the first moment fades faster than the second.
        if (
            table is not None
            and len(self.parameters) == 1
            and settings.betas[0] < settings.betas[1]
        ):
            self._table = TableAdamW(
                model, table, settings, decay if settings.decayed == "all" else 0.0
            )
            return
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        outputs = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        hidden, decayed, embeddings, free = [], [], [], []
        for name, parameter in named:
            # The gate of a memory is an output layer with a bias in it; a table may be the output layer too.
            output = name == "gate" or id(parameter) in tables & outputs
            if id(parameter) in tables - outputs:
                embeddings.append(parameter)
            elif settings.decayed == "matrices" and (parameter.dim() != 2 or output):
                free.append(parameter)
            elif settings.optimizer == "muon" and not output and "lm_head" not in name:
                hidden.append(parameter)
            else:
                decayed.append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": decay, "multiple": 1.0},
            {
                "params": embeddings,
                "weight_decay": decay if settings.decayed == "all" else 0.0,
                "multiple": settings.embedding_rate,
            },
            {"params": free, "weight_decay": 0.0, "multiple": 1.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            fused=True,
        )
        if hidden:
            self._muon = Muon(hidden, settings.momentum, decay)

    @torch.no_grad()
    def clip_gradients(self) -> Tensor:
        """Scale all gradients down to a norm of `settings.clip` together, as `torch.nn.utils.clip_grad_norm_` does,
        which does not know gradients of a few rows; their norm before is returned."""
        gradients = []
        for parameter in self.parameters:
            if parameter.grad is not None:
                gradients.append(
                    touched_rows(parameter)[1] if parameter.grad.is_sparse else parameter.grad
                )
        norm = nn.utils.get_total_norm(gradients)
        if self.settings.clip:
            share = (self.settings.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, share)
        return norm

    def flush(self) -> None:
        """Bring every weight up to date, for whoever reads them without asking the model."""
        if self._table is not None:
            self._table.flush()

    def step(self, progress: float) -> float:
        """One update at the rate for `progress`; AdamW's rate is returned."""
        scale = learning_rate_scale(progress, self.settings)
        if self._table is not None:
            self._table.step(self.settings.learning_rate * scale)
            return self.settings.learning_rate * scale
        rate = self.settings.learning_rate * scale
        for group in self._adamw.param_groups:
            group["lr"] = rate * group["multiple"]
        self._adamw.step()
        if self._muon is not None:
            self._muon.step(self.settings.muon_learning_rate * scale)
        return rate

    def state(self) -> dict[str, Tensor]:
        """Every number the optimizers remember, as `adamw.PARAMETER.NAME` or `muon.SHAPE` → tensor: what a checkpoint keeps."""
        if self._table is not None:
            return self._table.state()
        remembered = {
            f"adamw.{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
            for index, slots in self._adamw.state_dict()["state"].items()
            for name, value in slots.items()
        }
        if self._muon is not None:
            remembered |= {f"muon.{name}": value for name, value in self._muon.state().items()}
        return remembered

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave, for the same model and settings."""
        if self._table is not None:
            self._table.load_state(state)
            return
        slots: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            part, name = key.split(".", 1)
            if part == "adamw":
                index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = tensor
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": slots, "param_groups": groups})
        if self._muon is not None:
            self._muon.load_state(
                {k.removeprefix("muon."): v for k, v in state.items() if k.startswith("muon.")}
            )
