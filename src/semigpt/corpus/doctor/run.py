"""A corpus through the doctor: `check` counts what is wrong, `clean` writes it repaired.

    OUT/
      README.md                           the dataset card: what was found, what was repaired, the command
      data/train-00000-of-00002.parquet   one column, `text`; the same for the source's other splits

Documents are read as `corpus.sources` reads them, splits in the order test, validation, train, so that of two equal
documents the one that is held out stays. They travel in chunks of a million characters through a process for each core
and come back in order: the outcome is the same for any number of processes. In memory are a few chunks, 12 to 36
bytes a document to know its like again, and with `near_duplicates` its MinHash and bands, 2 to 4 kB.
"""

import concurrent.futures
import hashlib
import itertools
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semigpt.corpus.doctor.findings import (
    BY_NAME,
    SQUEEZE_DEFAULT,
    TEXT_FINDINGS,
    Change,
    Finding,
    excerpt,
    repeats,
    visible,
)
from semigpt.corpus.doctor.report import EXAMPLES, Example, Report
from semigpt.corpus.duplicates import Seen
from semigpt.corpus.library import quiet_datasets
from semigpt.corpus.sources import open_source
from semigpt.corpus.spec import parse_spec
from semigpt.corpus.splits import READING_ORDER
from semigpt.corpus.staging import Progress
from semigpt.errors import CorpusError, SettingsError
from semigpt.storage import fsync, resumable_folder

__all__ = ["check", "clean", "selected_fixes"]

CHUNK_CHARACTERS = 1 << 20
SHARD_BYTES = 256 << 20  # of text, before compression
TINY = 10  # what `check` calls a tiny document

# Near duplicates: the share of 5-character pieces two documents have in common (Broder 1997, "On the resemblance
# and containment of documents"), estimated from 128 minima.
SHINGLE = 5
PERMUTATIONS = 128
SEED = 42

LOSSLESS = frozenset(name for name, finding in BY_NAME.items() if finding.lossless)
FIXES = frozenset(name for name, finding in BY_NAME.items() if finding.flag == f"--fix {name}")
PERSONAL = frozenset(finding.name for finding in TEXT_FINDINGS if finding.private)


def selected_fixes(names: str) -> frozenset[str]:
    """The findings that `--fix NAME,NAME` repairs; "lossless" and "all" stand for several.

    Raises SettingsError for a name that is not one.
    """
    chosen: set[str] = set()
    for name in filter(None, (part.strip() for part in names.split(","))):
        match name:
            case "lossless":
                chosen |= LOSSLESS
            case "all":
                chosen |= FIXES
            case _ if name in FIXES:
                chosen.add(name)
            case _ if name in BY_NAME and BY_NAME[name].flag.startswith("--"):
                raise SettingsError(f"--fix {name}: that is repaired with {BY_NAME[name].flag}")
            case _:
                known = ", ".join(["lossless", "all", *(n for n in BY_NAME if n in FIXES)])
                raise SettingsError(f"--fix {name}: not something to fix; choose from {known}")
    return frozenset(chosen)


@dataclass(frozen=True)
class _Plan:
    """What happens to a document: the names of what is repaired in it, and how long a repetition may be."""

    selected: frozenset[str]
    squeeze: int
    near_duplicates: float | None
    min_characters: int

    def findings(self) -> list[Finding]:
        return [
            replace(finding, look=repeats(self.squeeze)) if finding.name == "repeats" else finding
            for finding in TEXT_FINDINGS
        ]


def _plan(
    selected: frozenset[str],
    squeeze: int | None,
    near_duplicates: float | None,
    min_characters: int | None,
) -> _Plan:
    if squeeze is not None and squeeze < 1:
        raise SettingsError(f"--squeeze {squeeze}: how often a character may repeat is at least 1")
    if min_characters is not None and min_characters < 1:
        raise SettingsError(f"--min-characters {min_characters}: give at least 1")
    if near_duplicates is not None and not 0.0 < near_duplicates <= 1.0:
        raise SettingsError(
            f"--near-duplicates {near_duplicates:g}: a share above 0 and up to 1, such as 0.8"
        )
    return _Plan(
        selected,
        SQUEEZE_DEFAULT if squeeze is None else squeeze,
        near_duplicates,
        TINY if min_characters is None else min_characters,
    )


