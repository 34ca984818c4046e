"""Blocks: which ones, in which order, and that nothing but (data, seed, step) decides it."""

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semigpt.corpus import prepare_corpus
from semigpt.dataset import (
    Dataset,
    TokenizingProgress,
    TokenStream,
    block_starts,
    open_dataset,
    prepare_dataset,
    tokenize,
)
from semigpt.errors import CorpusError, SettingsError
from semigpt.shards import ShardWriter
from semigpt.tokenizers import CharTokenizer


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


@pytest.mark.parametrize("length", [17, 96, 100, 1601, 4097])
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
    blocks = [starts // context for starts in epochs]
    for before, after in pairwise(blocks):
        assert (before == after).mean() < 0.1, "each epoch has an order of its own"
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
        return block_starts(5000, 8, 16, order=order, **{"seed": 1, "step": 7, **change}).tolist()

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
    with ShardWriter(tmp_path, "train", np.dtype(np.uint16), tokens_per_shard=5) as writer:
        for ids in documents:
            writer.add(ids)
        entry = writer.finish()
    assert entry["tokens"] == 17
    assert entry["documents"] == 4
    assert [file["tokens"] for file in entry["files"]] == [5, 5, 5, 2]
    stored = np.concatenate([np.load(tmp_path / file["name"]) for file in entry["files"]])
    assert (stored == np.concatenate(documents)).all()


def test_text_shorter_than_a_block_is_refused_with_both_lengths() -> None:
    with pytest.raises(CorpusError, match=r"8 tokens.*context_length 8.*at most 7"):
        block_starts(8, 8, 1, order="epoch", seed=0, step=0)
    assert block_starts(9, 8, 1, order="epoch", seed=0, step=0).tolist() == [0]


def test_each_process_takes_its_own_rows_of_the_batch() -> None:
    dataset = dataset_of(stream_of(1000))
    whole = dataset.batch("train", 8, 6, step=3)
    parts = [dataset.batch("train", 8, 6, step=3, rank=rank, world_size=3) for rank in range(3)]
    for together, of_each in zip(whole, zip(*parts, strict=True), strict=True):
        assert together.tolist() == [row for part in of_each for row in part.tolist()]


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

    def bytes_of(self, split: str) -> int:
        return 3 * sum(map(len, self.documents(split)))

    def verify(self) -> None:
        """Nothing has changed."""


def test_second_preparation_opens_what_the_first_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = CharTokenizer("가나다라마")
    first = prepare_dataset(Corpus(tmp_path), tokenizer)
    assert first.stream("train").read(0, 99).tolist() == [0, 1, 2, 5, 3, 4, 5]
    monkeypatch.setattr(CharTokenizer, "encode_documents", lambda *_: pytest.fail("encoded again"))
    again = prepare_dataset(Corpus(tmp_path), tokenizer)
    assert again.stream("train").read(0, 99).tolist() == first.stream("train").read(0, 99).tolist()
    assert [path.name for path in tmp_path.glob(".semigpt-*")] == []


KILL = r"""
import os, random, signal, sys, time
from pathlib import Path
from semigpt import storage
from semigpt.corpus import open_corpus
from semigpt import dataset, shards
from semigpt.tokenizers import CharTokenizer
folder, draw = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
storage.JOURNAL_SECONDS = 0.002
shards.BUFFERED_TOKENS = dataset.TOKENS_PER_EVENT = 500
corpus = open_corpus(folder)
tokenizer = CharTokenizer.from_counts(corpus.character_counts)

def child(wait=False):
    pid = os.fork()
    if not pid:
        if wait:
            write = dataset.write_journal
            dataset.write_journal = lambda *arguments: (write(*arguments), time.sleep(60))
        for _ in dataset.tokenize(corpus, tokenizer, tokens_per_shard=100_000):
            pass
        os._exit(0)
    return pid

def resumable():
    return any(folder.glob(".semigpt-*/journal/state.json"))

start = time.monotonic()
assert os.waitpid(child(), 0)[1] == 0
whole = time.monotonic() - start
(made,) = folder.glob("tokens-*")
made.rename(folder / "whole")
for kills in range(6):
    # The first one is killed as soon as there is something to resume: it waits there.
    pid = child(wait=not kills)
    begun, wait = time.monotonic(), draw.uniform(0.05, 0.95) * whole
    while time.monotonic() - begun < wait if kills else not resumable():
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


def staged(tmp_path: Path) -> tuple[Any, CharTokenizer]:
    """A corpus of 2,000 documents, some 220,000 characters, and its tokenizer."""
    text = tmp_path / "a.txt"
    text.write_text(
        "\n".join(f"{i}번째 글. " + "가나다라" * 25 for i in range(2000)), encoding="utf-8"
    )
    corpus = prepare_corpus(str(text), cache=tmp_path / "cache")
    return corpus, CharTokenizer.from_counts(corpus.character_counts)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event, and a write, every 1,000 tokens; no journal but at a stop."""
    monkeypatch.setattr("semigpt.dataset.TOKENS_PER_EVENT", 1000)
    monkeypatch.setattr("semigpt.shards.BUFFERED_TOKENS", 1000)
    monkeypatch.setattr("semigpt.storage.JOURNAL_SECONDS", 1e9)


@pytest.mark.usefixtures("often")
def test_tokenizing_tells_how_far_it_is(tmp_path: Path) -> None:
    corpus, tokenizer = staged(tmp_path)
    events = list(tokenize(corpus, tokenizer))
    dataset = prepare_dataset(corpus, tokenizer)
    tokens = sum(len(stream) for stream in dataset.streams.values())
    assert events[-1] == TokenizingProgress(tokens, 1.0)
    assert len(events) == pytest.approx(tokens / 1000, rel=0.2)
    for before, after in pairwise(events):
        assert 0 < before.tokens <= after.tokens
        assert 0 < before.fraction <= after.fraction
        # Documents are about equally long.
        assert before.fraction == pytest.approx(before.tokens / tokens, abs=0.02)
    assert list(tokenize(corpus, tokenizer)) == [], "nothing is left to do"


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("way", ["closed", "KeyboardInterrupt", "SystemExit", "dropped"])
def test_a_stop_between_two_documents_loses_nothing(tmp_path: Path, way: str) -> None:
    corpus, tokenizer = staged(tmp_path)
    whole = tokenize(corpus, tokenizer)
    made = list(whole)[-1].tokens
    (folder,) = corpus.folder.glob("tokens-*")
    folder.rename(corpus.folder / "whole")

    events = tokenize(corpus, tokenizer)
    reached = next(event.tokens for event in events if event.tokens > made // 2)
    match way:
        case "closed":
            events.close()
        case "dropped":
            del events
        case "KeyboardInterrupt":
            with pytest.raises(KeyboardInterrupt) as stopped:
                events.throw(KeyboardInterrupt)
            assert "the same command resumes from there" in stopped.value.__notes__[0]
        case "SystemExit":
            with pytest.raises(SystemExit):
                events.throw(SystemExit)
    assert not folder.exists()
    first = next(tokenize(corpus, tokenizer))
    assert reached < first.tokens <= reached + 1200
    again = list(tokenize(corpus, tokenizer))
    assert reached < again[0].tokens
    assert again[-1].tokens == made
    contents = [
        {path.name: path.read_bytes() for path in place.iterdir()}
        for place in (corpus.folder / "whole", folder)
    ]
    assert contents[0] == contents[1]
    assert list(corpus.folder.glob(".semigpt-*")) == []


@pytest.mark.usefixtures("often")
def test_a_stop_in_a_later_split_keeps_the_splits_before_it(tmp_path: Path) -> None:
    corpus, tokenizer = staged(tmp_path)
    train = corpus.characters("train") + corpus.document_count("train")
    events = tokenize(corpus, tokenizer)
    reached = next(event.tokens for event in events if event.tokens > train)
    events.close()
    assert next(tokenize(corpus, tokenizer)).tokens > reached


@pytest.mark.usefixtures("often")
def test_a_shard_that_a_power_cut_shortened_is_written_from_scratch(tmp_path: Path) -> None:
    corpus, tokenizer = staged(tmp_path)
    whole = prepare_dataset(corpus, tokenizer).stream("train").read(0, 1 << 30).tolist()
    (folder,) = corpus.folder.glob("tokens-*")
    folder.rename(corpus.folder / "whole")
    events = tokenize(corpus, tokenizer)
    assert next(events).tokens < next(event.tokens for event in events if event.tokens > 50_000)
    events.close()
    (shard,) = corpus.folder.glob(".semigpt-*/train-00000.npy")
    shard.write_bytes(shard.read_bytes()[:-5000])
    assert next(tokenize(corpus, tokenizer)).tokens < 50_000
    assert prepare_dataset(corpus, tokenizer).stream("train").read(0, 1 << 30).tolist() == whole


def test_each_tokenizer_has_shards_of_its_own(tmp_path: Path) -> None:
    streams = [
        prepare_dataset(Corpus(tmp_path), CharTokenizer(alphabet)).stream("train")
        for alphabet in ("가나다라마", "마라다나가하")
    ]
    assert streams[0].read(0, 9).tolist() != streams[1].read(0, 9).tolist()


@pytest.mark.usefixtures("often")
def test_a_fault_while_tokenizing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, tokenizer = staged(tmp_path)
    monkeypatch.setattr(
        ShardWriter, "_complete", lambda self: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(CorpusError, match=r"cannot write the token shards in .*SEMIGPT_CACHE"):
        prepare_dataset(corpus, tokenizer)
    assert list(corpus.folder.glob(".semigpt-*")) == []


def test_a_dataset_shows_its_splits(tmp_path: Path) -> None:
    dataset = prepare_dataset(Corpus(tmp_path), CharTokenizer("가나다라마"))
    assert repr(dataset) == "<Dataset: train 7 tokens, validation 2 tokens; vocabulary of 262>"
    assert "7 tokens, 2 documents" in dataset._repr_html_()
    assert repr(dataset.stream("train")) == "<TokenStream: 7 tokens, 2 documents>"


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_shard_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    prepare_dataset(Corpus(tmp_path), CharTokenizer("가나다라마"))
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
