"""LoRA: small matrices trained beside the weights of `--from`, merged, and kept for peft."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from foreign_models import TEXTS, like_llama, like_qwen, put
from semigpt.cli import main
from semigpt.config import Recipe
from semigpt.errors import SettingsError
from semigpt.generation.decoder import TorchDecoder, make_decoder
from semigpt.huggingface.folder import load_model
from semigpt.models import build_model
from semigpt.models.base import LanguageModel
from semigpt.models.lora import adapt, adapter_count, adapters
from semigpt.recipe import Finished, Forecasted, Prepared, Stepped, train
from semigpt.run_folder import RunFolder
from semigpt.start import STARTER_FOLDER
from semigpt.studies.crash_test import compared_files
from semigpt.training.forecast import check_resources, needed_memory
from test_other_families import IDS, write

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt": ("gpt", {"width": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}),
    "qwen2": ("gpt", {"width": 32, "num_layers": 1, "num_heads": 2, "family": "qwen2"}),
    "blocks": ("blocks", {"width": 32, "num_layers": 2, "num_heads": 4, "dropout": 0.0}),
}


def adapted(name: str) -> tuple[LanguageModel, LanguageModel]:
    """A model with adapters that do something, and the plain one that it amounts to."""
    torch.manual_seed(0)
    kind, shape = SHAPES[name]
    model, plain = (build_model(kind, 330, {**shape, "context_length": 64}) for _ in range(2))
    adapt(model, 4)
    for _, layer in adapters(model):
        torch.nn.init.normal_(layer.lora_B, std=0.05)
    plain.load_huggingface_state(model.huggingface_state())
    return model.eval(), plain.eval()


@pytest.mark.parametrize("name", SHAPES)
def test_an_adapted_model_is_the_plain_one_with_merged_weights(name: str) -> None:
    model, plain = adapted(name)
    ids = IDS[:, :24]
    torch.testing.assert_close(model(ids)[0], plain(ids)[0], atol=1e-5, rtol=1e-5)
    frozen = build_model(SHAPES[name][0], 330, {**SHAPES[name][1], "context_length": 64})
    frozen.load_state_dict({n: p for n, p in model.named_parameters() if "lora" not in n})
    assert (frozen(ids)[0] - plain(ids)[0]).abs().max() > 1e-2
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == adapter_count(model.settings, 4) < plain.parameter_count() / 2
    assert isinstance(make_decoder(model), TorchDecoder), "the C would read the frozen weights"
    shapes = [(a.out_features, a.in_features) for _, a in adapters(model)]
    assert sorted(shapes) == sorted(model.settings.adapted_shapes)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "글.jsonl"
    texts = [f"{number}번. {text}" for number, text in enumerate(TEXTS)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def tables_from(folder: Path, text: Path, **training: Any) -> dict[str, dict[str, Any]]:
    length = {"steps": 4, "eval_every": 2, "eval_blocks": 2, "save_every": 2, "batch_size": 4}
    return {
        "data": {"spec": str(text)},
        "start": {"folder": str(folder), "lora": 4},
        "model": {"context_length": 16},
        "training": {**length, **training},
        "optimizer": {"learning_rate": 3e-2},
        "sample": {"max_new_tokens": 4},
    }


def trained(tables: dict[str, dict[str, Any]], folder: Path, **how: Any) -> Finished:
    *_, finished = train(Recipe.from_tables(tables), folder, **how)
    assert isinstance(finished, Finished)
    return finished


TOKENIZERS: dict[str, Callable[[], Any]] = {"Llama, biases": like_llama}


# peft asks transformers for what that calls otherwise now.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("name", ["Qwen3", "Llama, biases", "GPT-2"])
def test_a_run_folder_has_the_base_the_adapter_and_both_merged(
    name: str, tmp_path: Path, text: Path
) -> None:
    """What peft adds to the base is what model/ has, within 1e-4; nothing else has changed."""
    write(name, tmp_path / "net")
    put(TOKENIZERS.get(name, like_qwen)(), tmp_path / "net")
    events = train(Recipe.from_tables(tables_from(tmp_path / "net", text)), tmp_path / "run")
    *_, finished = events
    assert isinstance(finished, Finished)
    run = finished.run
    losses = [row["val_loss"] for row in run.rows("metrics") if "val_loss" in row]
    assert losses[-1] < losses[0] - 0.05
    base, merged = (
        transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        for folder in (run.base_folder, run.model_folder)
    )
    ids = IDS[:, :16] % base.config.vocab_size
    config = json.loads((run.adapter_folder / "adapter_config.json").read_text())
    saved = load_file(run.adapter_folder / "adapter_model.safetensors")
    with torch.no_grad():
        expected, before = merged(ids).logits, base(ids).logits
        assert (expected - before).abs().max() > 1e-2
        torch.testing.assert_close(
            load_model(run.model_folder)(ids)[0], expected, atol=1e-5, rtol=1e-5
        )
        changed = {
            key
            for key, weight in merged.state_dict().items()
            if not torch.equal(weight, base.state_dict()[key])
        }
        names = {key.removeprefix("base_model.model.").rsplit(".lora_")[0] for key in saved}
        assert changed == {f"{name}.weight" for name in names}
        assert {name.rsplit(".")[-1] for name in names} == set(config["target_modules"])
        for name in names:  # what peft computes
            low, high = (saved[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
            added = config["lora_alpha"] / config["r"] * (high @ low)
            added = added.T if config["fan_in_fan_out"] else added
            weights = (net.state_dict()[f"{name}.weight"] for net in (base, merged))
            torch.testing.assert_close(next(weights) + added, next(weights), atol=1e-6, rtol=0)
        peft = pytest.importorskip("peft")
        theirs = peft.PeftModel.from_pretrained(base, run.adapter_folder).eval()
        torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-4, rtol=0)


def test_a_stopped_run_ends_in_the_same_bits_without_the_folder(tmp_path: Path, text: Path) -> None:
    """A checkpoint holds the adapters alone; the rest lies in base/."""
    write("Qwen3", tmp_path / "net")
    put(like_qwen(), tmp_path / "net")
    tables = tables_from(tmp_path / "net", text)
    whole = compared_files(trained(tables, tmp_path / "whole").run.path)
    steps: list[int] = []
    events = train(Recipe.from_tables(tables), tmp_path / "run", stop=lambda: len(steps) > 1)
    for event in events:
        if isinstance(event, Stepped):
            steps.append(event.report.step)
    assert steps == [1, 2]
    shutil.rmtree(tmp_path / "net")
    resumed = RunFolder.open(tmp_path / "run").config()
    assert compared_files(trained(resumed, tmp_path / "run", resume=True).run.path) == whole
    held = [name for name in whole if name.endswith("00000004/model.safetensors")]
    assert all(".lora_" in name for name in load_file(tmp_path / "run" / held[0]))
    damaged = tmp_path / "run" / "base" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"\0\0\0\1")
    assert main(["train", "--resume", str(tmp_path / "run"), "--steps", "+2"]) == 2
    shutil.copytree(tmp_path / "whole" / "base", tmp_path / "run" / "base", dirs_exist_ok=True)
    assert main(["train", "--resume", str(tmp_path / "run"), "--steps", "+2"]) == 0


BAD = {
    "no model": ({"start": {"lora": 4}}, "--lora trains .*: name it with --from"),
    "no rank": ({"start": {"folder": "starter", "lora": 0}}, "lora must be more than 0, not 0"),
    "a large rank": (
        {"start": {"folder": "starter", "lora": 129}},
        "--lora 129 is more than the 128 rows or columns of a matrix of starter; ask for less",
    ),
    "a memory": (
        {"start": {"folder": "starter", "lora": 4}, "model": {"kind": "memory"}},
        "--lora does not go with a memory: it serves blocks, gpt; leave it out",
    ),
    "another rank": ({"start": {"folder": "starter", "lora": "4"}}, "lora .* a whole number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str) -> None:
    tables, says = BAD[name]
    with pytest.raises(SettingsError, match=says) as error:
        Recipe.from_tables(tables)
    assert "\n" not in str(error.value)


def test_rates_are_by_width() -> None:
    """Of the starter, whose width is 128: docs/choices.md#started-rate; what is asked for stays."""
    start = {"folder": "starter", "lora": 8}
    optimizer = Recipe.from_tables({"start": start}).optimizer
    found = optimizer.optimizer, optimizer.learning_rate, optimizer.weight_decay
    assert found == ("adamw", 0.0047, 0.0)
    asked = Recipe.from_tables({"start": start, "optimizer": {"learning_rate": 1e-3}})
    assert asked.optimizer.learning_rate == 1e-3


