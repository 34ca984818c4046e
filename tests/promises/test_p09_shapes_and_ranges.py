"""P9: no shape, id or score of a stranger's file reaches C unchecked, and none takes memory beyond
its size.
"""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import VOCABULARY, small_model
from semigpt.errors import CheckpointError, SemigptError, SettingsError, TokenizerError
from semigpt.huggingface.folder import load_model, save_model
from semigpt.huggingface.open import open_run
from semigpt.models.memory import COUNTS_FILE
from semigpt.ngrams.counts import Counts
from semigpt.restoring import progress_of, restore
from semigpt.run_folder import Checkpoint, RunFolder
from semigpt.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    UnigramTokenizer,
    load_tokenizer,
)
from semigpt.training.optimizer import Optimizer, OptimizerSettings

Tables = dict[str, torch.Tensor]


def forged(folder: Path, tokenizer: Tokenizer, change: Callable[[Any], object]) -> Path:
    """A tokenizer's folder whose tokenizer.json was changed, with no digest beside it."""
    tokenizer.save(folder)
    file = folder / "tokenizer.json"
    document = json.loads(file.read_bytes())
    change(document["model"])
    file.write_text(json.dumps(document))
    (folder / "tokenizer_config.json").unlink()
    return folder


@pytest.mark.parametrize(
    "score", [-1e308, 1e308, float("inf"), float("-inf"), float("nan"), 10**400, "x", None]
)
def test_scores_whose_sums_are_no_numbers(tmp_path: Path, score: object) -> None:
    tokenizer = UnigramTokenizer.train(["가나다라 마바사"] * 5, vocab_size=300)

    def change(model: Any) -> None:
        for piece in model["vocab"]:
            piece[1] = score

    folder = forged(tmp_path, tokenizer, change)
    try:
        loaded = load_tokenizer(folder)
    except TokenizerError as error:
        assert re.search(r"tokenizer\.json is not a tokenizer", str(error))
        assert len(str(error)) < 1000
    else:  # it is read as others' are, and no sum of its scores is in the way
        assert abs(float(cast(float, score))) == 1e308
        assert loaded.kind == "foreign"
        assert loaded.decode(loaded.encode("가나다 라마")) == "가나다 라마"


def test_merges_that_double(tmp_path: Path) -> None:
    """5 kB ask for a token of 2^40 bytes."""

    def change(model: Any) -> None:
        names = [chr(0x4E00 + i) for i in range(41)]
        model["vocab"] |= {name: 255 + i for i, name in enumerate(names)}
        model["merges"] = [[name, name] for name in names[:40]]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(forged(tmp_path, BPETokenizer([(97, 98)]), change))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def huge(shape: torch.Size) -> torch.Tensor:
    return torch.full(shape, 2**31 - 1, dtype=torch.int32)


FORGED: dict[str, Callable[[Tables], object]] = {
    "discounts NaN": lambda t: t["discounts"].fill_(float("nan")),
    "discounts 1e38": lambda t: t["discounts"].fill_(1e38),
    "discounts of no shape": lambda t: t.update(discounts=torch.zeros(())),
    "counts that overflow": lambda t: t.update({"count.1": huge(t["count.1"].shape)}),
    "tokens that are NaN": lambda t: t.update({"follower.1": t["follower.1"] * float("nan")}),
    "tokens that wrap": lambda t: t.update({"follower.1": t["follower.1"].long() + 2**32}),
    "tokens that do not ascend": lambda t: t.update({"follower.1": t["follower.1"].flip(0)}),
    "tokens outside": lambda t: t["follower.2"].fill_(100),
    "counts of true": lambda t: t.update({"count.0": t["count.0"].bool()}),
    "a scalar": lambda t: t.update({"first_child.0": torch.tensor(3)}),
}


@pytest.mark.parametrize("name", FORGED)
def test_counts_that_no_text_has(name: str) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, 3000)
    tables = {
        key: table.clone() for key, table in Counts.fit(tokens, VOCABULARY, 3).tensors().items()
    }
    Counts.from_tensors(tables, VOCABULARY)
    FORGED[name](tables)
    with pytest.raises((ValueError, LookupError)):
        Counts.from_tensors(tables, VOCABULARY)


def test_ids_outside_the_vocabulary_reach_no_counts() -> None:
    counts = Counts.fit(np.arange(500) % VOCABULARY, VOCABULARY, 3)
    right, wrong = torch.zeros(2, 4, dtype=torch.long), torch.full((2, 4), VOCABULARY)
    for ids, targets in ((wrong, right), (right, wrong), (right, right - 1)):
        for ask in (counts.lookup, counts.distribution):
            with pytest.raises(IndexError):
                ask(ids, targets)


