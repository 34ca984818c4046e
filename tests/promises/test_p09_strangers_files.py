"""P9: nothing that a stranger's file holds is executed, and no memory is taken on its word."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(
    str(Path(__file__).parents[2] / "benchmarks")
)  # last: a file there is called tokenizers.py
from fuzz_readers import READERS, fuzz, make_specimens
from semigpt.corpus.staging import prepare_corpus
from semigpt.errors import CorpusError, SemigptError, SettingsError
from semigpt.recipe import Recipe
from semigpt.settings import read_toml

SOURCES = Path(__file__).parents[2] / "src" / "semigpt"


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole folder for each reader."""
    return make_specimens(tmp_path_factory.mktemp("specimens"))


class Trap:
    """Unpickled, it runs code; reached, it says so."""

    def __reduce__(self) -> object:
        return (exec, ("raise SystemExit('executed')",))


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


HUGE = 1 << 50
DEEP = b"[" * 200_000
MALICE = {
    "empty": b"",
    "pickle": pickle.dumps(Trap()),
    "zip": b"PK\x03\x04" + b"\x00" * 200,
    "text": "안녕하세요".encode(),
    "deep": DEEP,
    "deep table": b'{"a":' * 100_000,
    "toml deep": b"a = " + DEEP,
    "not utf-8": b"\xff\xfe\x00\x01",
    "long number": b'{"vocab_size": ' + b"9" * 10_000 + b"}",
    "huge header": struct.pack("<Q", HUGE) + b"{}",
    "huge tensor": safetensors(
        {"x": {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, 4]}}, b"\0" * 4
    ),
    "negative": safetensors(
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"\0" * 4
    ),
    "deep header": safetensors(DEEP),
    "no type": safetensors({"x": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "overlap": safetensors(
        {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in ("a", "b")}, b"\0" * 4
    ),
    "huge array": npy(f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({HUGE},), }}"),
    "objects": npy(
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps(Trap())
    ),
    "code in a header": npy("__import__('os')._exit(3)"),
    "json list": b"[1, 2]",
    "splits that are no table": b'{"format": 1, "splits": [1], "dtype": "uint8", "vocab_size": 3}',
    "json null": b"null",
}


@pytest.fixture(scope="module")
def places(
    specimens: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[tuple[Path, Path]]]:
    """Each file of each reader, and the folder to read: that of all its files, but for documents
    and archives, of which each is read alone.
    """
    found = {}
    for reader in READERS:
        folders = [specimens / reader]
        if reader in ("read_kinds", "read_inside"):
            apart = tmp_path_factory.mktemp("apart")
            shutil.copytree(specimens / reader, apart, dirs_exist_ok=True)
            folders = []
            for entry in sorted(apart.iterdir()):
                folder = Path(f"{entry}-alone")
                folder.mkdir()
                entry.rename(folder / entry.name)
                folders.append(folder)
        found[reader] = [
            (path, folder)
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".lock"
        ]
    return found