def test_a_bigram_has_nothing_to_adapt(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--steps", "1", "--data", str(text), "--set", "training.eval_blocks=2"]
    first = ["--model", "bigram", "--set", "model.context_length=8", "--out", str(tmp_path / "old")]
    assert main(["train", *short, *first]) == 0
    capsys.readouterr()
    assert main(["train", *short, "--from", str(tmp_path / "old"), "--lora", "4"]) == 2
    assert capsys.readouterr().err.startswith("semigpt: --lora does not go with a bigram: it serve")


def test_the_forecast_says_what_it_saves_and_a_full_memory_names_it(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("Qwen3", tmp_path / "net")
    put(like_qwen(), tmp_path / "net")
    recipe = Recipe.from_tables(tables_from(tmp_path / "net", text))
    for event in train(recipe, tmp_path / "run"):
        if isinstance(event, Prepared):
            frozen = sum(p.numel() for p in event.model.parameters() if not p.requires_grad)
        if isinstance(event, Forecasted):
            assert event.forecast.saved_memory == 12 * frozen > 0
            break
    settings = load_model(STARTER_FOLDER).settings
    sizes = settings, recipe.training, recipe.optimizer
    where = recipe.machine, torch.device("cpu")
    read = 8 * settings.parameter_count  # the best weights, and the rehearsal's
    whole, less = (read + needed_memory(*sizes, *where, lora=rank) for rank in (None, 16))
    assert whole - less == pytest.approx(12 * settings.parameter_count, rel=0.3)
    for free, advised in ((whole - 1, True), (less - 1, False)):
        monkeypatch.setattr("semigpt.training.forecast.available_memory", lambda _, n=free: n)
        with pytest.raises(SettingsError, match="choose .*a smaller model with --from") as error:
            check_resources(*sizes, tmp_path, torch.device("cpu"), from_model=True)
        assert ("choose --lora 16, which needs at least" in str(error.value)) is advised