def test_a_model_folder_with_forged_counts_is_refused(tmp_path: Path) -> None:
    model = small_model("memory")
    tokenizer = CharTokenizer.plain("".join(chr(0xAC00 + i) for i in range(VOCABULARY)))
    save_model(tmp_path, model, tokenizer, "card")
    for name in (COUNTS_FILE, "model.safetensors"):  # without digests, as from elsewhere
        tables = load_file(tmp_path / name)
        if name == COUNTS_FILE:
            tables["discounts"] = torch.zeros(())
        save_file(tables, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"counts\.safetensors cannot be read, or"):
        load_model(tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_model(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.plain("".join(chr(0xAC00 + i) for i in range(VOCABULARY)))
    save_model(tmp_path, small_model("gpt"), tokenizer, "card")
    open_run(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights, tmp_path / "model.safetensors")  # without digests, as from elsewhere
    CharTokenizer("가나다").save(tmp_path)
    with pytest.raises(CheckpointError, match="260 tokens, the model 50: put the tokenizer"):
        open_run(tmp_path)


@pytest.mark.parametrize("value", ["", [], None, 3, {"step": "x"}])
def test_a_checkpoint_whose_progress_is_no_table(value: object) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, SettingsError)):
        progress_of(Checkpoint(Path(), {}, {"progress": value}))


def test_a_decoder_with_a_step_of_no_type(tmp_path: Path) -> None:
    """The library takes it, and then it is another's tokenizer."""
    BPETokenizer.train(["가나다"], vocab_size=300).save(tmp_path)
    file = tmp_path / "tokenizer.json"
    document = json.loads(file.read_bytes())
    steps = [{"pattern": {"String": "x"}, "content": "x"}, document["decoder"]]
    document["decoder"] = {"type": "Sequence", "decoders": steps}
    file.write_text(json.dumps(document))
    (tmp_path / "tokenizer_config.json").unlink()
    loaded = load_tokenizer(tmp_path)
    assert loaded.kind == "foreign"
    assert loaded.token_bytes(ord("A")) == b"A"


@pytest.mark.parametrize(("rung", "kind"), [("bigram", "adamw"), ("gpt", "adamw"), ("gpt", "muon")])
@pytest.mark.parametrize("harm", ["three numbers", "a scalar", "complex numbers"])
def test_a_checkpoint_whose_tensors_have_another_shape(rung: str, kind: str, harm: str) -> None:
    model = small_model(rung)
    optimizer = Optimizer(model, OptimizerSettings(optimizer=kind))
    _, loss = model(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
    assert loss is not None
    loss.backward()
    optimizer.step(0.5)
    whole = {
        "model": {name: p.detach().clone() for name, p in model.named_parameters()},
        "optimizer": optimizer.state(),
    }
    restore(model, optimizer, Checkpoint(Path(), whole, {}))
    for group in ("model", "optimizer"):
        for name, tensor in whole[group].items():
            if harm == "a scalar" and tensor.dim() == 0:
                continue
            changed = {
                "three numbers": torch.ones(3),
                "a scalar": tensor.new_ones(()),
                "complex numbers": tensor.to(torch.complex64),
            }[harm]
            forged = whole | {group: whole[group] | {name: changed}}
            with pytest.raises((ValueError, LookupError, RuntimeError)):
                restore(model, optimizer, Checkpoint(Path(), forged, {}))


@pytest.mark.parametrize("what", ["a pipe", "a device", "a folder"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_only_regular_files_are_opened(tmp_path: Path, what: str, name: str) -> None:
    tokenizer = CharTokenizer.plain("".join(chr(0xAC00 + i) for i in range(VOCABULARY)))
    save_model(tmp_path, small_model("gpt"), tokenizer, "card")
    file = tmp_path / name
    file.unlink()
    match what:
        case "a pipe":
            os.mkfifo(file)
        case "a device":
            file.symlink_to("/dev/zero")
        case _:
            file.mkdir()
    with pytest.raises(SemigptError, match=name.replace(".", r"\.")) as error:
        (load_tokenizer if name == "tokenizer.json" else load_model)(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_that_memory_cannot_hold_are_refused_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of holes: 1 TB long, and a block on the disk."""
    tokenizer = CharTokenizer.plain("".join(chr(0xAC00 + i) for i in range(VOCABULARY)))
    save_model(tmp_path, small_model("gpt"), tokenizer, "card")
    config = json.loads((tmp_path / "config.json").read_text())
    width = 1 << 18
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"hidden_size": width, "intermediate_size": width})
    )
    elements = 1 << 38
    entry = {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}
    header = json.dumps({"x": entry}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 4 * elements)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a file of holes"):
        load_model(tmp_path)
    monkeypatch.setattr("semigpt.huggingface.integrity.is_hollow", lambda path: False)
    with pytest.raises(CheckpointError, match=r"config\.json.* bytes of memory, and .* are free"):
        load_model(tmp_path)


def test_a_checkpoint_of_holes_is_passed_over(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, {})
    run.unlock()
    tensors = {group: {"x": torch.ones(2)} for group in ("model", "optimizer")}
    for step in (1, 2):
        run.save(tensors, {}, step=step, keep=2)
    os.truncate(run.checkpoints / "step-00000002" / "model.safetensors", 1 << 40)
    newest = run.newest()
    assert newest is not None
    assert newest.metadata["step"] == 1
    assert "model.safetensors is a file of holes" in next(run.damaged())