def check(
    spec: str,
    *,
    column: str | None = None,
    squeeze: int | None = None,
    min_characters: int | None = None,
    near_duplicates: float | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Count what is wrong with the text of `spec`; nothing is written.

    What stands behind another finding is counted as it will be once that is repaired: the control characters inside
    mojibake are not counted as control characters.

    squeeze:          a character more often than this in a row is a repetition (3)
    min_characters:   a document of fewer is tiny (10)
    near_duplicates:  the share of 5-character pieces from which documents count as nearly the same; None: not looked
                      for, which needs the extra `text`
    workers:          processes, one for each core if None

    Raises CorpusError as `sources` does, SettingsError for a value that cannot work.
    """
    plan = _plan(FIXES, squeeze, near_duplicates, min_characters)
    report = Report(spec)
    with tempfile.TemporaryDirectory(prefix="semigpt-text-") as scratch:
        for _ in _examined(report, plan, column, workers, Path(scratch), progress):
            pass
    for row in report.rows.values():
        row.repaired = 0
    return report


def clean(
    spec: str,
    out: Path,
    *,
    column: str | None = None,
    fixes: frozenset[str] = LOSSLESS,
    mask_personal: bool = False,
    squeeze: int | None = None,
    min_characters: int | None = None,
    near_duplicates: float | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    command: str = "semigpt text clean",
) -> Report:
    """Write the text of `spec` to the new folder `out`, repaired as asked, as sharded Parquet with a card.

    fixes:            what to repair, as `selected_fixes` gives it
    mask_personal:    put `[전화번호]` and the like where personal data stands
    squeeze, min_characters, near_duplicates: repair these too; see `check`
    command:          how the card says it was made

    The folder appears whole or not at all. Lone surrogates become U+FFFD in any case: Parquet cannot hold them.

    Raises CorpusError as `sources` does, and when `out` exists or cannot be written; SettingsError as `check` does.
    """
    given = {"repeats": squeeze, "tiny": min_characters, "near-duplicate": near_duplicates}
    selected = fixes | {"surrogates"} | {name for name, value in given.items() if value is not None}
    if near_duplicates is not None:
        selected |= {"duplicate"}
    plan = _plan(
        selected | PERSONAL if mask_personal else selected, squeeze, near_duplicates, min_characters
    )
    if out.exists() or out.is_symlink():
        raise CorpusError(f"{out}: it exists already: name a folder that does not, with --out")
    report = Report(spec)
    out = out.absolute()
    try:
        with resumable_folder(out.parent) as temporary:
            folder = temporary / "dataset"
            (folder / "data").mkdir(parents=True)
            writers: dict[str, _Shards] = {}
            for split, text in _examined(report, plan, column, workers, temporary, progress):
                if split not in writers:
                    writers[split] = _Shards(folder / "data", split)
                writers[split].add(text)
            if not writers:
                raise CorpusError(f"{spec}: nothing is left of it to write")
            report.kept = {
                split: writers[split].finish()
                for split in reversed(READING_ORDER)
                if split in writers
            }
            card = folder / "README.md"
            card.write_text(report.card(command), encoding="utf-8")
            for path in (card, folder / "data", folder):
                fsync(path)
            folder.rename(out)
            fsync(out.parent)
    except OSError as error:
        raise CorpusError(
            f"{out}: cannot be written ({error.strerror or error}): free some room, or name another folder with --out"
        ) from None
    return report


class _Shards:
    """One split being written to Parquet files of SHARD_BYTES; their number is known, and in their names, at the end."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.paths: list[Path] = []
        self.writer: Any = None
        self.waiting: list[str] = []
        self.waiting_characters = self.shard_bytes = self.documents = 0

    def add(self, text: str) -> None:
        self.waiting.append(text)
        self.waiting_characters += len(text)
        self.documents += 1
        if self.waiting_characters >= CHUNK_CHARACTERS:
            self._flush()

    def finish(self) -> int:
        """Write the rest, name the shards; how many documents there are."""
        self._flush()
        self._close()
        for number, path in enumerate(self.paths):
            path.rename(self.folder / f"{self.split}-{number:05d}-of-{len(self.paths):05d}.parquet")
        return self.documents

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.waiting:
            return
        table = pa.table({"text": pa.array(self.waiting, pa.string())})
        if self.writer is None:
            self.paths.append(self.folder / f"{self.split}-{len(self.paths)}.part")
            self.writer = pq.ParquetWriter(self.paths[-1], table.schema, compression="zstd")
        self.writer.write_table(table)
        self.shard_bytes += table.nbytes
        self.waiting.clear()
        self.waiting_characters = 0
        if self.shard_bytes >= SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            fsync(self.paths[-1])
            self.writer, self.shard_bytes = None, 0


# ---------------------------------------------------------------------------------------------- one document


@dataclass(frozen=True)
class _Hit:
    """A finding in a document: how many places, how many were repaired, and one to show, "" when enough were shown."""

    name: str
    places: int
    repaired: int
    found: str
    became: str


@dataclass(frozen=True)
class _Examined:
    """What a worker says of a document. `text` is None where nothing in it was changed."""

    text: str | None
    characters: int
    bytes: int
    length: int  # after the repairs, without the white space around it
    digest: int
    minima: Any
    hits: tuple[_Hit, ...]


def _repair(
    text: str, plan: _Plan, findings: Iterable[Finding], shown: Counter[str]
) -> tuple[str, tuple[_Hit, ...]]:
    """`text` with what the plan repairs, and all that was found; `shown` counts the examples of each finding.

    Two texts go through the findings: one in which all is repaired, to count each thing once, and the one to keep.
    Mostly they are the same object.
    """
    ideal = kept = text
    hits = []
    guards: dict[object, bool] = {}
    for finding in findings:
        if finding.look is None:
            continue
        if finding.guard is not None:
            if finding.guard not in guards:
                guards[finding.guard] = (
                    finding.guard.search(ideal) is not None
                    or finding.guard.search(kept) is not None
                )
            if not guards[finding.guard]:
                continue
        selected = finding.name in plan.selected
        change = finding.look(ideal)
        own = change if kept is ideal else finding.look(kept)
        if change is None and own is None:
            continue
        guards.clear()
        repaired = own.count if own is not None and selected else 0
        # Where an earlier repair was not asked for, a thing can stand in the text to keep alone.
        seen_in, first = (ideal, change) if change is not None else (kept, own)
        if first is not None and (change is not None or repaired):
            shown[finding.name] += 1
            example = (
                _shown(finding, seen_in, first) if shown[finding.name] <= EXAMPLES else ("", "")
            )
            hits.append(
                _Hit(finding.name, change.count if change is not None else 0, repaired, *example)
            )
        if change is not None and (selected or finding.private or finding.name in FIXES):
            ideal = change.text
        if own is not None and selected:
            kept = own.text
    return kept, tuple(hits)


def _shown(finding: Finding, text: str, change: Change) -> tuple[str, str]:
    if not finding.private:
        return excerpt(text, change.start, change.end), visible(change.became)
    hidden = excerpt(change.text, change.start, change.start + len(change.became))
    return "".join(
        "*" if character.isascii() and character.isalnum() else character for character in hidden
    ), ""


def _examine(texts: list[str], plan: _Plan) -> list[_Examined]:
    """A chunk of documents, in a worker. Runs alike in the process that reads."""
    findings = plan.findings()
    shown: Counter[str] = Counter()
    done = []
    for text in texts:
        kept, hits = _repair(text, plan, findings, shown)
        encoded = kept.encode("utf-8", "surrogatepass")
        size = len(encoded) if kept is text else len(text.encode("utf-8", "surrogatepass"))
        digest = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest())
        stripped = len(kept.strip())
        minima = _minima(kept) if plan.near_duplicates is not None and stripped else None
        done.append(
            _Examined(
                None if kept is text else kept, len(text), size, stripped, digest, minima, hits
            )
        )
    return done


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise SettingsError(
            "--near-duplicates needs the package rensa: pip install 'semigpt[text]'"
        ) from None
    return rensa


