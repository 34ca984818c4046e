"""Damage every file that semigpt reads, at random: a reader reads it or refuses it in one line.

    python benchmarks/fuzz_readers.py --minutes 10 [--sanitize] [--readers NAME …]

With `--sanitize` the C is compiled with GCC's sanitizers of addresses and undefined behaviour, and
what they find ends the process with their report.

Damage is of bytes (flipped, cut, doubled, put in), of JSON (a value anywhere replaced by one of a
wicked list), of tables (quotes and separators put in), of numbers in tensors, and of the sizes in
binary headers. What a reader takes is then used: text is encoded and generated, and a step of
training made. Digests are computed again where a stranger would. Anything but a SemigptError of
one line is a finding: it is printed with the seed that reproduces it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import hashlib
import json
import lzma
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from semigpt.corpus.library import quiet_datasets
from semigpt.corpus.sources import open_source
from semigpt.corpus.spec import parse_spec
from semigpt.dataset import open_dataset
from semigpt.errors import SemigptError, SettingsError, TokenizerError
from semigpt.generation.engine import generate_text
from semigpt.huggingface.folder import load_model, save_model
from semigpt.huggingface.open import open_run
from semigpt.models import build_model
from semigpt.models.memory import MemoryGPT
from semigpt.ngrams.counts import Counts
from semigpt.recipe import Recipe
from semigpt.restoring import progress_of, restore
from semigpt.run_folder import RunFolder
from semigpt.settings import read_toml
from semigpt.shards import ShardWriter
from semigpt.tokenizers import CharTokenizer, load_tokenizer, train_tokenizer
from semigpt.training.optimizer import Optimizer, OptimizerSettings
from semigpt.training.progress import Progress

# The writers of small files are the tests' own; last, because a test may bear a library's name.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from foreign_models import SHAPES, write_folder
from text_files import (
    DOCX_TEXT,
    EPUB_PARTS,
    HWPX_TEXT,
    KINDS,
    ODT_TEXT,
    hwp,
    hwp_section,
    ods_text,
    tarred,
    xlsx,
    zipped,
)

__all__ = ["READERS", "fuzz", "make_specimens"]


TEXT = "기상청은 24일 전국이 대체로 맑겠다고 밝혔다. 의사협회는 이날 서울에서 기자회견을 열었다."
SHAPE = {"context_length": 8, "width": 16, "num_layers": 1, "num_heads": 2}
BLOCK = torch.arange(16).view(2, 8)


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


def read_inside(folder: Path) -> None:
    """Read each document or archive whose parts, damaged as they are, are in a folder of its name.

    So damage gets behind the checksums of what packs them.
    """
    with tempfile.TemporaryDirectory() as packed:
        for parts in folder.iterdir():
            files = (path for path in parts.rglob("*") if path.is_file())
            contents = {str(path.relative_to(parts)): path.read_bytes() for path in files}
            file = Path(packed) / parts.name
            match parts.suffix:
                case ".hwp":
                    file.write_bytes(hwp(section=contents["Section0"]))
                case ".tar":
                    file.write_bytes(tarred(contents))
                case _:
                    file.write_bytes(zipped(contents))
        read_texts(Path(packed))


def use_model(folder: Path) -> None:
    model, tokenizer = open_run(folder)[1:]
    with contextlib.suppress(TokenizerError):  # a foreign one may not spell the text
        list(tokenizer.encode_documents([TEXT]))
    generate_text(model, tokenizer, TEXT[:9], max_new_tokens=3, seed=0)
    with torch.no_grad(), contextlib.suppress(SettingsError):
        model.token_losses(BLOCK % model.settings.vocab_size, BLOCK % model.settings.vocab_size)


def use_tokenizer(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    with contextlib.suppress(TokenizerError):  # a plain one has not every character
        list(tokenizer.encode_documents([TEXT, TEXT * 9, "\0\u2581\ud800" + TEXT[::-1]]))
    tokenizer.decode(range(tokenizer.vocab_size))


def use_checkpoint(folder: Path) -> None:
    seal_checkpoint(folder)
    checkpoint = RunFolder(folder).newest()
    assert checkpoint is not None
    model = build_model("gpt", 64, SHAPE)
    optimizer = Optimizer(model, OptimizerSettings())
    try:
        progress_of(checkpoint)
        restore(model, optimizer, checkpoint)
    except (LookupError, TypeError, ValueError, RuntimeError):
        return  # what `TrainingRun` says in one line
    model(BLOCK, BLOCK)[1].backward()
    optimizer.step(0.5)


def seal_checkpoint(folder: Path) -> None:
    """Write the manifest that a stranger would, with the digests of what is there."""
    for checkpoint in folder.glob("checkpoints/step-*"):
        files = (path for path in checkpoint.iterdir() if path.name != "manifest.json")
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        (checkpoint / "manifest.json").write_text(json.dumps(digests))


READERS: dict[str, Callable[[Path], object]] = {
    "load_model": load_model,
    "load_tokenizer": load_tokenizer,
    "use_model": use_model,
    "use_memory": use_model,
    "use_char_tokenizer": use_tokenizer,
    "use_jamo_tokenizer": use_tokenizer,
    "use_bpe_tokenizer": use_tokenizer,
    "use_char_bpe_tokenizer": use_tokenizer,
    "use_unigram_tokenizer": use_tokenizer,
    "use_checkpoint": use_checkpoint,
    "newest": read_checkpoint,
    "open_dataset": open_dataset,
    "read_folder": read_texts,
    "read_tables": read_texts,
    "read_kinds": read_texts,
    "read_inside": read_inside,
    "use_pdf": read_texts,  # each in a process of its own
    **{f"use_{name}": use_model for name in SHAPES},
    "read_toml": lambda folder: Recipe.from_tables(read_toml(folder / "config.toml")),
}
SIGNS = ['"', '""', ",", ";", "\t", "|", "\n", "\r", "\\", '\\"', "\0", "\ufeff", "sep=;\n", "'"]
WICKED: list[Any] = [
    None, True, 0, -1, 1.5, float("inf"), 2**31, 2**63, 2**70, 10**400, "", "\x00",
    "../../etc/passwd", "가" * 5000, [], {}, [[[]]], [None], {"": None}, "NaN", "F32", "O",
]  # fmt: skip


def make_specimens(place: Path, readers: Collection[str] = READERS.keys()) -> Path:
    """A small valid folder for each reader, which those of `readers` have read."""
    tokenizer = CharTokenizer(TEXT)
    for name in ("load_model", "load_tokenizer"):
        save_model(place / name, build_model("gpt", tokenizer.vocab_size, SHAPE), tokenizer, "card")
    make_used(place)
    run = RunFolder.create(place / "newest", {"data": {"spec": "news"}})
    run.unlock()
    tensors = {group: {"x": torch.ones(20)} for group in ("model", "optimizer")}
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
    make_kinds(place)
    for name in SHAPES:
        write_folder(name, place / f"use_{name}")
    (place / "read_toml").mkdir()
    (place / "read_toml" / "config.toml").write_text(
        '[data]\nspec = "news"\n\n[model]\nkind = "gpt"\nwidth = 64\n\n'
        '[training]\nsteps = 10\nsave_every = "2m"\n'
        "[optimizer]\nbetas = [0.9, 0.95]\nlearning_rate = 1e-3\n"
    )
    for name in readers:  # whole; and what is compiled, is
        READERS[name](place / name)
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


def make_kinds(place: Path) -> None:
    """Files of the kinds whose text is inside something; and what is packed in some, by name."""
    for name, (content, _) in KINDS.items():
        folder = place / ("use_pdf" if name == "a.pdf" else "read_kinds")
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    folder = place / "read_kinds"
    chat = {"messages": [{"role": "user", "content": "질문"}, {"role": "bot", "content": "답"}]}
    squad = {"data": [{"paragraphs": [{"context": "글 하나"}, {"context": "글 둘"}]}]}
    task = {"instruction": "요약하라", "input": "긴 글", "output": "짧은 글"}
    for name, value in {"b.json": [chat, chat], "c.json": squad, "d.json": {"a": [task]}}.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    sheets = {"가": [["번호", "질문", "답변"], ["1", "하나?", "둘"], ["2", "셋?", "넷"]]}
    for name, book in {"j.xlsx": xlsx(sheets), "k.ods": ods_text(sheets)}.items():
        content = book if isinstance(book, bytes) else zipped({"content.xml": book})
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "j.xlsx") as workbook:
        parts_of_book = {name: workbook.read(name) for name in workbook.namelist()}
    asked = "Q,A,label\n" + "".join(f"질문 {i}?,답 {i},{i}\n" for i in range(20))
    (folder / "l.csv").write_text(asked, encoding="utf-8")
    packed: dict[str, bytes | str] = {"a.txt": "글", "b.jsonl": json.dumps({"text": "둘"})}
    (folder / "e.zip").write_bytes(zipped({**packed, "f.zip": zipped(packed)}))
    (folder / "g.tgz").write_bytes(gzip.compress(tarred({"a.srt": KINDS["a.srt"][0]})))
    (folder / "h.txt.xz").write_bytes(lzma.compress(TEXT.encode("cp949")))
    (folder / "i.txt.bz2").write_bytes(bz2.compress(TEXT.encode()))
    section = {"Contents/section0.xml": HWPX_TEXT, "META-INF/manifest.xml": "<manifest/>"}
    for name, parts in {
        "a.docx": {"word/document.xml": DOCX_TEXT},
        "b.hwpx": section,
        "c.epub": EPUB_PARTS,
        "d.hwp": {"Section0": hwp_section()},
        "e.zip": packed,
        "f.tar": packed,
        "g.xlsx": parts_of_book,
        "h.ods": {"content.xml": ods_text(sheets)},
        "i.odt": {"content.xml": ODT_TEXT},
    }.items():
        for part, content in parts.items():
            file = place / "read_inside" / name / part
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)


def make_used(place: Path) -> None:
    """Folders without digests, as other programs save them, whose every file is taken as it is."""
    tokenizer = CharTokenizer.plain(TEXT)
    size = tokenizer.vocab_size
    memory = build_model("memory", size, SHAPE | {"width": 64, "memory_order": 3, "ngram_top_k": 4})
    assert isinstance(memory, MemoryGPT)
    memory.set_counts(Counts.fit(tokenizer.encode(TEXT * 3), size, 3))
    for name, model in (("use_model", build_model("gpt", size, SHAPE)), ("use_memory", memory)):
        save_model(place / name, model, tokenizer, "card")
        weights = place / name / "model.safetensors"
        save_file(load_file(weights), weights)
    for kind in ("char", "jamo", "bpe", "char_bpe", "unigram"):
        folder = place / f"use_{kind}_tokenizer"
        train_tokenizer(kind, [TEXT] * 3, vocab_size=360).save(folder)
        (folder / "tokenizer_config.json").unlink()
    run = RunFolder.create(place / "use_checkpoint", {"data": {"spec": "news"}})
    run.unlock()
    model = build_model("gpt", 64, SHAPE)
    optimizer = Optimizer(model, OptimizerSettings())
    model(BLOCK, BLOCK)[1].backward()
    optimizer.step(0.5)
    tensors = {
        "model": {name: p.detach() for name, p in model.named_parameters()},
        "optimizer": optimizer.state(),
    }
    run.save(tensors, {"progress": asdict(Progress(step=1))}, step=1, keep=2)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The file's bytes with one kind of damage."""
    kind = draw.randrange(8)
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
        case 4:
            return content[:at] + draw.randbytes(draw.randrange(1, 50)) + content[at:]
        case 5 if len(content) > 400:
            # A tensor's numbers, of which the first are far behind the header.
            number = struct.pack("<f", draw.choice((math.nan, math.inf, -1e38, 1e38, 0.0)))
            number = draw.choice((number, struct.pack("<i", draw.choice((-1, 2**31 - 1, 300)))))
            at = (200 + draw.randrange(len(content) - 200)) // 4 * 4
            return content[:at] + number + content[at + 4 :]
        case 6:
            signs = draw.choices(SIGNS, k=draw.randrange(1, 4))
            return content[:at] + "".join(signs).encode() + content[at:]
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
        start = seconds_of_cpu()
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
        taken = seconds_of_cpu() - start
        assert taken < 10, f"{reader}, case {case}: {file.name} took {taken:.0f} s"


def seconds_of_cpu() -> float:
    """Of this process and those that it has waited for."""
    return sum(os.times()[:4])


def sanitized() -> None:
    """Begin again with a compiler that adds sanitizers, and with their library loaded first."""
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if os.environ.get("LD_PRELOAD") == library:
        return
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "CC": "gcc -fsanitize=address,undefined -fno-sanitize-recover=undefined -g",
    }
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=READERS)
    parser.add_argument("--sanitize", action="store_true")
    options = parser.parse_args()
    if options.sanitize:
        sanitized()
    # The process that reads a PDF has less address space than a sanitizer takes.
    readers = options.readers or [
        name for name in READERS if not (options.sanitize and name == "use_pdf")
    ]
    torch.set_num_threads(1)
    findings, done, seed = 0, 0, options.seed
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as place:
        specimens = make_specimens(Path(place), readers)
        while time.monotonic() < end:
            for reader in readers:
                try:
                    fuzz(specimens / reader, reader, seed=seed, cases=25)
                except AssertionError as error:
                    findings += 1
                    print(error)
                done += 25
            seed += 25
    print(
        f"{done:,} cases in {options.minutes:g} minutes over {', '.join(readers)}: "
        f"{findings} findings"
    )
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
