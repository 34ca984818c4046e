"""The token shards of a large corpus, written in parts by any number of processes.

    FOLDER/parts/             as in `semigpt.parts`
    FOLDER/parts/tokenizer/   for worker processes

A part is the whole documents of some megabytes of a split, and becomes one shard. It depends on the
text alone. No token reaches over the end of a document, so the shards end to end are the ids that
one process writes. Some parts verify a file of the text instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from semigpt.corpus.corpus import Corpus, open_corpus
from semigpt.errors import SemigptError
from semigpt.npy import array_bytes
from semigpt.parts import Parts, Task, read_state, share, write_state
from semigpt.pool import Workers, worker_request
from semigpt.shards import ShardWriter
from semigpt.storage import is_held, write_journal
from semigpt.tokenizers import Tokenizer, load_tokenizer
from semigpt.tokenizers.base import batches

__all__ = ["TokenParts", "TokenizingProgress", "is_large"]

LARGE = 1 << 27  # bytes of text: less is done before worker processes have started
PART_BYTES = 1 << 24
PARTS_AT_MOST = 1 << 9  # beside one a split; each shard is an open file
IN_ONE_SHARD = 1 << 48  # tokens
WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class TokenizingProgress:
    """Tokens written so far, and the fraction of the documents that they are; None in a process
    that helps another.
    """

    tokens: int
    fraction: float | None


def is_large(corpus: Corpus) -> bool:
    """Whether the shards of a corpus are written in parts."""
    return _bytes_of(corpus) >= LARGE


class TokenParts:
    """The parts of a corpus, in the folder of its shards; each process that writes some has one."""

    def __init__(self, folder: Path, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self.folder, self.corpus, self.tokenizer = folder, corpus, tokenizer
        self._home = folder / "parts"

    def write(self, workers: int) -> Generator[TokenizingProgress, None, dict[str, Any]]:
        """Write all shards to the folder, in as many processes beside this one; returns the
        manifest's entry of each split.

        Raises CorpusError where the text is not what was staged, TokenizerError as the tokenizer
        does.
        """
        write_journal(self.folder, {})  # from here on another process resumes
        if Parts.find(self._home) is None:
            self.tokenizer.save(self._home / "tokenizer")
        parts = Parts.create(self._home, self._tasks())
        splits: dict[str, Any] = {
            split: {"tokens": 0, "documents": 0, "files": []} for split in self.corpus.splits
        }
        with self._workers(workers) as pool:
            # Verifying is begun first, since it takes long, and waited for last.
            for number in sorted(range(len(parts)), key=lambda n: "file" in parts.tasks[n]):
                for _waiting in parts.until_done(number, self._work, pool):
                    yield self._progress(splits)
                self._take(parts.result(number), parts.tasks[number], splits)
                yield self._progress(splits)
        shutil.rmtree(self._home)
        return splits

    def share(self, workers: int) -> Generator[TokenizingProgress, None, None]:
        """Do parts in as many processes, this one too, for the process that puts them together,
        and wait for it.
        """
        with self._workers(workers - 1):
            for _part in self.help():
                yield TokenizingProgress(0, None)
        while is_held(self.folder):
            time.sleep(WAIT_SECONDS)
            yield TokenizingProgress(0, None)

    def help(self) -> Iterator[None]:
        """`share` in this process alone."""
        return share(self.folder, [self._home], self._work)

    def _workers(self, count: int) -> Workers:
        request = {"folder": str(self.folder), "corpus": str(self.corpus.folder)}
        return Workers(count, __name__, request)

    def _tasks(self) -> list[Task]:
        """Files to verify, and the documents of each shard in order."""
        files = {name: None for part in self.corpus.metadata.values() for name in part.sha256}
        tasks: list[Task] = [{"file": name} for name in files]
        size = max(PART_BYTES, 1 << (_bytes_of(self.corpus) // PARTS_AT_MOST).bit_length())
        for split in self.corpus.splits:
            ends = self.corpus.document_ends(split)
            places = np.arange(size, self.corpus.bytes_of(split), size).astype(ends.dtype)
            cuts = np.unique([0, *(np.searchsorted(ends, places) + 1), len(ends)])
            tasks += [
                {"split": split, "first": first, "stop": stop}
                for first, stop in pairwise(cuts.tolist())
            ]
        return tasks

    def _progress(self, splits: dict[str, Any]) -> TokenizingProgress:
        done = sum(entry["documents"] for entry in splits.values())
        total = sum(map(self.corpus.document_count, splits))
        return TokenizingProgress(sum(entry["tokens"] for entry in splits.values()), done / total)

    def _take(self, part: Path, task: Task, splits: dict[str, Any]) -> None:
        """Give a part's shard its name; a part that failed, or that a power cut shortened, is done
        again here.
        """
        found = read_state(part)
        if "file" in task:
            if not found:
                self._make(task, part)
            return
        entry = splits[task["split"]]
        target = self.folder / f"{task['split']}-{len(entry['files']):05d}.npy"
        if not found or not self._moved(part, target, found):
            part = self._home / "again"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            found = self._make(task, part)
            self._moved(part, target, found)
        (file,) = found["files"]
        entry["files"].append({**file, "name": target.name})
        for name in ("tokens", "documents"):
            entry[name] += found[name]

    def _moved(self, part: Path, target: Path, found: dict[str, Any]) -> bool:
        """Move a part's shard, unless a process that was stopped has; whether it is whole there."""
        (file,) = found["files"]
        with contextlib.suppress(FileNotFoundError):
            (part / file["name"]).replace(target)
        length = array_bytes(file["tokens"], self.tokenizer.dtype)
        return target.is_file() and target.stat().st_size == length

    def _work(self, task: Task, out: Path) -> None:
        try:
            found = self._make(task, out)
        except SemigptError:
            found = {}  # the process that takes the part does it again, and raises what comes then
        write_state(out, found)

    def _make(self, task: Task, out: Path) -> dict[str, Any]:
        """Do a part, on one core: the manifest's entry for its documents."""
        if "file" in task:
            self.corpus.verify_file(task["file"])
            return task
        split, first, stop = task["split"], task["first"], task["stop"]
        documents = islice(self.corpus.documents(split, first), stop - first)
        dtype = self.tokenizer.dtype
        with ShardWriter(out, split, dtype, tokens_per_shard=IN_ONE_SHARD) as writer:
            for batch in batches(documents):
                for ids in self.tokenizer.encode_batch(batch):
                    writer.add(ids)
            return writer.finish()


def _bytes_of(corpus: Corpus) -> int:
    return sum(map(corpus.bytes_of, corpus.splits))


def main() -> None:
    """What a worker process runs."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the library's: a worker keeps to one core
    with contextlib.suppress(OSError, MemoryError, SemigptError):  # another process does its part
        request = worker_request()
        folder, corpus = Path(request["folder"]), open_corpus(Path(request["corpus"]))
        tokenizer = load_tokenizer(folder / "parts" / "tokenizer")
        for _part in TokenParts(folder, corpus, tokenizer).help():
            pass