def _bands(similarity: float) -> int:
    """The fewest bands of minima that let 99 % of the pairs of this similarity s meet: 1 − (1 − sʳ)ᵇ, r·b = 128.

    Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4. Whether they are alike is then estimated
    from all 128. Asked for 0.8, this leaves out 2 % of pairs of similarity 0.7, 47 % of 0.8, 95 % of 0.85 and all of 0.9;
    the library's own choice of bands 0, 14, 44 and 84 %.
    """
    bands = 1
    while bands < PERMUTATIONS and (1 - similarity ** (PERMUTATIONS // bands)) ** bands > 0.01:
        bands *= 2
    return bands


def _near_index(similarity: float) -> Any:
    return _rensa().RMinHashDeduplicator(similarity, PERMUTATIONS, True, _bands(similarity), SEED)


def _minima(text: str) -> Any:
    pieces = [text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))]
    minhash = _rensa().RMinHash(PERMUTATIONS, SEED)
    minhash.update([piece.encode("utf-8", "surrogatepass") for piece in pieces])
    return minhash


# --------------------------------------------------------------------------------------------- the whole text


def _examined(
    report: Report,
    plan: _Plan,
    column: str | None,
    workers: int | None,
    scratch: Path,
    progress: Progress | None,
) -> Iterator[tuple[str, str]]:
    """The documents to keep with their split, the report filled on the way."""
    if workers is not None and workers < 1:
        raise SettingsError(f"--workers {workers}: give at least 1")
    near = None if plan.near_duplicates is None else _near_index(plan.near_duplicates)
    seen = Seen()
    began = time.perf_counter()
    source = parse_spec(report.spec)
    with quiet_datasets():
        opened = open_source(source, column, scratch)
        streams = [split for split in READING_ORDER if split in opened.splits] or list(
            opened.splits
        )
        read = ((split, text) for split in streams for text, _ in opened.splits[split]())
        for chunk, results in _results(_chunks(read), plan, workers or available_cores()):
            for (split, original), result in zip(chunk, results, strict=True):
                report.documents += 1
                report.characters += result.characters
                report.bytes += result.bytes
                text = original if result.text is None else result.text
                if _take(report, plan, result, text, seen, near):
                    yield split or "train", text
            if progress is not None:
                progress(report.documents, report.characters)
    report.notes = list(opened.notes)
    report.encodings = dict(opened.encodings)
    report.seconds = time.perf_counter() - began


