"""How fast a text is staged: in one go, and in parts by 1, 2 … worker processes.

    python benchmarks/staging.py TEXT... --workers 1,2 --rounds 3

TEXT is any SPEC of 128 MB or more, the cache a temporary folder. Ways take turns, and of each the
fastest round counts. The last column is the speed beside one reading without parts. What each way
made is compared, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

from semigpt.corpus import parting, prepare_corpus


def staged(spec: list[str], workers: int, large: int) -> tuple[float, int, str]:
    """Seconds, bytes of text, and a digest of all files of the corpus."""
    parting.LARGE = large
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        corpus = prepare_corpus(spec, cache=Path(cache), workers=workers)
        seconds = time.perf_counter() - started
        found = hashlib.sha256()
        for path in sorted(corpus.folder.iterdir()):
            found.update(path.name.encode() + path.read_bytes())
        return seconds, sum(map(corpus.bytes_of, corpus.splits)), found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("text", nargs="+", metavar="TEXT")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ways = {"in one go": (1, 1 << 62)}
    for count in map(int, options.workers.split(",")):
        ways[f"{count} workers"] = (count, parting.LARGE)
    best: dict[str, float] = {}
    digests = set()
    for _ in range(options.rounds):
        for name, (workers, large) in ways.items():
            seconds, size, digest = staged(options.text, workers, large)
            best[name] = min(best.get(name, seconds), seconds)
            digests.add(digest)
    for name, seconds in best.items():
        ratio = best["in one go"] / seconds
        print(f"{name:>12} {seconds:8.2f} s {size / seconds / 1e6:8.1f} MB/s {ratio:6.2f}")
    print("the same bytes" if len(digests) == 1 else "OTHER BYTES")


if __name__ == "__main__":
    main()
