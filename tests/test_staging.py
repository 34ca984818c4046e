"""A corpus on disk: what is in it, how it is split, and that it is whole or not there."""

import gzip
import hashlib
import json
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import semigpt.corpus
from semigpt import storage
from semigpt.corpus import Corpus, StagingProgress, open_corpus, prepare_corpus, stage
from semigpt.corpus.duplicates import Seen
from semigpt.corpus.reading import Reading
from semigpt.corpus.splits import plan_splits
from semigpt.corpus.text import normalize, scan_text
from semigpt.errors import CorpusError

LINES = [f"{i}번째 문장, 오늘의 값은 {i * i % 97}." for i in range(2000)]


def write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def corpus(tmp_path: Path, cache: Path) -> Corpus:
    return prepare_corpus(str(write(tmp_path / "a.jsonl", LINES)), cache=cache)


def files_of(corpus: Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in corpus.folder.iterdir()}


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "corpora").iterdir())


def resumable(cache: Path) -> Path:
    """The one folder that a stopped staging has left."""
    (folder,) = (path for path in (cache / "corpora").glob(".semigpt-*") if path.is_dir())
    return folder


# --- what is in it


def test_every_view_of_a_split_agrees(corpus: Corpus) -> None:
    assert corpus.splits == ("train", "validation", "test")
    for split in corpus.splits:
        texts = list(corpus.documents(split))
        assert "".join(texts) == corpus.text(split)
        assert corpus.path(split).read_text(encoding="utf-8") == corpus.text(split)
        assert corpus.document_count(split) == len(texts)
        assert corpus.characters(split) == len(corpus.text(split))
        assert (
            corpus.bytes_of(split)
            == len(corpus.text(split).encode())
            == corpus.document_ends(split)[-1]
        )
        assert corpus.source_bits(split) is None
    assert corpus.character_counts == Counter(corpus.text("train"))
    assert list(corpus.character_counts) == sorted(corpus.character_counts)
    corpus.verify()


def test_a_split_that_is_not_there_is_named(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="no split 'dev': its splits are train, validation, test"):
        corpus.text("dev")


