"""Damage every file that semigpt reads, at random: a reader reads it or refuses it in one line.

    python benchmarks/fuzz_readers.py --minutes 10

Damage is of bytes (flipped, cut, doubled, put in), of JSON (a value anywhere replaced by one of a
wicked list), of tables (quotes and separators put in) and of the sizes in binary headers. Anything
but a SemigptError of one line is a finding: it is printed with the seed that reproduces it, and the
exit code is 1.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semigpt.corpus.library import quiet_datasets
from semigpt.corpus.sources import open_source
from semigpt.corpus.spec import parse_spec
from semigpt.dataset import open_dataset
from semigpt.errors import SemigptError
from semigpt.huggingface.folder import load_model, save_model
from semigpt.models import build_model
from semigpt.recipe import Recipe
from semigpt.run_folder import RunFolder
from semigpt.settings import read_toml
from semigpt.shards import ShardWriter
from semigpt.tokenizers import CharTokenizer, load_tokenizer

__all__ = ["READERS", "fuzz", "make_specimens"]


def read_checkpoint(folder: Path) -> None:
    run = RunFolder(folder)
    run.newest()
    run.rows("metrics")
    run.metadata()


def read_texts(folder: Path) -> None:
    """Read all documents of a folder, its files damaged as they are."""
    with tempfile.TemporaryDirectory() as scratch, quiet_datasets():
        reading = open_source(parse_spec(str(folder)), None, Path(scratch))
        for documents in reading.splits.values():
            assert all(isinstance(text, str) for text, _ in documents())
        reading.sentences()


READERS: dict[str, Callable[[Path], object]] = {
    "load_model": load_model,
    "load_tokenizer": load_tokenizer,
    "newest": read_checkpoint,
    "open_dataset": open_dataset,
    "read_folder": read_texts,
    "read_tables": read_texts,
    "read_toml": lambda folder: Recipe.from_tables(read_toml(folder / "config.toml")),
}
SIGNS = ['"', '""', ",", ";", "\t", "|", "\n", "\r", "\\", '\\"', "\0", "\ufeff", "sep=;\n", "'"]
WICKED: list[Any] = [
    None, True, 0, -1, 1.5, float("inf"), 2**31, 2**63, 2**70, 10**400, "", "\x00",
    "../../etc/passwd", "가" * 5000, [], {}, [[[]]], [None], {"": None}, "NaN", "F32", "O",
]  # fmt: skip


def make_specimens(place: Path) -> Path:
    """A small valid folder for each reader."""
    text = (
        "기상청은 24일 전국이 대체로 맑겠다고 밝혔다. 의사협회는 이날 서울에서 기자회견을 열었다."
    )
    tokenizer = CharTokenizer(text)
    shape = {"context_length": 8, "width": 16, "num_layers": 1, "num_heads": 2}
    for name in ("load_model", "load_tokenizer"):
        (place / name).mkdir()
        save_model(place / name, build_model("gpt", tokenizer.vocab_size, shape), tokenizer, "card")
    run = RunFolder.create(place / "newest", {"data": {"spec": "news"}})
    run.unlock()
    tensors = {group: {"x": torch.ones(20)} for group in ("model", "optimizer", "random")}
    for step in (1, 2):
        run.append("metrics", {"step": step, "loss": 1.0})
        run.write_metadata({"baselines": {"uniform": 3.0}})
        run.save(tensors, {"progress": {"step": step}}, step=step, keep=2)
    data = place / "open_dataset"
    data.mkdir()
    dtype = np.dtype(np.uint16)
    with ShardWriter(data, "train", dtype, tokens_per_shard=200) as writer:
        for _ in range(3):
            writer.add(np.arange(100, dtype=dtype))
        entry = writer.finish()
    manifest = {
        "format": 1, "vocab_size": 100, "dtype": "uint16", "corpus": "c", "tokenizer": "t",
        "splits": {"train": entry},
    }  # fmt: skip
    (data / "manifest.json").write_text(json.dumps(manifest))
    make_texts(place)
    (place / "read_toml").mkdir()
    (place / "read_toml" / "config.toml").write_text(
        '[data]\nspec = "news"\n\n[model]\nkind = "gpt"\nwidth = 64\n\n'
        '[training]\nsteps = 10\nsave_every = "2m"\n'
        "[optimizer]\nbetas = [0.9, 0.95]\nlearning_rate = 1e-3\n"
    )
    return place


def make_texts(place: Path) -> None:
    """A folder of tables in their dialects, and one of every kind of text."""
    tables, folder = place / "read_tables", place / "read_folder"
    tables.mkdir()
    numbers = range(20)
    cells = [f'"{i}번째 ""글"", 쉼표\n둘째 줄"' if i % 3 else f"{i}번째 글" for i in numbers]
    stray = ['"별로' if i == 9 else f"리뷰 {i}" for i in numbers]
    contents = {
        "a.csv": "id,text\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)),
        "b.csv": "번호;text\r\n" + "".join(f"{i};글 {i}, 쉼표\r\n" for i in numbers),
        "c.tsv": "id\ttext\tlabel\n" + "".join(f"{i}\t{cell}\t1\n" for i, cell in enumerate(stray)),
        "d.csv": "sep=,\ntext,n\n" + "".join(f"글 {i},{i},\n" for i in numbers),
    }  # fmt: skip
    for name, content in contents.items():
        (tables / name).write_text(content, encoding="utf-8", newline="")
    (tables / "e.csv").write_text(contents["a.csv"], encoding="utf-16")
    (folder / "train").mkdir(parents=True)
    (folder / "test").mkdir()
    novel = "\n\n".join(f"{i}장.\n“네.”" for i in numbers)
    (folder / "train" / "소설.txt").write_text(novel, encoding="cp949")
    (folder / "train" / "a.csv.gz").write_bytes(gzip.compress(contents["a.csv"].encode()))
    lines = "".join(json.dumps({"text": f"글 {i}"}) + "\n" for i in numbers)
    (folder / "test" / "a.jsonl").write_text(lines, encoding="utf-8")
    (folder / "표지.png").write_bytes(b"\x89PNG\r\n")


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The file's bytes with one kind of damage."""
    kind = draw.randrange(7)
    if kind == 0:
        try:
            value = json.loads(content)
        except ValueError:
            kind = 1
        else:
            return json.dumps(_replaced(value, draw)).encode("utf-8", "surrogatepass")
    at = draw.randrange(len(content) + 1)
    match kind:
        case 1:
            changed = bytearray(content)
            for _ in range(draw.choice((1, 2, 8))):
                if changed:
                    changed[draw.randrange(len(changed))] = draw.randrange(256)
            return bytes(changed)
        case 2:
            return content[:at]
        case 3:
            return content[:at] + content[draw.randrange(len(content) + 1) :]
        case 6:
            signs = draw.choices(SIGNS, k=draw.randrange(1, 4))
            return content[:at] + "".join(signs).encode() + content[at:]
        case 4:
            return content[:at] + draw.randbytes(draw.randrange(1, 50)) + content[at:]
        case _:
            # Binary files hold sizes in their first bytes.
            size = draw.choice((0, 1, 8, 100, 2**31, 2**40, 2**63, 2**64 - 1)).to_bytes(8, "little")
            return size + content[8:]


