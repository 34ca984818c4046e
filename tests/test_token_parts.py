"""Token shards of a large text are written in parts by any number of processes: the same ids."""

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semigpt import token_parts
from semigpt.cli import main
from semigpt.corpus import Corpus, prepare_corpus
from semigpt.dataset import Dataset, open_dataset, prepare_dataset, tokenize
from semigpt.errors import CorpusError, TokenizerError
from semigpt.parts import Parts
from semigpt.pool import Workers
from semigpt.token_parts import TokenParts
from semigpt.tokenizers import LEARNING_VERSION, CharTokenizer

SMALL = {"LARGE": 1 << 12, "PART_BYTES": 1 << 13}
TOKENIZER = CharTokenizer("가나다라마 .번째글0123456789")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    text = tmp_path / "a.txt"
    lines = [f"{i}번째 글. " + "가나다라" * (i % 40) for i in range(900)]
    text.write_text("\n".join([*lines, "마" * 9000, "끝"]), encoding="utf-8")
    return prepare_corpus(str(text), cache=tmp_path / "cache")


@pytest.fixture
def whole(corpus: Corpus) -> dict[str, list[int]]:
    """The ids that one process writes; to be asked for before `small`."""
    dataset = prepare_dataset(corpus, TOKENIZER)
    ids = ids_of(dataset)
    (folder,) = corpus.folder.glob("tokens-*")
    shutil.rmtree(folder)
    return ids


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large, and a part, begins at a few kilobytes; this process does every part."""
    for name, value in SMALL.items():
        monkeypatch.setattr(token_parts, name, value)
    monkeypatch.setattr("semigpt.parts.TOLD_SECONDS", 0.0)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker processes: this one does every part."""
    monkeypatch.setattr(TokenParts, "_workers", lambda self, count: Workers(0, "", {}))


def ids_of(dataset: Dataset) -> dict[str, list[int]]:
    return {name: stream.read(0, 1 << 30).tolist() for name, stream in dataset.streams.items()}


