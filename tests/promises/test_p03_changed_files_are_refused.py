"""P3: a changed or cut-off file is refused by its name, and the newest valid checkpoint is taken
instead.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
import torch

from semigpt.corpus.staging import prepare_corpus
from semigpt.dataset import open_dataset, prepare_dataset
from semigpt.errors import CorpusError, SemigptError
from semigpt.huggingface.folder import load_model, save_model
from semigpt.models import build_model
from semigpt.run_folder import RunFolder
from semigpt.shards import ShardWriter
from semigpt.tokenizers import CharTokenizer, load_tokenizer

TENSORS = {group: {"x": torch.randn(50)} for group in ("model", "optimizer")}


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(changed))] ^= draw.randrange(1, 256)
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


HARMS = pytest.mark.parametrize("harm", [flipped, cut])


@HARMS
def test_every_file_of_a_checkpoint(tmp_path: Path, harm: object) -> None:
    draw = random.Random(0)
    run = RunFolder.create(tmp_path / "run", {})
    run.unlock()
    for step in (1, 2):
        run.save(TENSORS, {}, step=step, keep=2)
    whole = shutil.copytree(run.checkpoints, tmp_path / "whole")
    for file in sorted(whole.joinpath("step-00000002").iterdir()):
        for _ in range(20):
            victim = run.checkpoints / "step-00000002" / file.name
            victim.write_bytes(harm(file.read_bytes(), draw))
            newest = run.newest()
            assert newest is not None
            assert newest.metadata["step"] == 1, file.name
            (line,) = run.damaged()
            assert f"step-00000002/{file.name}" in line or file.name == "manifest.json"
            assert "step-00000002" in line
            victim.write_bytes(file.read_bytes())
    victim.unlink()
    assert run.newest().metadata["step"] == 1


@HARMS
@pytest.mark.parametrize("rung", ["bigram", "gpt"])
def test_every_file_of_a_model_folder(
    tmp_path: Path, harm: object, rung: str, korean_text: str
) -> None:
    """But for README.md, which is there to be written in."""
    draw = random.Random(0)
    shape = {"context_length": 8} | (
        {} if rung == "bigram" else {"width": 16, "num_layers": 1, "num_heads": 2}
    )
    tokenizer = CharTokenizer(korean_text)
    model = build_model(rung, tokenizer.vocab_size, shape)
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(folder, model, tokenizer, "card")
    first = (folder / "model.safetensors").read_bytes()
    save_model(folder, model, tokenizer, "another card")
    assert (folder / "model.safetensors").read_bytes() == first, "the same model, the same bytes"
    for file in sorted(folder.iterdir()):
        if file.name == "README.md":
            continue
        content = file.read_bytes()
        for _ in range(15):
            file.write_bytes(harm(content, draw))
            with pytest.raises(SemigptError, match=file.name.replace(".", r"\.")):
                load_model(folder)
            file.write_bytes(content)
    load_model(folder)
    load_tokenizer(folder)


@HARMS
def test_every_token_shard(tmp_path: Path, harm: object) -> None:
    import json

    import numpy as np

    draw = random.Random(0)
    dtype = np.dtype(np.uint16)
    with ShardWriter(tmp_path, "train", dtype, tokens_per_shard=200) as writer:
        for _ in range(5):
            writer.add(np.arange(100, dtype=dtype))
        entry = writer.finish()
    manifest = {
        "format": 1,
        "vocab_size": 100,
        "dtype": "uint16",
        "corpus": "c",
        "tokenizer": "t",
        "splits": {"train": entry},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert len(open_dataset(tmp_path).stream("train")) == 500
    for file in sorted(tmp_path.glob("*.npy")):
        content = file.read_bytes()
        for _ in range(20):
            file.write_bytes(harm(content, draw))
            with pytest.raises(CorpusError, match=file.name.replace(".", r"\.")):
                open_dataset(tmp_path)
            file.write_bytes(content)


def test_a_log_that_was_cut_is_refused_by_its_name(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    run.unlock()
    run.append("metrics", {"step": 1})
    run.save(TENSORS, {}, step=1, keep=2)
    run.logs["metrics"].write_text("")
    with pytest.raises(
        SemigptError, match=r"metrics\.jsonl is cut off: 0 bytes where the checkpoint"
    ):
        run.rewind(run.newest())


@pytest.mark.parametrize("log", ["metrics", "samples"])
@pytest.mark.parametrize("harm", ["no JSON", "another number", "no object"])
def test_a_log_row_changed_at_equal_length_is_refused_at_once(
    tmp_path: Path, log: str, harm: str
) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    run.unlock()
    for step in range(1, 6):
        run.append(log, {"step": step})
    run.save(TENSORS, {}, step=5, keep=2)
    run.append(log, {"step": 6})  # after the checkpoint: cut off, whatever it is
    content = run.logs[log].read_bytes()
    row = b'{"step": 3}'
    harmed = {
        "no JSON": b'{"step" 33}',
        "another number": b'{"step": 4}',
        "no object": b"          3",
    }
    run.logs[log].write_bytes(content.replace(row, harmed[harm]))
    with pytest.raises(SemigptError) as error:
        run.rewind(run.newest())
    where = " is not what the run had" if harm == "another number" else ": line 3 is damaged"
    assert f"{run.logs[log]}{where}" in str(error.value)
    run.logs[log].write_bytes(content[:-5])
    run.rewind(run.newest())
    assert len(run.rows(log)) == 5


def test_staged_text_changed_at_equal_length_is_refused_by_its_name(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(f"문서 {i}번입니다." for i in range(60)))
    corpus = prepare_corpus(str(source), cache=tmp_path)
    text = corpus.path("train")
    content = text.read_bytes()
    time.sleep(0.02)  # more than a tick of the clock of files
    text.write_bytes(content.replace("문서".encode(), "문자".encode(), 1))
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"train\.txt: it has changed since it was written"):
            prepare_corpus(str(source), cache=tmp_path)
    text.write_bytes(content)
    assert prepare_corpus(str(source), cache=tmp_path).fingerprint == corpus.fingerprint


def test_no_token_is_written_of_text_that_has_changed(tmp_path: Path) -> None:
    """Whatever its times say: what is read is compared with its digest."""
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(f"문서 {i}번입니다." for i in range(60)))
    corpus = prepare_corpus(str(source), cache=tmp_path)
    text = corpus.path("train")
    text.write_bytes(text.read_bytes().replace("문서".encode(), "문자".encode(), 1))
    with pytest.raises(CorpusError, match=r"train\.txt: it has changed since it was written"):
        prepare_dataset(corpus, CharTokenizer("문서자번입니다"))
    assert not list(corpus.folder.glob("tokens-*"))