def _replaced(value: Any, draw: random.Random) -> Any:
    """The JSON value with one of its parts, at any depth, replaced, dropped or renamed."""
    if not isinstance(value, (dict, list)) or not value or draw.random() < 0.2:
        return draw.choice(WICKED)
    if isinstance(value, list):
        at = draw.randrange(len(value))
        return [*value[:at], _replaced(value[at], draw), *value[at + 1 :]]
    key = draw.choice(list(value))
    match draw.randrange(6):
        case 0:
            return {k: v for k, v in value.items() if k != key}
        case 1:
            return {(k + "x" if k == key else k): v for k, v in value.items()}
        case _:
            return {**value, key: _replaced(value[key], draw)}


def fuzz(folder: Path, reader: str, *, seed: int, cases: int) -> None:
    """Damage one file at a time, `cases` times; AssertionError for a finding."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    for case in range(seed, seed + cases):
        draw = random.Random(case)
        file = draw.choice(files)
        content = file.read_bytes()
        file.write_bytes(damaged(content, draw))
        start = time.monotonic()
        try:
            READERS[reader](folder)
        except SemigptError as error:
            if "\n" in str(error):
                raise AssertionError(
                    f"{reader}, case {case}: more than one line for {file.name}"
                ) from error
        except Exception as error:
            raise AssertionError(
                f"{reader}, case {case}, {file.name}: {type(error).__name__}: {error}"
            ) from error
        finally:
            file.write_bytes(content)
        assert time.monotonic() - start < 10, f"{reader}, case {case}: {file.name} took too long"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    findings, done, seed = 0, 0, options.seed
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as place:
        specimens = make_specimens(Path(place))
        while time.monotonic() < end:
            for reader in READERS:
                try:
                    fuzz(specimens / reader, reader, seed=seed, cases=25)
                except AssertionError as error:
                    findings += 1
                    print(error)
                done += 25
            seed += 25
    print(
        f"{done:,} cases in {options.minutes:g} minutes over {', '.join(READERS)}: "
        f"{findings} findings"
    )
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