def files_of(corpus: Corpus) -> dict[str, bytes]:
    """The files of the shards; nothing else is left."""
    (folder,) = corpus.folder.glob("tokens-*")
    assert not list(corpus.folder.glob(".semigpt-*"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_processes_writes_the_ids_of_one(
    corpus: Corpus,
    workers: int,
    whole: dict[str, list[int]],
    small: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = prepare_dataset(corpus, TOKENIZER, workers)
    assert ids_of(dataset) == whole
    made = files_of(corpus)
    shards = dataset.stream("train").shards
    assert len(shards) > 5
    assert all(shard[-1] == TOKENIZER.end_of_text for shard in shards), "cut between documents"
    (folder,) = corpus.folder.glob("tokens-*")
    shutil.rmtree(folder)
    monkeypatch.setattr(TokenParts, "_workers", lambda self, count: Workers(0, "", {}))
    prepare_dataset(corpus, TOKENIZER, workers)
    assert files_of(corpus) == made


def test_killed_workers_and_a_stopped_owner(
    corpus: Corpus, whole: dict[str, list[int]], small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their parts are done by others, and what was written stays."""
    pools: list[Workers] = []
    enter = Workers.__enter__
    monkeypatch.setattr(Workers, "__enter__", lambda pool: pools.append(pool) or enter(pool))
    for killed in (1, 2):
        with contextlib.closing(tokenize(corpus, TOKENIZER, workers=2)) as steps:
            next(steps)
            for process in pools[-1].processes[:killed]:
                process.kill()
            reached = next(step.tokens for step in steps if step.tokens)
        assert not pools[-1].alive
    assert next(step.tokens for step in tokenize(corpus, TOKENIZER, workers=1)) <= reached
    assert ids_of(prepare_dataset(corpus, TOKENIZER, 2)) == whole
    assert len(files_of(corpus)) > 5


def test_a_killed_owner(corpus: Corpus, whole: dict[str, list[int]], small: None) -> None:
    """Its worker ends with it, and another process takes the folder over."""
    program = (
        "import sys; from pathlib import Path\n"
        "from semigpt import parts, token_parts; from semigpt.corpus import open_corpus\n"
        "from semigpt.dataset import tokenize; from semigpt.tokenizers import CharTokenizer\n"
        f"vars(token_parts).update({SMALL!r}); parts.TOLD_SECONDS = 0.0\n"
        f"tokenizer = CharTokenizer({''.join(TOKENIZER.characters)!r})\n"
        "for step in tokenize(open_corpus(Path(sys.argv[1])), tokenizer, workers=1):\n"
        "    print(step.fraction, flush=True)"
    )
    command = [sys.executable, "-c", program, str(corpus.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        while float(owner.stdout.readline()) < 0.2:
            pass
        owner.kill()
    assert list(corpus.folder.glob(".semigpt-*-shared/train-00000.npy"))
    assert ids_of(prepare_dataset(corpus, TOKENIZER, 1)) == whole
    assert len(files_of(corpus)) > 5


@pytest.mark.usefixtures("alone")
def test_another_machine_shares_the_parts(
    corpus: Corpus, whole: dict[str, list[int]], small: None
) -> None:
    """The same command elsewhere, while the first one waits: it writes all there is to write."""
    steps = tokenize(corpus, TOKENIZER)
    next(steps)
    other = threading.Thread(target=prepare_dataset, args=(corpus, TOKENIZER))
    other.start()
    (folder,) = corpus.folder.glob(".semigpt-*-shared")
    while not (parts := Parts.find(folder / "parts")) or not parts.all_done:
        time.sleep(0.01)
    assert other.is_alive(), "it waits for the one that puts them together"
    list(steps)
    other.join(60)
    assert not other.is_alive()
    assert ids_of(prepare_dataset(corpus, TOKENIZER)) == whole
    assert len(files_of(corpus)) > 5


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("damage", ["state", "shard"])
def test_a_part_that_a_power_cut_shortened_is_written_again(
    corpus: Corpus, whole: dict[str, list[int]], small: None, damage: str
) -> None:
    steps = tokenize(corpus, TOKENIZER)
    next(steps)
    (folder,) = corpus.folder.glob(".semigpt-*-shared")
    helper = TokenParts(folder, corpus, TOKENIZER).help()
    while not (folder / "parts" / "00009").is_dir():
        next(helper)
    (path,) = (folder / "parts" / "00009").glob("*.json" if damage == "state" else "*.npy")
    path.write_bytes(path.read_bytes()[:-20])
    steps.close()
    assert ids_of(prepare_dataset(corpus, TOKENIZER)) == whole


@pytest.mark.usefixtures("small", "alone")
@pytest.mark.parametrize("what", ["train.txt", "test.ends.npy", "a character"])
def test_what_one_process_refuses_is_refused(corpus: Corpus, what: str) -> None:
    if what == "a character":
        plain = CharTokenizer.plain("".join(set(corpus.text("train")) - {"마"}))
        with pytest.raises(TokenizerError, match="마"):
            prepare_dataset(corpus, plain)
    else:
        content = bytearray((corpus.folder / what).read_bytes())
        content[140] ^= 1
        (corpus.folder / what).write_bytes(content)
        with pytest.raises(CorpusError, match=what):
            prepare_dataset(corpus, TOKENIZER)
    assert not list(corpus.folder.glob(".semigpt-*"))


@pytest.mark.usefixtures("alone")
def test_shards_that_another_process_verified_are_not_read(
    corpus: Corpus, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = prepare_dataset(corpus, TOKENIZER).stamp
    read: list[Any] = []
    digest = "0" * 64
    monkeypatch.setattr("semigpt.shards.sha256_file", lambda path: read.append(path) or digest)
    with contextlib.suppress(StopIteration):
        next(tokenize(corpus, TOKENIZER, verified=stamp))
    assert not read
    (folder,) = corpus.folder.glob("tokens-*")
    shard = folder / "train-00001.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    for verified in (stamp, ""):
        with pytest.raises(CorpusError, match=r"train-0000\d.npy"):
            open_dataset(folder, verified)


def test_a_shard_can_be_larger_than_any_file(tmp_path: Path) -> None:
    """Its header says how long it is once it is complete."""
    dtype = np.dtype(np.uint16)
    with token_parts.ShardWriter(
        tmp_path, "train", dtype, tokens_per_shard=token_parts.IN_ONE_SHARD
    ) as writer:
        writer.add(np.arange(9, dtype=np.uint16))
        (file,) = writer.finish()["files"]
    assert np.load(tmp_path / file["name"]).tolist() == [*range(9)]


@pytest.mark.usefixtures("small")
def test_the_command_writes_tokens_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEMIGPT_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "b.txt"
    text.write_text("\n".join(f"{i}번째 글." for i in range(300)), encoding="utf-8")
    asked = ["--tokenizer", "bpe", "--vocab-size", "300", "--workers", "1"]
    assert main(["text", "stage", str(text), *asked]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / f"tokenizer-{LEARNING_VERSION}-bpe-300-1-1").is_dir()
    assert len(list(folder.glob("tokens-*"))) == 1
