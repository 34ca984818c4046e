"""The optimizers of a model as one, and the schedule of their learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.parallel import ALONE
from semigpt.parallel import Group as Replicas
from semigpt.settings import check_choice, check_finite, check_positive
from semigpt.tensor_file import WriteFile, write_tensors
from semigpt.training.adamw import AdamW, Group
from semigpt.training.muon import Muon
from semigpt.training.progress import FIRST_LEG
from semigpt.training.settings import LegSettings
from semigpt.training.table_adamw import TableAdamW, touched_rows

__all__ = ["Optimizer", "OptimizerSettings", "adamw_of", "grouped", "learning_rate_scale"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Rates, decay and schedule. Raises SettingsError for impossible values.

    `muon` gives the hidden matrices to Muon (Jordan and others 2024) and the rest, embeddings,
    output layer and norms, to AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101); `adamw` gives
    all to AdamW.
    """

    optimizer: Literal["adamw", "muon"] = "muon"
    learning_rate: float = 3e-3  # AdamW's, at the top of the schedule
    muon_learning_rate: float = 0.02
    # Of embedding tables, as a multiple of AdamW's: a batch reads few of their rows. A table that
    # is the output layer too has the plain rate.
    embedding_rate: float = 1.0
    # None: 0.1, or what `semigpt train` chooses by the epochs (`semigpt.auto.candidates`).
    weight_decay: float | None = None
    # matrices: not norms, biases, or tables of which a batch reads few rows. all: as
    # torch.optim.AdamW.
    decayed: Literal["matrices", "all"] = "matrices"
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    momentum: float = 0.95  # Muon's
    schedule: Literal["cosine", "trapezoid", "constant"] = "trapezoid"
    warmup: float = 0.05  # fraction of the run over which the rate climbs
    decay: float = 0.6  # trapezoid: the last fraction of the run, over which the rate falls
    final_rate: float = 0.0  # where the rate ends, as a fraction of its top
    # The top of the schedule where a run goes on further, as a fraction of the first top.
    rewarm: float = 0.5
    clip: float = 1.0  # largest gradient norm; 0 for no limit

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, ("adamw", "muon"))
        check_choice("schedule", self.schedule, ("cosine", "trapezoid", "constant"))
        check_choice("decayed", self.decayed, ("matrices", "all"))
        check_finite(self)
        check_positive(self, "learning_rate", "muon_learning_rate", "embedding_rate", "epsilon")
        for name in ("weight_decay", "clip"):
            if (getattr(self, name) or 0) < 0:
                raise SettingsError(
                    _("{name} must not be less than 0, not {value}").format(
                        name=name, value=getattr(self, name)
                    )
                )
        for name in ("warmup", "decay", "final_rate", "rewarm"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(
                    _("{name} is a fraction, between 0 and 1, not {value}").format(
                        name=name, value=getattr(self, name)
                    )
                )
        for name, value in (("momentum", self.momentum), *(("betas", beta) for beta in self.betas)):
            if not 0 <= value < 1:
                raise SettingsError(
                    _("{name} must be at least 0 and less than 1, not {value}").format(
                        name=name, value=value
                    )
                )

    @property
    def matrix_decay(self) -> float:
        """The decay of matrices."""
        return 0.1 if self.weight_decay is None else self.weight_decay

    @property
    def table_decay(self) -> float:
        """The decay of tables of which a batch reads few rows."""
        return self.matrix_decay if self.decayed == "all" else 0.0


def learning_rate_scale(
    fraction: float, settings: OptimizerSettings, leg: LegSettings = FIRST_LEG
) -> float:
    """The learning rate as a fraction of its top, where `fraction` (0 to 1) of the leg is done.

    A later leg climbs from the rate that the run stood at to `rewarm`, or stays at the rate where
    that is higher, and then falls as the first leg does.
    """
    if leg.number == 1:
        return _first_scale(fraction, settings)
    top = leg.top(settings.rewarm)
    if fraction < settings.warmup:
        climbed = leg.rate + (top - leg.rate) * fraction / settings.warmup
        return max(climbed, 0.01 * top)
    return top * _first_scale(fraction, settings)


def _first_scale(fraction: float, settings: OptimizerSettings) -> float:
    final, rest = settings.final_rate, 1 - settings.final_rate
    if fraction < settings.warmup:
        # From a hundredth, not from 0: the very first step trains too.
        return max(fraction / settings.warmup, 0.01)
    match settings.schedule:
        case "constant":
            return 1.0
        case "cosine":
            done = (fraction - settings.warmup) / max(1 - settings.warmup, 1e-12)
            return final + rest * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        case "trapezoid":
            left = max(1 - fraction, 0.0)
            return final + rest * min(left / settings.decay, 1.0) if settings.decay else 1.0


class Optimizer:
    """The optimizers of one model: fused AdamW, and Muon beside it where the settings say so.

    A model that is one table (the bigram) gets `TableAdamW`. Its weights are up to date wherever
    the model itself reads them; whoever else reads them, to save or export them, calls `flush`
    first.
    """

    def __init__(
        self, model: nn.Module, settings: OptimizerSettings, replicas: Replicas = ALONE
    ) -> None:
        """replicas: processes that train the same model, and share what each would compute"""
        self.settings = settings
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._table: TableAdamW | None = None
        self._muon: Muon | None = None
        table = next((m for m in model.modules() if isinstance(m, nn.Embedding)), None)
        converges = settings.betas[0] < settings.betas[1]  # see TableAdamW
        if table is not None and len(self.parameters) == 1 and converges:
            self._table = TableAdamW(
                model,
                table,
                betas=settings.betas,
                epsilon=settings.epsilon,
                weight_decay=settings.table_decay,
            )
            return
        hidden, *others = grouped(model, settings)
        self._adamw = adamw_of(others, settings)
        if hidden:
            self._muon = Muon(hidden, settings.momentum, settings.matrix_decay, replicas)

    @torch.no_grad()
    def clip_gradients(self) -> Tensor:
        """Scale all gradients down to a total norm of `settings.clip`; returns the norm before.

        As `torch.nn.utils.clip_grad_norm_`, which does not take gradients of a few rows.
        """
        gradients = []
        for parameter in self.parameters:
            if parameter.grad is not None:
                gradients.append(
                    touched_rows(parameter)[1] if parameter.grad.is_sparse else parameter.grad
                )
        norm = nn.utils.get_total_norm(gradients)
        if self.settings.clip:
            scale = (self.settings.clip / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, scale)
        return norm

    def zero_gradients(self) -> None:
        """Drop every gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    def flush(self) -> None:
        """Bring every weight up to date, for whoever reads them without the model."""
        if self._table is not None:
            self._table.flush()

    def step(self, fraction: float, leg: LegSettings = FIRST_LEG) -> float:
        """Update at the rate for `fraction` of the leg; returns AdamW's rate."""
        scale = learning_rate_scale(fraction, self.settings, leg)
        if self._table is not None:
            self._table.step(self.settings.learning_rate * scale)
            return self.settings.learning_rate * scale
        rate = self.settings.learning_rate * scale
        self._adamw.step(rate)
        if self._muon is not None:
            self._muon.step(self.settings.muon_learning_rate * scale)
        return rate

    def whole(self, model: LanguageModel) -> LanguageModel | None:
        """The model, where this process has all of it."""
        return model

    def checkpoint(self, model: LanguageModel) -> tuple[dict[str, Any], WriteFile]:
        """What a checkpoint's files hold, and how each is written."""
        trained = {name: own for name, own in model.named_parameters() if own.requires_grad}
        return {"model": trained, "optimizer": self.state()}, write_tensors

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, as `adamw.PARAMETER.NAME` or `muon.SHAPE` → tensor."""
        if self._table is not None:
            return self._table.state()
        state = {f"adamw.{name}": tensor for name, tensor in self._adamw.state().items()}
        if self._muon is not None:
            state |= {f"muon.{name}": value for name, value in self._muon.state().items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave, for the same model and settings."""
        if self._table is not None:
            self._table.load_state(state)
            return
        self._adamw.load_state(
            {k.removeprefix("adamw."): v for k, v in state.items() if k.startswith("adamw.")}
        )
        if self._muon is not None:
            self._muon.load_state(
                {k.removeprefix("muon."): v for k, v in state.items() if k.startswith("muon.")}
            )


def adamw_of(groups: Sequence[list[nn.Parameter]], settings: OptimizerSettings) -> AdamW:
    """AdamW over the last three groups of `grouped`."""
    decayed, embeddings, free = groups
    return AdamW(
        (
            Group(decayed, settings.matrix_decay),
            Group(embeddings, settings.table_decay, settings.embedding_rate),
            Group(free, 0.0),
        ),
        betas=settings.betas,
        epsilon=settings.epsilon,
    )


def grouped(
    model: nn.Module, settings: OptimizerSettings
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """The trained parameters: hidden matrices for Muon, decayed, embedding tables, not decayed."""
    outputs = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    hidden, decayed, embeddings, free = [], [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # The gate of a memory is an output layer with a bias in it; a table may be one too.
        output = name == "gate" or id(parameter) in tables & outputs
        matrix = parameter.dim() == 2 and not output
        if id(parameter) in tables - outputs:
            embeddings.append(parameter)
        elif settings.decayed == "matrices" and not matrix:
            free.append(parameter)
        elif settings.optimizer == "muon" and matrix and "lm_head" not in name:
            hidden.append(parameter)
        else:
            decayed.append(parameter)
    return hidden, decayed, embeddings, free
