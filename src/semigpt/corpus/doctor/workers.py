"""Documents in chunks through worker processes, and back in order."""

import concurrent.futures
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeAlias

from semigpt.corpus.doctor.plan import Plan
from semigpt.corpus.doctor.repair import Examined, examine
from semigpt.errors import CorpusError
from semigpt.language import _
from semigpt.pool import executor

__all__ = ["Chunk", "examined_chunks"]

CHUNK_CHARACTERS = 1 << 20
_DOCUMENT_CHARACTERS = (
    64  # added for each document: a million empty lines are no small chunk either
)

Chunk: TypeAlias = list[tuple[str, str]]
"""Documents with the names of their splits: (split, text)."""


def examined_chunks(
    documents: Iterator[tuple[str, str]], plan: Plan, workers: int
) -> Iterator[tuple[Chunk, list[Examined]]]:
    """Every chunk with what was found in it, in order. A text of one chunk starts no process.

    Raises CorpusError if a worker process is killed.
    """
    chunks = _chunks(documents)
    head = list(itertools.islice(chunks, 2))
    chunks = itertools.chain(head, chunks)
    if workers == 1 or len(head) < 2:
        for chunk in chunks:
            yield chunk, examine([text for _, text in chunk], plan)
        return
    pool = executor(workers)
    waiting: deque[tuple[Chunk, concurrent.futures.Future[list[Examined]]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(examine, [text for _, text in chunk], plan)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    except BrokenProcessPool:
        raise CorpusError(
            _("a worker process was killed, most likely for want of memory: try --workers 1")
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(documents: Iterator[tuple[str, str]]) -> Iterator[Chunk]:
    chunk: Chunk = []
    characters = 0
    for split, text in documents:
        chunk.append((split, text))
        characters += len(text) + _DOCUMENT_CHARACTERS
        if characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
