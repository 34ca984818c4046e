"""A large text is read in parts by any number of processes: the bytes are those of one reading."""

import contextlib
import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from semigpt import storage
from semigpt.corpus import parting, prepare_corpus, stage
from semigpt.errors import CorpusError, SettingsError
from semigpt.parts import Parts
from semigpt.pool import Workers
from text_files import zipped

LINES = [f"{i}번째 문장, 오늘의 값은 {i * i % 97}." for i in range(900)]
AGAIN = [*LINES[:300], "한 번만 오는 문장.", *LINES[200:500], "각 " * 40]
SMALL = {"LARGE": 1 << 12, "PART_BYTES": 1 << 13, "FIRST_BYTES": 1 << 10}
Write = Callable[[Path], None]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large, and cut, begins at a few kilobytes."""
    for name, value in SMALL.items():
        monkeypatch.setattr(parting, name, value)


def staged(spec: Path, cache: Path, **options: Any) -> dict[str, bytes]:
    """The files of a corpus; nothing else is left in the cache."""
    corpus = prepare_corpus(str(spec), cache=cache, **options)
    assert [path.name for path in corpus.folder.parent.iterdir()] == [corpus.folder.name]
    return {path.name: path.read_bytes() for path in corpus.folder.iterdir()}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    several_kinds(tmp_path / "text")
    return tmp_path / "text"


@pytest.fixture
def whole(text: Path, tmp_path: Path) -> dict[str, bytes]:
    """What one reading makes of it; to be asked for before `small`."""
    return staged(text, tmp_path / "whole")


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def rows(texts: list[str], name: str = "text") -> str:
    return "".join(json.dumps({"id": 1, name: text}, ensure_ascii=False) + "\n" for text in texts)


def table(texts: list[str]) -> str:
    return "번호,본문\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(texts))


def several_kinds(folder: Path) -> None:
    write(folder / "a.jsonl", rows(LINES))
    write(folder / "b.jsonl", rows(AGAIN, "본문"))
    write(folder / "c.csv", table([*LINES[600:], "표에만 있는 문장."]))
    write(folder / "d.csv", table(LINES[:9]))
    pq.write_table(pa.table({"text": [f"{line} 끝" for line in AGAIN]}), folder / "e.parquet")
    (folder / "f.zip").write_bytes(zipped({"x.txt": "\n".join(AGAIN), "y.csv": table(LINES[:40])}))
    write(folder / "g.txt", "\n".join(AGAIN))
    write(folder / "h.txt", "\n".join(AGAIN))
    (folder / "i.txt.gz").write_bytes(gzip.compress("\n".join(AGAIN).encode(), mtime=0))


def novel(folder: Path) -> None:
    """Paragraphs, with blank lines of white space, and lines that end as Windows has them; the same
    once more; and one stray blank line among few long ones.
    """
    paragraphs = ["\r\n".join(LINES[i : i + 3]) for i in range(0, 900, 3)]
    write(folder / "a.txt", "\r\n \t\r\n".join(paragraphs))
    write(folder / "b.txt", "\n\n".join(LINES[:300]))
    write(folder / "c.txt", "\r\n \t\r\n".join(paragraphs))
    long = [f"{line} " * 25 for line in LINES[:40]]
    write(folder / "d.txt", "\n".join([*long[:30], "", *long[30:]]))


def own_splits(folder: Path) -> None:
    write(folder / "train.txt", "\n".join([*LINES, *LINES[:30], "짧다", "짧다"]))
    write(folder / "test.txt", "\n".join([*LINES[100:130], *LINES[100:110], "짧다"]))
    write(folder / "validation.jsonl", rows([*LINES[200:230], *LINES[200:230]]))


def decomposed(folder: Path) -> None:
    texts = ["\ufeff표시", " ", "", "가\u0301 나", *LINES, "기\u1100\u1161", *LINES[:50]]
    write(folder / "a.jsonl", rows(texts))
    write(folder / "b.txt", "\n".join(LINES), "cp949")
    write(folder / "c.txt", "\ufeff" + "\n".join(LINES[:400]))


def one_long_line(folder: Path) -> None:
    write(folder / "a.txt", "가나다 " * 5000 + "\n" + "\n".join(LINES))
    write(folder / "b.jsonl", rows(["라마바 " * 5000, *LINES]))


def conversations(folder: Path) -> None:
    chats = [[{"role": "user", "content": line}, {"role": "assistant", "content": "네."}] for line
             in LINES]  # fmt: skip
    write(folder / "a.jsonl", "".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    write(folder / "b.jsonl", "\n\n".join(rows([line]) for line in LINES[:400]))


KINDS = [several_kinds, novel, own_splits, decomposed, one_long_line, conversations]


@pytest.mark.parametrize(
    ("kind", "split"),
    [*((kind, "auto") for kind in KINDS), (several_kinds, "offset:0.9"), (novel, "offset:0.5")],
)
def test_parts_are_the_bytes_of_one_reading(
    tmp_path: Path, kind: Write, split: str, request: pytest.FixtureRequest
) -> None:
    kind(tmp_path / "text")
    whole = staged(tmp_path / "text", tmp_path / "whole", split=split)
    request.getfixturevalue("small")
    assert staged(tmp_path / "text", tmp_path / "parts", split=split, workers=1) == whole


def test_several_sources_and_workers(
    tmp_path: Path, text: Path, request: pytest.FixtureRequest
) -> None:
    own_splits(tmp_path / "own")
    spec = [str(text / "g.txt"), str(tmp_path / "own"), str(text / "a.jsonl")]
    whole = prepare_corpus(spec, cache=tmp_path / "whole")
    request.getfixturevalue("small")
    for workers in (2, 4):
        corpus = prepare_corpus(spec, cache=tmp_path / f"{workers}", workers=workers)
        assert replace(corpus, folder=whole.folder) == whole


@pytest.mark.parametrize(
    ("workers", "name", "damage", "told"),
    [
        (2, "b.jsonl", lambda content: content + b"{", r"b.jsonl, line 603: not JSON"),
        (1, "b.jsonl", lambda content: content + b"\xff\n", "line 603, byte .*: not valid"),
        (2, "d.csv", lambda content: content + b"1,2,3\n", "d.csv, line 11: 3 fields"),
        (1, "f.zip", lambda content: content[:-40], "f.zip: is no ZIP file"),
    ],
)
@pytest.mark.usefixtures("small")
def test_a_broken_file_is_the_same_error(
    tmp_path: Path,
    text: Path,
    workers: int,
    name: str,
    damage: Callable[[bytes], bytes],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = text / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorpusError, match=told) as parted:
        prepare_corpus(str(text), cache=tmp_path / "parts", workers=workers)
    assert not list((tmp_path / "parts" / "corpora").iterdir())
    monkeypatch.setattr(parting, "LARGE", 1 << 40)
    with pytest.raises(CorpusError) as whole:
        prepare_corpus(str(text), cache=tmp_path / "whole")
    assert str(parted.value) == str(whole.value)


def test_a_killed_worker_and_a_stopped_owner(
    tmp_path: Path,
    text: Path,
    whole: dict[str, bytes],
    small: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its part is done by another process; what was joined and what was read stays."""
    monkeypatch.setattr(storage, "JOURNAL_SECONDS", 0.0)
    monkeypatch.setattr("semigpt.parts.TOLD_SECONDS", 0.0)
    pools: list[Workers] = []
    enter = Workers.__enter__
    monkeypatch.setattr(Workers, "__enter__", lambda pool: pools.append(pool) or enter(pool))
    for killed in (1, 2):
        with contextlib.closing(stage(str(text), cache=tmp_path / "c", workers=2)) as steps:
            next(steps)
            for process in pools[-1].processes[:killed]:
                process.kill()
            next(steps)
        assert not pools[-1].alive
    assert staged(text, tmp_path / "c", workers=2) == whole


