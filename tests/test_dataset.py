"""Blocks: which ones, in which order, and that nothing but (data, seed, step) decides it."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semigpt.corpus import prepare_corpus
from semigpt.dataset import (
    Dataset,
    TokenStream,
    block_starts,
    open_dataset,
    prepare_dataset,
    write_stream,
)
from semigpt.errors import CorpusError, SettingsError


def stream_of(*sizes: int) -> TokenStream:
    whole = np.arange(sum(sizes), dtype=np.uint16)
    return TokenStream(np.split(whole, np.cumsum(sizes)[:-1]), documents=1)


def dataset_of(stream: TokenStream) -> Dataset:
    return Dataset(
        {"train": stream}, vocab_size=1 << 16, corpus_fingerprint="c", tokenizer_fingerprint="t"
    )


def test_targets_are_inputs_shifted_by_one() -> None:
    inputs, targets = dataset_of(stream_of(1000)).batch("train", 8, 4)
    assert inputs.shape == targets.shape == (4, 8)
    assert inputs.dtype == targets.dtype
    assert (targets == inputs + 1).all(), (
        "on a stream of 0, 1, 2 … every target is its input plus one"
    )


@pytest.mark.parametrize("length", [17, 100, 1601, 4097])
def test_an_epoch_visits_each_block_once(length: int) -> None:
    context, blocks = 16, (length - 1) // 16
    for epoch in range(3):
        starts = [
            int(
                block_starts(
                    length, context, 1, order="epoch", seed=3, step=epoch * blocks + place
                )[0]
            )
            for place in range(blocks)
        ]
        assert len(set(starts)) == blocks, "a block came twice in one epoch"
        if epoch == 0:
            assert sorted(starts) == [context * block for block in range(blocks)]


def test_epochs_differ_in_order_and_cut() -> None:
    length, context = 16 * 200 + 1, 16
    epochs = [
        block_starts(length, context, 200, order="epoch", seed=0, step=step) for step in range(3)
    ]
    assert not (epochs[0] == epochs[1]).all()
    assert len({int(starts[0] % context) for starts in epochs}) > 1, "later epochs cut elsewhere"


def test_random_starts_are_uniform_to_the_last_that_fits() -> None:
    length, context, draws = 30, 10, 40_000
    starts = block_starts(length, context, draws, order="random", seed=5, step=0)
    counts = np.bincount(starts, minlength=length - context)
    assert len(counts) == length - context, "the last start leaves a full block and its last target"
    expected = draws / len(counts)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("order", ["epoch", "random"])
def test_batch_is_a_function_of_seed_and_step(order: str) -> None:
    def starts(**change: int) -> list[int]:
        return block_starts(5000, 8, 16, order=order, **{"seed": 1, "step": 7, **change}).tolist()  # type: ignore[arg-type]

    assert starts() == starts()
    assert starts() != starts(seed=2)
    assert starts() != starts(step=8)


def test_shards_are_one_stream(tmp_path: Path) -> None:
    whole, parts = stream_of(5000), stream_of(1, 999, 3000, 1000)
    assert len(parts) == 5000
    places = np.array([-1, 0, 995, 999, 3990, 4980], dtype=np.int64)
    assert (whole.windows(places, 30) == parts.windows(places, 30)).all()
    for start, stop in ((0, 5000), (0, 1), (998, 1003), (4000, 9999), (5000, 5001)):
        assert (whole.read(start, stop) == parts.read(start, stop)).all()


def test_written_shards_come_back_and_split_documents_over_files(tmp_path: Path) -> None:
    documents = [np.arange(n, dtype=np.uint16) for n in (3, 0, 10, 4)]
    entry = write_stream(tmp_path, "train", iter(documents), np.dtype(np.uint16), shard=5)
    assert entry["tokens"] == 17
    assert entry["documents"] == 4
    assert [file["tokens"] for file in entry["files"]] == [5, 5, 5, 2]
    stored = np.concatenate([np.load(tmp_path / file["name"]) for file in entry["files"]])
    assert (stored == np.concatenate(documents)).all()


def test_text_shorter_than_a_block_is_refused_with_both_lengths() -> None:
    with pytest.raises(CorpusError, match=r"8 tokens.*context_length 8.*at most 7"):
        block_starts(8, 8, 1, order="epoch", seed=0, step=0)
    assert block_starts(9, 8, 1, order="epoch", seed=0, step=0).tolist() == [0]


def test_processes_share_a_batch_evenly_or_not_at_all() -> None:
    with pytest.raises(SettingsError, match="cannot be shared by 3"):
        dataset_of(stream_of(1000)).batch("train", 8, 4, world_size=3)
    with pytest.raises(CorpusError, match="it has train"):
        dataset_of(stream_of(1000)).batch("test", 8, 4)


class Corpus:
    """As much of a staged corpus as token shards are made from."""

    fingerprint, spec = "text-1", "text"
    splits = ("train", "validation")

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def documents(self, split: str, first: int = 0) -> list[str]:
        return (["가나다", "라마"] if split == "train" else ["가"])[first:]

    def document_count(self, split: str) -> int:
        return len(self.documents(split))


def test_second_preparation_opens_what_the_first_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semigpt.tokenizers import CharTokenizer

    tokenizer = CharTokenizer("가나다라마")
    first = prepare_dataset(Corpus(tmp_path), tokenizer)  # type: ignore[arg-type]
    assert first.stream("train").read(0, 99).tolist() == [0, 1, 2, 5, 3, 4, 5]
    monkeypatch.setattr(CharTokenizer, "encode_documents", lambda *_: pytest.fail("encoded again"))
    again = prepare_dataset(Corpus(tmp_path), tokenizer)  # type: ignore[arg-type]
    assert again.stream("train").read(0, 99).tolist() == first.stream("train").read(0, 99).tolist()
    assert [path.name for path in tmp_path.glob(".semigpt-*")] == []


KILL = r"""
import os, random, signal, sys, time
from pathlib import Path
from semigpt import storage
from semigpt.corpus import open_corpus
from semigpt import dataset
from semigpt.tokenizers import CharTokenizer
folder, draw = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
storage.JOURNAL_SECONDS = 0.002
dataset.TOKENS_AT_ONCE = 500
corpus = open_corpus(folder)
tokenizer = CharTokenizer.from_counts(corpus.character_counts)