def test_equal_text_has_an_equal_fingerprint_wherever_it_came_from(
    tmp_path: Path, corpus: Corpus
) -> None:
    pq.write_table(pa.table({"본문": LINES}), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("\n".join(LINES), encoding="cp949")
    for name in ("b.parquet", "c.txt"):
        assert prepare_corpus(str(tmp_path / name)).fingerprint == corpus.fingerprint
    other = write(tmp_path / "d.jsonl", [*LINES, "한 문장 더."])
    assert prepare_corpus(str(other)).fingerprint != corpus.fingerprint


def test_progress_is_told_and_ends_with_all_of_it(tmp_path: Path, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    path = write(tmp_path / "a.jsonl", [f"{i} " + "가나다 " * 100_000 for i in range(12)] + LINES)
    corpus = prepare_corpus(str(path), cache=cache, progress=lambda *so_far: told.append(so_far))
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == tuple(
        sum(of(split) for split in corpus.splits)
        for of in (corpus.document_count, corpus.characters)
    )


# --- splits


def test_documents_are_split_by_a_hash_of_their_text(
    tmp_path: Path, cache: Path, corpus: Corpus
) -> None:
    of = {text: split for split in corpus.splits for text in corpus.documents(split)}
    assert sorted(of) == sorted(LINES)
    sizes = Counter(of.values())
    for split, share in {"train": 0.9, "validation": 0.05, "test": 0.05}.items():
        sigma = (2000 * share * (1 - share)) ** 0.5
        assert abs(sizes[split] - 2000 * share) < 5 * sigma
    # Shuffled and among others, a text falls into the split it always falls into.
    again = prepare_corpus(str(write(tmp_path / "b.jsonl", ["새 글", *LINES[::-1]])), cache=cache)
    assert all(
        of[text] == split
        for split in again.splits
        for text in again.documents(split)
        if text != "새 글"
    )


def test_where_a_digest_falls() -> None:
    """Equal text always falls into the same split, so these borders never move."""
    plan = plan_splits(["train"], None)
    borders = {0.0: "train", 0.9: "validation", 0.95: "test"}
    for border, split in borders.items():
        assert plan.split_of("train", math.ceil(border * 2**64)) == split
        assert border == 0 or plan.split_of("train", int(border * 2**64) - 2048) != split
    assert plan.split_of("train", 2**64 - 1) == "test"
    assert plan_splits(["train", "test"], None).split_of("train", 2**64 - 1) == "train"
    assert plan_splits(["train", "test"], None).split_of("test", 0) == "test"
    assert plan_splits([""], 0.9).split_of("", 2**64 - 1) == "train"


def test_only_what_is_missing_is_carved_out_of_train(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "a" / "train.jsonl", LINES)
    write(tmp_path / "a" / "test.jsonl", ["시험 문장."])
    corpus = prepare_corpus(str(tmp_path / "a"), cache=cache)
    assert list(corpus.documents("test")) == ["시험 문장."]
    assert 50 < corpus.document_count("validation") < 150
    assert corpus.document_count("train") + corpus.document_count("validation") == 2000
    assert corpus.split_rule == "own + document"


def test_held_out_documents_are_kept_and_left_out_of_train(tmp_path: Path, cache: Path) -> None:
    splits = {
        "train": ["가", "나", "나", "다", "라", ""],
        "validation": ["다", "마", "마"],
        "test": ["라", "다", " "],
    }
    for split, texts in splits.items():
        write(tmp_path / "a" / f"{split}.jsonl", texts)
    corpus = prepare_corpus(str(tmp_path / "a"), cache=cache)
    assert list(corpus.documents("test")) == ["라", "다"]
    assert list(corpus.documents("validation")) == ["마"]
    assert list(corpus.documents("train")) == ["가", "나"]
    assert (corpus.duplicates, corpus.empties) == (5, 2)
    assert "5 documents left out: the same text came before" in corpus.findings


def test_a_byte_order_mark_is_left_out(tmp_path: Path, cache: Path) -> None:
    texts = ["\ufeff가", "\ufeff\ufeff나", "\ufeff", "다\ufeff라", *LINES]
    corpus = prepare_corpus(str(write(tmp_path / "a.jsonl", texts)), cache=cache)
    documents = list(chain.from_iterable(map(corpus.documents, corpus.splits)))
    assert sorted(documents) == sorted(["가", "나", "다\ufeff라", *LINES])
    assert "3 documents began with a byte order mark, now left out" in corpus.findings


@pytest.mark.parametrize(
    "texts", [LINES, ["한 문서뿐인 소설. " * 400_000], ["가나다라마", "바사아자차"]]
)
def test_offset_cuts_by_character_as_the_book_does(
    tmp_path: Path, cache: Path, texts: list[str]
) -> None:
    corpus = prepare_corpus(
        str(write(tmp_path / "a.jsonl", texts)), cache=cache, split="offset:0.9"
    )
    whole = "".join(texts)
    cut = int(0.9 * len(whole))
    assert corpus.text("train") == whole[:cut]
    assert corpus.text("validation") == corpus.text("test") == whole[cut:]
    assert "".join(corpus.documents("train")) == whole[:cut]
    assert "".join(corpus.documents("test")) == whole[cut:]
    assert corpus.characters("train") == cut
    assert corpus.character_counts == Counter(whole[:cut])
    corpus.verify()


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 7, 64])
def test_a_cut_does_not_depend_on_where_chunks_end(
    tmp_path: Path, cache: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semigpt.corpus.splits.CHUNK_BYTES", chunk)
    texts = ["가나a다\U0001f600라마\ud800", "é바사아", "자차카타"]
    path = str(write(tmp_path / "a.jsonl", texts))
    whole = "".join(texts)
    for tenth in range(1, 10):
        corpus = prepare_corpus(path, cache=cache, split=f"offset:0.{tenth}")
        cut = int(tenth / 10 * len(whole))
        assert (corpus.text("train"), corpus.text("test")) == (whole[:cut], whole[cut:])
        assert corpus.character_counts == Counter(whole[:cut])


def test_a_cut_between_two_documents_cuts_neither(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.jsonl", ["가나", "다라마", "바사아자차"])
    for split, kept, held_out in (
        ("offset:0.5", ["가나", "다라마"], ["바사아자차"]),
        ("offset:0.4", ["가나", "다라"], ["마", "바사아자차"]),
    ):
        corpus = prepare_corpus(str(path), cache=cache, split=split)
        assert list(corpus.documents("train")) == kept
        assert list(corpus.documents("test")) == held_out


def test_an_own_split_without_text_is_named(tmp_path: Path, cache: Path) -> None:
    for split, texts in {"train": LINES, "validation": LINES[:9], "test": [" "]}.items():
        write(tmp_path / "a" / f"{split}.jsonl", texts)
    with pytest.raises(CorpusError, match="no text in its test split: cut train instead, with"):
        prepare_corpus(str(tmp_path / "a"), cache=cache)


@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_too_few_documents_are_cut_by_character(
    tmp_path: Path, cache: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the journal of the first reading, by document, is on the disk."""
    monkeypatch.setattr(storage, "JOURNAL_SECONDS", seconds)
    corpus = prepare_corpus(str(write(tmp_path / "a.jsonl", LINES[:3])), cache=cache)
    assert corpus.split_rule == "offset:0.9"
    assert corpus.text("train") + corpus.text("test") == "".join(LINES[:3])
    assert any(
        finding.startswith("3 documents cannot be split by document") for finding in corpus.findings
    )
    expected = {
        "manifest.json",
        "train.txt",
        "train.ends.npy",
        "validation.txt",
        "validation.ends.npy",
    }
    assert {path.name for path in corpus.folder.iterdir()} == expected


@pytest.mark.parametrize(
    "rule", ["offset", "offset:0", "offset:1", "offset:1.5", "offset:nan", "random"]
)
def test_a_split_rule_that_cannot_be_is_refused(tmp_path: Path, cache: Path, rule: str) -> None:
    with pytest.raises(CorpusError, match=f"--split {rule}: neither auto nor offset:F"):
        prepare_corpus(str(write(tmp_path / "a.jsonl", LINES)), cache=cache, split=rule)


# --- the bundled corpus


@pytest.fixture
def small_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """News of one sentence: what is tested is the staging and not the grammar."""

    def rows(split: str, *, articles: int, seed: int, first: int = 0) -> Iterator[SimpleNamespace]:
        for i in range(first, articles):
            document = f"{split} {seed}-{i}호 기사입니다."
            yield SimpleNamespace(
                document=document, title=f"{split} 제목 {i}", information=float(i)
            )

    small = SimpleNamespace(
        rows=rows,
        SPLITS=("train", "validation", "test"),
        COLUMNS=("title", "document"),
        DEFAULT_ARTICLES=5,
        fingerprint=lambda: "one sentence",
    )
    monkeypatch.setattr(semigpt.corpus, "news", small, raising=False)


@pytest.mark.usefixtures("small_news")
def test_what_was_staged_before_is_found_again(cache: Path) -> None:
    """Where a key or a byte changes, every text is staged again and no run can be resumed."""
    corpus = prepare_corpus("news#articles=30,seed=7", cache=cache)
    assert corpus.folder.name == "news-31e3ff7cc000c6f3"
    fingerprint = "2f4a0b93b6bbae9d3eea06b0c8f29591260777649885bee147950cf5d000be72"
    assert corpus.fingerprint == fingerprint


@pytest.mark.usefixtures("small_news")
def test_the_information_of_the_bundled_corpus_is_summed(cache: Path) -> None:
    corpus = prepare_corpus("news#articles=4,seed=7", cache=cache)
    assert list(corpus.documents("test")) == [f"test 7-{i}호 기사입니다." for i in range(4)]
    assert [corpus.source_bits(split) for split in corpus.splits] == [6.0, 6.0, 6.0]
    assert prepare_corpus("news", cache=cache).source_bits("train") == 10.0
    titles = prepare_corpus("news", column="title", cache=cache)
    assert titles.text("test").startswith("test 제목 0")
    assert titles.source_bits("train") is None, "the grammar knows what documents weigh, not titles"
    cut = prepare_corpus("news", split="offset:0.5", cache=cache)
    assert cut.source_bits("train") is None, "a document cut in two has no information of its own"


@pytest.mark.usefixtures("small_news")
@pytest.mark.parametrize("document", ["\ufeff기사", "가\u0301나 기\u1100\u1161"])
def test_a_document_that_is_changed_has_unknown_information(
    cache: Path, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = semigpt.corpus.news.rows

    def one_changed(split: str, **arguments: int) -> Iterator[SimpleNamespace]:
        yield from rows(split, **arguments)
        if split == "train":
            yield SimpleNamespace(document=document, information=1.0)

    monkeypatch.setattr(semigpt.corpus.news, "rows", one_changed)
    corpus = prepare_corpus("news", cache=cache)
    assert [corpus.source_bits(split) for split in corpus.splits] == [None, 10.0, 10.0]


# --- once, whole, and found again


def test_it_is_staged_once_and_again_when_the_file_changes(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    first = prepare_corpus(str(path), cache=cache)
    born = first.path("train").stat().st_mtime_ns
    assert prepare_corpus(str(path), cache=cache) == first
    assert first.path("train").stat().st_mtime_ns == born
    refreshed = prepare_corpus(str(path), cache=cache, refresh=True)
    assert refreshed == first
    assert refreshed.path("train").stat().st_mtime_ns > born
    write(path, LINES[:1000])
    assert prepare_corpus(str(path), cache=cache).folder != first.folder
    assert len(folders(cache)) == 2
    assert prepare_corpus(str(path), cache=cache, split="offset:0.8").split_rule == "offset:0.8"


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write(tmp_path / "a.jsonl", LINES))
    monkeypatch.setenv("SEMIGPT_CACHE", str(tmp_path / "own"))
    assert prepare_corpus(path).folder.parent == tmp_path / "own" / "corpora"
    monkeypatch.delenv("SEMIGPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert prepare_corpus(path).folder.parent == tmp_path / "shared" / "semigpt" / "corpora"


def test_a_changed_or_cut_file_is_refused_by_its_name(corpus: Corpus) -> None:
    for path in sorted(corpus.folder.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(CorpusError, match=f"{path.name}: .*delete .* prepared again"):
            open_corpus(corpus.folder)
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorpusError, match=f"{path.name}: it has changed since it was written"):
            open_corpus(corpus.folder).verify()
        path.unlink()
        with pytest.raises(CorpusError, match=f"{path.name}: .*delete .* prepared again"):
            open_corpus(corpus.folder)
        path.write_bytes(whole)
    open_corpus(corpus.folder).verify()


def test_a_changed_file_that_was_not_verified_is_no_traceback(corpus: Corpus) -> None:
    errors: list[CorpusError] = []
    for path in (corpus.path("test"), corpus.folder / "test.ends.npy"):
        whole = path.read_bytes()
        for place in range(0, len(whole), 23):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
            try:
                list(corpus.documents("test"))
                corpus.text("test")
            except CorpusError as error:
                errors.append(error)
        path.write_bytes(whole)
    assert len(errors) > 50
    assert all("/test." in str(error) for error in errors)


def test_a_failure_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    with path.open("a", encoding="utf-8") as file:
        file.write("{\n")
    with pytest.raises(CorpusError, match="line 2001: not JSON"):
        prepare_corpus(str(path), cache=cache)
    assert folders(cache) == []


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        CorpusError, match=r"cannot be staged there \(.*\): free some space, or name another"
    ):
        prepare_corpus(str(path), cache=tmp_path / "file")


PREPARE = r"""
import re, resource, sys
from pathlib import Path
from semigpt.corpus import prepare_corpus
from semigpt.errors import CorpusError
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    corpus = prepare_corpus(sys.argv[1], cache=Path(sys.argv[2]))
    print(corpus.fingerprint)
except CorpusError as error:
    print(error)
# Not getrusage's ru_maxrss: before exec the process was pytest, whose memory would count.
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) // 1024, "torch" in sys.modules)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, cache: Path, encoding: str
) -> None:
    """A limit on the size of a file stands in for the disk: a write fails half done."""
    path = tmp_path / "a.txt"
    path.write_text("\n".join(LINES * 20), encoding=encoding)
    command = [sys.executable, "-c", PREPARE, str(path), str(cache), "20000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "the corpus cannot be staged there (File too large)" in done.stdout.splitlines()[0]
    assert folders(cache) == []


def test_processes_at_once_make_one_whole_corpus(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    command = [sys.executable, "-c", PREPARE, str(path), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    fingerprints = {process.communicate(timeout=60)[0].split()[0] for process in running}
    corpus = prepare_corpus(str(path), cache=cache)
    corpus.verify()
    assert fingerprints == {corpus.fingerprint}
    assert folders(cache) == [corpus.folder.name]


def test_a_folder_is_never_seen_with_a_lock_that_nobody_holds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may sweep at any moment, also before this one holds its lock."""
    corpora = cache / "corpora"
    lock = storage.try_lock

    def sweep_first(file: IO[bytes]) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "try_lock", lock)
            storage._sweep(corpora)
        return lock(file)

    monkeypatch.setattr(storage, "try_lock", sweep_first)
    with storage.resumable_folder(corpora) as temporary:
        assert temporary.is_dir()
        monkeypatch.setattr(storage, "try_lock", lock)
        storage._sweep(corpora)
        assert temporary.is_dir()
    assert folders(cache) == []


def test_what_a_killed_process_left_is_swept_and_a_living_one_is_let_be(
    tmp_path: Path, cache: Path
) -> None:
    pipe = tmp_path / "b.txt"
    hold = (
        "import sys, time; from pathlib import Path; from semigpt.corpus import prepare_corpus;"
        "prepare_corpus(sys.argv[1], cache=Path(sys.argv[2]), progress=lambda *_: (print('in'), "
        "sys.stdout.flush(), time.sleep(60)))"
    )
    pipe.write_text("\n".join(LINES), encoding="utf-8")
    command = [sys.executable, "-c", hold, str(pipe), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        path = str(write(tmp_path / "a.jsonl", LINES))
        prepare_corpus(path, cache=cache)
        assert sum(name.endswith(".lock") for name in folders(cache)) == 1, "it is still at work"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert sum(name.endswith(".lock") for name in folders(cache)) == 1, "and could not clean up"
    prepare_corpus(path, cache=cache, split="offset:0.5")
    assert not any(name.endswith(".lock") for name in folders(cache))


# --- interrupted and resumed

MANY = [
    f"{i}번째 글. "
    + f"오늘의 값은 {i * i % 9973}, " * (i % 7)
    + ("가\u0301나" if i % 50 == 0 else "")
    for i in range(9000)
]
MANY += ["", " ", *MANY[100:200], "\ufeff머리표"]
MANY[5:5] = ["\ufeff첫 머리표", "", MANY[3]]  # every counter counts before a stop and after it


def as_txt(folder: Path) -> str:
    (folder / "a.txt").write_text(
        "\n".join(text for text in MANY if text.strip()), encoding="utf-8"
    )
    return str(folder / "a.txt")


def as_encoded_files(folder: Path) -> str:
    """Two files that have to be decoded or unpacked first, and one between them that is empty."""
    (folder / "b").mkdir()
    (folder / "b" / "1.txt").write_text("\n\n".join(LINES), encoding="cp949")
    (folder / "b" / "2.txt").write_bytes(b"")
    (folder / "b" / "3.jsonl.gz").write_bytes(
        gzip.compress(write(folder / "x.jsonl", MANY).read_bytes())
    )
    return str(folder / "b")


def as_jsonl(folder: Path) -> str:
    path = write(folder / "a.jsonl", MANY)
    path.write_text(
        "\n" + path.read_text(encoding="utf-8").replace("\n", "\n\n", 50), encoding="utf-8"
    )
    return str(path)


def as_parquet(folder: Path) -> str:
    pq.write_table(
        pa.table({"n": range(len(MANY)), "본문": MANY}), folder / "a.parquet", row_group_size=2000
    )
    return str(folder / "a.parquet")


def as_csv(folder: Path) -> str:
    rows = [f'{i},"{text}{chr(10) * (i % 3)}끝"' for i, text in enumerate(MANY)]
    (folder / "a.csv").write_text("\n".join(["id,text", *rows]), encoding="utf-8")
    return f"{folder / 'a.csv'}"


def as_own_splits(folder: Path) -> str:
    for split, texts in {
        "train": MANY,
        "validation": MANY[:300] + LINES,
        "test": LINES[::2],
    }.items():
        write(folder / "own" / f"{split}.jsonl", texts)
    return str(folder / "own")


KILL = r"""
import os, random, signal, sys, time
from pathlib import Path
import datasets, pandas, pyarrow.parquet
from semigpt import storage
from semigpt.corpus import prepare_corpus, writer
spec, cache, split, seed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
draw = random.Random(seed)
storage.JOURNAL_SECONDS = 0.01

def child(cache, wait=False):
    pid = os.fork()
    if not pid:
        if wait:
            write = writer.write_journal
            writer.write_journal = lambda *arguments: (write(*arguments), time.sleep(60))
        prepare_corpus(spec, cache=cache, split=split)
        os._exit(0)
    return pid

def kept():
    return any((cache / "killed" / "corpora").glob(".semigpt-*/journal/state.json"))

start = time.monotonic()
assert os.waitpid(child(cache / "whole"), 0)[1] == 0
whole = time.monotonic() - start
for kills in range(4):
    # The first one is killed as soon as there is something to resume: it waits there.
    pid = child(cache / "killed", wait=not kills)
    begun, wait = time.monotonic(), draw.uniform(0.05, 0.95) * whole
    while time.monotonic() - begun < wait if kills else not kept():
        assert time.monotonic() - begun < 60
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    if os.waitpid(pid, 0)[1] == 0:  # it came to its end before
        assert kills
        break
assert os.waitpid(child(cache / "killed"), 0)[1] == 0
"""


@pytest.mark.parametrize(
    ("make", "split"),
    [
        (make, "auto")
        for make in (as_txt, as_encoded_files, as_jsonl, as_parquet, as_csv, as_own_splits)
    ]
    + [(as_own_splits, "offset:0.9")],
)
def test_killed_and_run_again_it_ends_in_the_same_bytes(
    tmp_path: Path, make: Callable[[Path], str], split: str
) -> None:
    """SIGKILL at four moments, all but the first at random.

    The processes fork from one that has imported everything, so that it meets the staging.
    """
    spec, seed = make(tmp_path), random.randrange(1 << 30)
    command = [sys.executable, "-c", KILL, spec, str(tmp_path), split, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (seed, done.stderr)
    files = []
    for cache in ("whole", "killed"):
        # What was killed between its journal's end and its new name is swept later.
        (folder,) = (
            f
            for f in (tmp_path / cache / "corpora").iterdir()
            if not f.name.startswith(".semigpt-")
        )
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1], seed


STOP = r"""
import sys
from pathlib import Path
from semigpt.corpus import prepare_corpus, staging
staging.PROGRESS_CHARACTERS = 10_000

def tell(read, characters):
    if read >= int(sys.argv[3]):
        raise KeyboardInterrupt

try:
    prepare_corpus(sys.argv[1], cache=Path(sys.argv[2]), progress=tell)
except KeyboardInterrupt as stop:
    print(*stop.__notes__)
"""


def run(steps: Generator[StagingProgress, None, Corpus]) -> tuple[list[StagingProgress], Corpus]:
    """All that a staging reports, and the corpus it returns."""
    reported = []
    while True:
        try:
            reported.append(next(steps))
        except StopIteration as done:
            return reported, done.value


def stop_after(documents: int) -> Callable[[int, int], None]:
    def tell(read: int, characters: int) -> None:
        if read >= documents:
            raise KeyboardInterrupt

    return tell


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is reported, and a stop heeded, every ten thousand characters."""
    monkeypatch.setattr("semigpt.corpus.staging.PROGRESS_CHARACTERS", 10_000)
    monkeypatch.setattr("semigpt.corpus.splits.COUNTED_AT_ONCE", 10_000)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("how", ["closed", "interrupted", "dropped"])
@pytest.mark.parametrize("where", ["midway", "at the end"])
def test_a_stopped_generator_is_resumed_to_the_same_bytes(
    tmp_path: Path, cache: Path, how: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = as_own_splits(tmp_path)
    whole = prepare_corpus(spec, cache=tmp_path / "whole")
    written = sum(map(whole.document_count, whole.splits))
    steps = stage(spec, cache=cache)
    for step in steps:
        if step.documents > written // 2 if where == "midway" else step.fraction == 1.0:
            break
    match how:
        case "closed":
            steps.close()
        case "interrupted":
            with pytest.raises(KeyboardInterrupt) as caught:
                steps.throw(KeyboardInterrupt())
            note = "what was read is kept: the same command resumes from there"
            assert caught.value.__notes__ == [f"{spec}: {note}"]
            del caught
        case "dropped":
            del steps
    journal = json.loads((resumable(cache) / "journal" / "state.json").read_bytes())
    assert journal["counters"]["documents"] == step.documents
    normalized: list[str] = []
    monkeypatch.setattr(
        "semigpt.corpus.writer.normalize", lambda text: normalized.append(text) or normalize(text)
    )
    reported, corpus = run(stage(spec, cache=cache))
    assert reported[0].documents >= step.documents
    assert len(normalized) < (0.6 * len(MANY + LINES) if where == "midway" else 1)
    assert corpus == replace(whole, folder=corpus.folder)
    assert files_of(corpus) == files_of(whole)
    assert folders(cache) == [corpus.folder.name]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("error", [ValueError, OSError, CorpusError])
def test_another_error_at_a_stop_leaves_nothing(
    tmp_path: Path, cache: Path, error: type[Exception]
) -> None:
    steps = stage(str(write(tmp_path / "a.jsonl", LINES)), cache=cache)
    next(steps)
    with pytest.raises(CorpusError if error is OSError else error):
        steps.throw(error("of the caller"))
    assert folders(cache) == []


@pytest.mark.usefixtures("often")
def test_the_library_is_quiet_only_while_it_reads(tmp_path: Path, cache: Path) -> None:
    import datasets

    level = logging.getLogger("datasets").level
    before = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS, list(warnings.filters), level
    for _ in stage(str(write(tmp_path / "a.jsonl", LINES)), cache=cache):
        level = logging.getLogger("datasets").level
        assert (datasets.config.HF_UPDATE_DOWNLOAD_COUNTS, warnings.filters, level) == before


@pytest.mark.usefixtures("often")
def test_a_staged_corpus_reports_nothing(tmp_path: Path, cache: Path) -> None:
    path = str(write(tmp_path / "a.jsonl", LINES))
    reported, corpus = run(stage(path, cache=cache))
    assert len(reported) > 3
    assert run(stage(path, cache=cache)) == ([], corpus)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "make", [as_txt, as_encoded_files, as_jsonl, as_parquet, as_csv, as_own_splits]
)
def test_what_was_read_is_not_read_again(
    tmp_path: Path, cache: Path, make: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make(tmp_path)
    whole = prepare_corpus(spec, cache=tmp_path / "whole")
    kept = sum(map(whole.document_count, whole.splits))
    # In a process of its own: pandas leaves a half-read file open while the stop is remembered.
    command = [sys.executable, "-c", STOP, spec, str(cache), str(kept // 2)]
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert stopped.stdout == f"{spec}: what was read is kept: the same command resumes from there\n"
    assert [name for name in folders(cache) if not name.startswith(".semigpt-")] == []
    normalized: list[str] = []
    monkeypatch.setattr(
        "semigpt.corpus.writer.normalize", lambda text: normalized.append(text) or normalize(text)
    )
    scanned: list[str] = []
    monkeypatch.setattr(
        "semigpt.corpus.files.scan_text", lambda *file: scanned.append(file[1]) or scan_text(*file)
    )
    steps, corpus = run(stage(spec, cache=cache))
    assert not scanned, "the journal keeps the encoding of the file at hand"
    assert len(normalized) < 0.6 * len(MANY + LINES)
    assert steps[0].documents > kept // 2
    documents = [step.documents for step in steps]
    assert documents == sorted(documents)
    fractions = [step.fraction for step in steps if step.fraction is not None]
    assert len(fractions) == len(steps)
    assert fractions == sorted(fractions)
    assert 0.3 < fractions[0] < 0.8
    assert fractions[-2] > 0.95
    assert fractions[-1] == 1.0
    assert corpus == replace(whole, folder=corpus.folder)
    assert folders(cache) == [corpus.folder.name]


@pytest.mark.usefixtures("often", "small_news")
def test_the_bundled_corpus_is_resumed(cache: Path, tmp_path: Path) -> None:
    whole = prepare_corpus("news#articles=2000", cache=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus("news#articles=2000", cache=cache, progress=stop_after(4500))
    corpus = prepare_corpus("news#articles=2000", cache=cache)
    assert corpus == replace(whole, folder=corpus.folder)


@pytest.mark.usefixtures("often")
def test_what_is_staged_from_scratch(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)

    def is_resumed(*, refresh: bool = False) -> bool:
        reported, corpus = run(stage(str(path), cache=cache, refresh=refresh))
        assert set(chain.from_iterable(map(corpus.documents, corpus.splits))) >= set(LINES)
        shutil.rmtree(cache / "corpora")
        return reported[0].documents > 1000

    def stop() -> Path:
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus(str(path), cache=cache, progress=stop_after(1000))
        return resumable(cache)

    stop()
    assert is_resumed()
    stop()
    assert not is_resumed(refresh=True)
    stop()
    write(path, [*LINES, "한 문장 더."])
    assert not is_resumed(), "the file has changed"
    for damage in ("train.txt", "journal/train.ends", "journal/digests", "journal/state.json"):
        damaged = stop() / damage
        damaged.write_bytes(damaged.read_bytes()[:-9])
        assert not is_resumed(), damage
    for part in ("source", "splits", "counters"):
        state = stop() / "journal" / "state.json"
        journal = json.loads(state.read_bytes())
        journal[part].popitem()
        state.write_text(json.dumps(journal))
        assert not is_resumed(), f"its journal lacks something in {part}"


@pytest.mark.usefixtures("often")
def test_what_was_written_after_the_journal_is_cut_off(tmp_path: Path, cache: Path) -> None:
    path = str(write(tmp_path / "a.jsonl", LINES))
    whole = prepare_corpus(path, cache=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(path, cache=cache, progress=stop_after(1000))
    left = resumable(cache)
    for name in (
        "train.txt",
        "test.txt",
        "journal/digests",
        "journal/train.ends",
        "journal/test.ends",
    ):
        with (left / name).open("ab") as file:
            file.write(b"12345678 and some more")
    # Stopped once more, so that what is appended to these files is read again.
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(path, cache=cache, progress=stop_after(1500))
    told: list[int] = []
    corpus = prepare_corpus(path, cache=cache, progress=lambda documents, _: told.append(documents))
    assert told[0] > 1500
    corpus.verify()
    assert corpus == replace(whole, folder=corpus.folder)


@pytest.mark.usefixtures("often")
def test_two_at_once_do_not_wait_for_each_other(tmp_path: Path, cache: Path) -> None:
    """The second one comes while the first one holds what a third has left."""
    path = str(write(tmp_path / "a.jsonl", LINES))
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(path, cache=cache, progress=stop_after(1000))
    inner: list[Corpus] = []

    def second(documents: int, characters: int) -> None:
        if not inner:
            inner.append(prepare_corpus(path, cache=cache))
            inner[0].verify()

    assert prepare_corpus(path, cache=cache, progress=second) == inner[0]
    assert folders(cache) == [inner[0].folder.name]


@pytest.mark.usefixtures("often")
def test_what_nobody_resumes_is_swept_after_a_week(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(str(path), cache=cache, progress=stop_after(1000))
    left = resumable(cache)
    prepare_corpus(str(path), cache=cache, split="offset:0.5")
    assert left.is_dir()
    state = left / "journal" / "state.json"
    os.utime(state, (0, state.stat().st_mtime - 8 * 24 * 3600))
    prepare_corpus(str(path), cache=cache, split="offset:0.6")
    assert not left.exists()


@pytest.mark.usefixtures("often")
def test_a_hub_that_goes_away_leaves_what_was_read(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def opened(revision: str | None, fails_at: int) -> Reading:
        reading = Reading(column="text", revision=revision, is_hub=True)

        def documents(split: str) -> Iterator[tuple[str, None]]:
            read.append(reading.row)
            for text in LINES[reading.row : 80]:
                reading.row += 1
                if reading.row == fails_at:
                    raise CorpusError("hf:a/b: no connection")
                yield text, None

        reading.add_split("", documents)
        return reading

    monkeypatch.setattr(storage, "JOURNAL_SECONDS", 0.0)
    for revision, fails_at in (("one", 30), ("one", 60), ("two", 30), (None, 30), (None, 30)):
        monkeypatch.setattr(
            "semigpt.corpus.staging.open_source", lambda *_, r=revision, n=fails_at: opened(r, n)
        )
        with pytest.raises(CorpusError, match=r"no connection \(what was read is kept: the same"):
            prepare_corpus("hf:a/b", cache=cache)
    assert read == [0, 29, 0, 0, 0], "resumed at the same commit alone"


# --- memory


def test_digests_are_a_set() -> None:
    digests = np.random.default_rng(0).integers(0, 3000, 10_000, dtype=np.uint64)
    spread = [
        int.from_bytes(hashlib.blake2b(bytes(d), digest_size=8).digest()) for d in digests
    ] + [0, 0, 1]
    seen, reference = Seen(), set[int]()
    for digest in spread[:-1]:
        assert seen.add(digest) == (digest not in reference)
        reference.add(digest)
    assert not seen.add(1), "0 stands for a free slot, and is kept as 1"


def test_memory_does_not_grow_with_the_text(tmp_path: Path, cache: Path) -> None:
    """60 MB of text take less than 30 MB more than 3 MB of it, and torch is not imported."""
    draw = random.Random(0)
    words = ["".join(chr(draw.randrange(0xAC00, 0xD7A4)) for _ in range(3)) for _ in range(5000)]
    megabytes = []
    for name, documents in (("small", 1000), ("large", 20_000)):
        texts = [" ".join(draw.choices(words, k=300)) for _ in range(documents)]
        path = write(tmp_path / f"{name}.jsonl", texts)
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, str(path), str(cache)],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        _, peak, torch = done.stdout.split()
        assert torch == "False"
        megabytes.append(int(peak))
    assert path.stat().st_size > 60e6
    assert megabytes[1] - megabytes[0] < 30


def test_a_corpus_shows_itself(corpus: Corpus) -> None:
    characters = f"{corpus.characters('train'):,} characters"
    assert repr(corpus).startswith(f"<Corpus {corpus.spec}: train {characters}")
    assert "PosixPath" not in repr(corpus)
    html = corpus._repr_html_()
    assert f"{characters}, {corpus.document_count('train'):,} documents" in html