def _take(report: Report, plan: _Plan, result: _Examined, text: str, seen: Seen, near: Any) -> bool:
    """Count what was found in a document; whether to keep it."""
    for hit in result.hits:
        row = report.rows[hit.name]
        row.documents += hit.places > 0
        row.places += hit.places
        row.repaired += hit.repaired
        if hit.found and len(row.examples) < EXAMPLES:
            row.examples.append(Example(report.documents, hit.found, hit.became))
    reason = ""
    if not result.length:
        reason = "empty"
    elif not seen.add(result.digest):
        reason = "duplicate"
    elif near is not None and not near.add(str(report.documents), result.minima):
        reason = "near-duplicate"
    elif result.length < plan.min_characters:
        reason = "tiny"
    if not reason:
        return True
    row = report.rows[reason]
    row.documents += 1
    row.places += 1
    if len(row.examples) < EXAMPLES and reason != "empty":
        shown = excerpt(text, 0, 0)
        row.examples.append(Example(report.documents, shown, ""))
    dropped = reason in plan.selected
    row.repaired += dropped
    return not dropped


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Chunk = list[tuple[str, str]]


def _chunks(documents: Iterator[tuple[str, str]]) -> Iterator[Chunk]:
    chunk: Chunk = []
    characters = 0
    for split, text in documents:
        chunk.append((split, text))
        characters += len(text) + 64  # a million empty lines are no small chunk either
        if characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _results(
    chunks: Iterator[Chunk], plan: _Plan, workers: int
) -> Iterator[tuple[Chunk, list[_Examined]]]:
    """Every chunk with what was found in it, in order. A text of one chunk starts no process."""
    head = list(itertools.islice(chunks, 2))
    chunks = itertools.chain(head, chunks)
    if workers == 1 or len(head) < 2:
        for chunk in chunks:
            yield chunk, _examine([text for _, text in chunk], plan)
        return
    # Spawned, because a fork inherits the locks of the threads that pyarrow has started.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    waiting: deque[tuple[Chunk, concurrent.futures.Future[list[_Examined]]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_examine, [text for _, text in chunk], plan)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    except BrokenProcessPool:
        raise CorpusError(
            "a worker process was ended from outside, most likely for want of memory: try --workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C goes to the whole group, of which the process that reads ends the others; without it, they end too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
