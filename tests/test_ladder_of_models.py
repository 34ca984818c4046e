"""A rung is one class: what it says of itself is true, and a made-up one needs no other line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from conftest import SMALL, VOCABULARY, small_model
from semigpt import auto
from semigpt.auto import Size
from semigpt.config import Recipe
from semigpt.errors import SettingsError
from semigpt.models import LADDER, build_model, model_class
from semigpt.models.base import LanguageModel, ModelSettings
from semigpt.models.loss import token_loss
from semigpt.recipe import open_run, train
from semigpt.run_events import Finished


@pytest.mark.parametrize(
    ("rung", "changes"),
    [
        *((rung, {}) for rung in LADDER),
        ("feedforward", {"hidden_width": 24}),
        ("blocks", {"tie_embeddings": True, "num_layers": 3}),
        ("gpt", {"tie_embeddings": True, "head_dim": 16, "num_kv_heads": None}),
        ("gpt", {"hidden_width": 40, "num_layers": 1}),
        ("memory", {"memory_order": 4}),
    ],
)
def test_a_shapes_parameters_are_counted_without_a_model(
    rung: str, changes: dict[str, Any]
) -> None:
    for vocab_size in (VOCABULARY, 64, 65):
        model = build_model(rung, vocab_size, {**SMALL[rung], **changes})
        assert model.settings.parameter_count == model.parameter_count()


def test_every_size_of_a_rung_is_a_recipe(rung: str) -> None:
    assert set(auto.SIZES) <= set(model_class(rung).sizes)
    for size in model_class(rung).sizes:
        recipe = Recipe.from_tables({"model": {"kind": rung, "size": size}})
        assert recipe.rung.kind == rung
        assert isinstance(recipe.model, recipe.rung.Settings)
        for key, value in recipe.rung.defaults(size)["model"].items():
            assert getattr(recipe.model, key) == value
            assert f"model.{key}" in recipe.defaulted
        assert recipe.rung.description
        assert "\n" not in recipe.rung.description


def test_a_config_gives_the_settings_back(rung: str) -> None:
    model = small_model(rung)
    found = type(model).settings_from_huggingface(model.huggingface_config())
    assert type(model)(found).huggingface_config() == model.huggingface_config()
    assert model.huggingface_config()["model_type"] == type(model).model_types()[0]


def test_tables_of_memory_that_are_no_parameters_are_counted() -> None:
    model = small_model("gpt")
    assert model.settings.table_bytes == sum(b.numel() * 4 for b in model.buffers())


# A rung of somebody's own


@dataclass(frozen=True, kw_only=True)
class MeanSettings(ModelSettings):
    width: int = 8

    @property
    def parameter_count(self) -> int:
        return 2 * self.vocab_size * self.width


class MeanModel(LanguageModel):
    """Logits from the mean of the embeddings so far."""

    kind: ClassVar[str] = "mean"
    description: ClassVar[str] = "the mean of the tokens before"
    Settings: ClassVar[type[ModelSettings]] = MeanSettings
    small: ClassVar[Mapping[str, Any]] = {"context_length": 16}
    settings: MeanSettings

    @classmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        return {"model": {"context_length": 32}, "training": {"batch_size": 8}}

    def __init__(self, settings: MeanSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(settings.vocab_size, settings.width)
        self.output = nn.Linear(settings.width, settings.vocab_size, bias=False)

    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        x_BTC = self.embedding(inputs_BT).cumsum(dim=1)
        count_T1 = torch.arange(1, inputs_BT.shape[1] + 1, device=x_BTC.device)[:, None]
        logits_BTV = self.output(x_BTC / count_T1)
        return logits_BTV, None if targets_BT is None else token_loss(logits_BTV, targets_BT)

    def huggingface_config(self) -> dict[str, Any]:
        shape = {name: getattr(self.settings, name) for name in ("vocab_size", "context_length")}
        return {"model_type": self.model_types()[0], **shape, "width": self.settings.width}


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("made_up")
    module.MeanModel = MeanModel
    monkeypatch.setitem(sys.modules, "made_up", module)
    monkeypatch.setitem(LADDER, "mean", "made_up:MeanModel")


@pytest.mark.usefixtures("made_up")
def test_a_made_up_rung_trains_saves_loads_and_writes(tmp_path: Path, korean_text: str) -> None:
    text = tmp_path / "글.txt"
    text.write_text("\n\n".join(f"{n}번 글. {korean_text}" for n in range(40)), encoding="utf-8")
    tables = {
        "data": {"spec": str(text)},
        "model": {"kind": "mean", "width": 12},
        "training": {"steps": 6, "eval_blocks": 4},
        "sample": {"max_new_tokens": 4},
    }
    events = list(train(Recipe.from_tables(tables), tmp_path / "run"))
    assert isinstance(events[-1], Finished)
    run, model, tokenizer = open_run(tmp_path / "run")
    assert run is not None
    assert run.config()["model"] == {
        "kind": "mean",
        "size": "tiny",
        "context_length": 32,
        "width": 12,
    }
    assert isinstance(model, MeanModel)
    ids = torch.from_numpy(tokenizer.encode("의사").astype("int64"))[None]
    assert model.generate(ids, 3, seed=0).shape == (1, ids.shape[1] + 3)


@pytest.mark.usefixtures("made_up")
def test_its_name_is_offered() -> None:
    with pytest.raises(SettingsError, match="memory, mean"):
        model_class("means")
