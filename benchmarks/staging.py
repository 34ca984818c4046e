"""How fast a text is staged: in one go, and in parts by 1, 2 … worker processes.

    python benchmarks/staging.py TEXT... --workers 1,2 --rounds 3
    python benchmarks/staging.py TEXT... --tokenizer unigram

TEXT is any SPEC of 128 MB or more, the cache a temporary folder. With --tokenizer, a kind or a
folder, it is staged once, and its tokens are written each way. Ways take turns, and of each the
fastest round counts. The last column is the speed beside one process without parts. What each way
made is compared: every byte of a corpus, and every id.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from semigpt import token_parts
from semigpt.corpus import Corpus, parting, prepare_corpus
from semigpt.dataset import prepare_dataset
from semigpt.tokenizers import Tokenizer

Way = Callable[[int], tuple[float, int, str]]


def staged(spec: list[str], workers: int) -> tuple[float, int, str]:
    """Seconds, bytes of text, and a digest of all files of the corpus."""
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        corpus = prepare_corpus(spec, cache=Path(cache), workers=workers)
        seconds = time.perf_counter() - started
        found = hashlib.sha256()
        for path in sorted(corpus.folder.iterdir()):
            found.update(path.name.encode() + path.read_bytes())
        return seconds, size_of(corpus), found.hexdigest()


def tokenized(corpus: Corpus, tokenizer: Tokenizer, workers: int) -> tuple[float, int, str]:
    """Seconds, bytes of text, and a digest of all ids."""
    started = time.perf_counter()
    dataset = prepare_dataset(corpus, tokenizer, workers)
    seconds = time.perf_counter() - started
    found = hashlib.sha256()
    for stream in dataset.streams.values():
        for shard in stream.shards:
            found.update(shard.data)
    for folder in corpus.folder.glob("tokens-*"):
        shutil.rmtree(folder)
    return seconds, size_of(corpus), found.hexdigest()


def size_of(corpus: Corpus) -> int:
    return sum(map(corpus.bytes_of, corpus.splits))


def compare(measure: Way, counts: list[int], rounds: int) -> None:
    """Print the fastest of some rounds of each way."""
    ways = {"in one go": (1, 1 << 62)}
    for count in counts:
        ways[f"{count} workers"] = (count, parting.LARGE)
    best: dict[str, float] = {}
    digests = set()
    for _ in range(rounds):
        for name, (workers, large) in ways.items():
            parting.LARGE = token_parts.LARGE = large
            seconds, size, digest = measure(workers)
            best[name] = min(best.get(name, seconds), seconds)
            digests.add(digest)
    for name, seconds in best.items():
        ratio = best["in one go"] / seconds
        print(f"{name:>12} {seconds:8.2f} s {size / seconds / 1e6:8.1f} MB/s {ratio:6.2f}")
    print("the same bytes" if len(digests) == 1 else "OTHER BYTES")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("text", nargs="+", metavar="TEXT")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizer", metavar="KIND")
    options = parser.parse_args()
    counts = [*map(int, options.workers.split(","))]
    if options.tokenizer is None:
        compare(lambda workers: staged(options.text, workers), counts, options.rounds)
        return
    from semigpt.config import TokenizerSettings
    from semigpt.preparation import prepare_tokenizer

    with tempfile.TemporaryDirectory() as cache:
        corpus = prepare_corpus(options.text, cache=Path(cache))
        is_folder = Path(options.tokenizer).is_dir()
        named = {"folder" if is_folder else "kind": options.tokenizer}
        tokenizer = prepare_tokenizer(TokenizerSettings(**named), corpus)
        compare(lambda workers: tokenized(corpus, tokenizer, workers), counts, options.rounds)


if __name__ == "__main__":
    main()