def child(wait=False):
    pid = os.fork()
    if not pid:
        if wait:
            write = dataset.write_journal
            dataset.write_journal = lambda *arguments: (write(*arguments), time.sleep(60))
        dataset.prepare_dataset(corpus, tokenizer, shard=100_000)
        os._exit(0)
    return pid

start = time.monotonic()
assert os.waitpid(child(), 0)[1] == 0
whole = time.monotonic() - start
(made,) = folder.glob("tokens-*")
made.rename(folder / "whole")
for kills in range(6):
    # The first one is killed as soon as there is something to go on with: it waits there.
    pid = child(wait=not kills)
    begun, wait = time.monotonic(), draw.uniform(0.05, 0.95) * whole
    while time.monotonic() - begun < wait if kills else not any(folder.glob(".semigpt-*/journal/state.json")):
        assert time.monotonic() - begun < 60
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    if os.waitpid(pid, 0)[1] == 0:
        assert kills
        break
assert os.waitpid(child(), 0)[1] == 0
"""


def test_killed_and_run_again_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL at six moments, all but the first at random."""
    text, seed = tmp_path / "a.txt", random.randrange(1 << 30)
    text.write_text(
        "\n".join(f"{i}번째 글. " + "가나다라" * (i % 90) for i in range(6000)), encoding="utf-8"
    )
    corpus = prepare_corpus(str(text), cache=tmp_path / "cache")
    command = [sys.executable, "-c", KILL, str(corpus.folder), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (seed, done.stderr)
    (killed,) = corpus.folder.glob("tokens-*")
    folders = [
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (corpus.folder / "whole", killed)
    ]
    assert folders[0] == folders[1], seed
    assert len(folders[0]) > 5


def test_a_stop_between_two_documents_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semigpt.tokenizers import CharTokenizer

    text = tmp_path / "a.txt"
    text.write_text(
        "\n".join(f"{i}번째 글. " + "가나다라" * 25 for i in range(2000)), encoding="utf-8"
    )
    corpus = prepare_corpus(str(text), cache=tmp_path / "cache")
    tokenizer = CharTokenizer.from_counts(corpus.character_counts)
    monkeypatch.setattr("semigpt.dataset.TOKENS_AT_ONCE", 1000)

    def stop_later(tokens: int) -> None:
        if tokens > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        prepare_dataset(corpus, tokenizer, progress=stop_later)
    assert "the same command goes on from there" in stopped.value.__notes__[0]
    told: list[int] = []
    prepare_dataset(corpus, tokenizer, progress=told.append)
    assert told[0] > 100_000


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_shard_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    from semigpt.tokenizers import CharTokenizer

    prepare_dataset(Corpus(tmp_path), CharTokenizer("가나다라마"))  # type: ignore[arg-type]
    shard = next(tmp_path.glob("tokens-*/train-00000.npy"))
    content = bytearray(shard.read_bytes())
    match damage:
        case "cut":
            shard.write_bytes(content[:-1])
        case "flip":
            content[-1] ^= 1
            shard.write_bytes(content)
        case "gone":
            shard.unlink()
    with pytest.raises(CorpusError, match=r"train-00000\.npy"):
        open_dataset(shard.parent)