@pytest.mark.parametrize("reader", [name for name in READERS if not name.startswith("use_")])
@pytest.mark.parametrize("malice", MALICE)
def test_a_malicious_file_in_any_place_gets_one_line(
    places: dict[str, list[tuple[Path, Path]]],
    reader: str,
    malice: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reached(*_: object, **__: object) -> None:
        raise AssertionError("a path to pickle was taken")

    class Reached(
        pickle.Unpickler
    ):  # a class still: libraries derive theirs from it when they are imported
        __init__ = reached

    for owner, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(owner, name, reached)
    monkeypatch.setattr(pickle, "Unpickler", Reached)
    for file, folder in places[reader]:
        content = file.read_bytes()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        file.write_bytes(MALICE[malice])
        try:
            READERS[reader](folder)
        except SemigptError as error:
            assert "\n" not in str(error), file.name
            assert len(str(error)) < 2000, file.name
        finally:
            file.write_bytes(content)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert taken < 300_000, f"{file.name}: {taken} kB"


@pytest.mark.parametrize(
    "key",
    [
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "head_dim",
        "intermediate_size",
        "max_position_embeddings",
    ],
)
@pytest.mark.parametrize("value", [10**6, 10**12, 2**63, 2**70, 0, -1, 1.5, "many", None, [], {}])
def test_a_config_that_asks_for_the_impossible(specimens: Path, key: str, value: object) -> None:
    file = specimens / "load_model" / "config.json"
    content = file.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    file.write_text(json.dumps({**json.loads(content), key: value}), encoding="utf-8")
    try:
        with pytest.raises(SemigptError) as error:
            READERS["load_model"](specimens / "load_model")
        assert "\n" not in str(error.value)
    finally:
        file.write_bytes(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_a_dataset_whose_manifest_vouches_for_a_huge_shard(specimens: Path) -> None:
    """The digest is right and the sizes agree: only the file's own length says no."""
    import hashlib

    folder = specimens / "open_dataset"
    manifest_file = folder / "manifest.json"
    content = manifest_file.read_bytes()
    manifest = json.loads(content)
    shard = MALICE["huge array"]
    (folder / "evil.npy").write_bytes(shard)
    for tokens in (HUGE, 0):
        entry = {"name": "evil.npy", "tokens": tokens, "sha256": hashlib.sha256(shard).hexdigest()}
        manifest["splits"]["train"]["files"] = [entry]
        manifest_file.write_text(json.dumps(manifest))
        with pytest.raises(SemigptError, match=rf"evil\.npy.*not an array of {tokens} numbers"):
            READERS["open_dataset"](folder)
    (folder / "evil.npy").unlink()
    manifest_file.write_bytes(content)


def test_no_reader_of_ours_knows_how_to_execute() -> None:
    forbidden = re.compile(
        r"\bpickle\.|import pickle|torch\.load\b|allow_pickle=True|trust_remote_code"
        r"|\beval\(|\bexec\(|joblib|dill"
    )
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in SOURCES.rglob("*.py")
        if path
        != SOURCES
        / "tour"
        / "session.py"  # it runs the lines of the tour's own pages, to show what they give
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(line)
        and not re.search(r"\.eval\(|trust_remote_code\W*(`|:|\.|,)|#", line)
    ]
    assert found == []


@pytest.mark.parametrize("reader", READERS)
def test_random_damage_gets_one_line_too(specimens: Path, reader: str) -> None:
    """A second's worth; `python benchmarks/fuzz_readers.py --minutes 10` is the long one."""
    fuzz(specimens / reader, reader, seed=0, cases=15 if reader.startswith("use_") else 60)


@pytest.mark.parametrize("way", ["../secret.jsonl", "data/../../secret.jsonl", "data/link.jsonl"])
def test_a_card_reads_no_file_outside_its_folder(tmp_path: Path, way: str) -> None:
    """A secret would be in the model that its reader then gives away."""
    (tmp_path / "secret.jsonl").write_text('{"text": "비밀"}\n')
    data = tmp_path / "stranger" / "data"
    data.mkdir(parents=True)
    (data / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    files = f"  data_files:\n  - split: train\n    path: {way}\n"
    (data.parent / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n{files}---\n")
    with pytest.raises(CorpusError) as error:
        prepare_corpus(str(data.parent), cache=tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert "outside it" in str(error.value) or "secret" not in str(error.value)


def test_a_config_that_is_no_ordinary_file_or_asks_for_too_much(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    (tmp_path / "large").write_bytes(b"#" * (2 << 20))
    for harm in ("a pipe", "/dev/zero", "large"):
        if harm == "a pipe":
            os.mkfifo(file)
        else:
            file.symlink_to(harm)
        with pytest.raises(SettingsError, match=r"config\.toml is (no regular file|larger than)"):
            read_toml(file)
        file.unlink()
    wrong = {
        "model.num_layers": 10**8,
        "machine.threads": 10**8,
        "training.eval_blocks": 10**12,
        "training.batch_size": 10**12,
        "sample.max_new_tokens": 10**12,
        "training.seed": 2**70,
    }
    for name, value in wrong.items():
        table, key = name.split(".")
        with pytest.raises(SettingsError, match=key):
            Recipe.from_tables({table: {key: value}})


def test_whole_specimens_are_read(specimens: Path) -> None:
    for name, reader in READERS.items():
        reader(specimens / name)
    assert np.load  # the one array reader there is, and never with objects