def test_a_killed_owner(tmp_path: Path, text: Path, whole: dict[str, bytes], small: None) -> None:
    """Its workers end with it, and another process takes the folder over."""
    program = (
        "import sys; from pathlib import Path\n"
        "from semigpt import parts, storage; from semigpt.corpus import parting, stage\n"
        f"vars(parting).update({SMALL!r}); parts.TOLD_SECONDS = storage.JOURNAL_SECONDS = 0.0\n"
        "for step in stage(sys.argv[1], cache=Path(sys.argv[2]), workers=2):\n"
        "    print(step.fraction, flush=True)"
    )
    command = [sys.executable, "-c", program, str(text), str(tmp_path / "c")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        while float(owner.stdout.readline()) < 0.2:
            pass
        owner.kill()
    assert staged(text, tmp_path / "c", workers=1) == whole


def test_a_worker_ends_when_nobody_holds_its_input() -> None:
    program = "import time; from semigpt import pool; pool.worker_request(); time.sleep(90)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as worker:
        worker.communicate(b"{}\n", timeout=60)
    assert worker.returncode == 1


def test_another_machine_shares_the_parts(
    tmp_path: Path,
    text: Path,
    whole: dict[str, bytes],
    small: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same command elsewhere, while the first one waits: it reads all there is to read."""
    monkeypatch.setattr("semigpt.parts.TOLD_SECONDS", 0.0)
    cache = tmp_path / "c"
    steps = stage(str(text), cache=cache, workers=1)
    next(steps)
    other = threading.Thread(target=staged, args=(text, cache), kwargs={"workers": 1})
    other.start()
    (folder,) = (cache / "corpora").glob(".semigpt-*-shared")
    while not (parts := Parts.find(folder / "parts-auto" / "scan")) or not parts.all_done:
        time.sleep(0.01)
    assert other.is_alive(), "it waits for the one that joins them"
    list(steps)
    other.join(60)
    assert staged(text, cache) == whole


def test_a_part_is_done_by_one_process_at_a_time(tmp_path: Path) -> None:
    parts = Parts.create(tmp_path, [{"after": [1]}, {}, {}])
    done: list[Path] = []
    with parts.result(2).with_suffix(".lock").open("ab") as lock:
        assert storage.try_lock(lock)
        parts.result(2).with_suffix(".partial").mkdir()  # of a process that was killed
        assert parts.do_next(lambda task, out: done.append(out))
        assert parts.do_next(lambda task, out: done.append(out))
        assert [path.stem for path in done] == ["00001", "00000"]
        assert not parts.do_next(lambda task, out: done.append(out))
    with pytest.raises(ZeroDivisionError):
        parts.do_next(lambda task, out: 1 / 0)
    assert parts.do_next(lambda task, out: done.append(out))
    assert parts.all_done


def test_workers_are_at_least_one(tmp_path: Path, text: Path) -> None:
    with pytest.raises(SettingsError, match="--workers 0: give at least 1"):
        prepare_corpus(str(text), cache=tmp_path, workers=0)
