"""A large source is cut into parts, which any number of processes read; the first one joins them.

    FOLDER/parts-auto/scan/    pieces of large text files: encoding and lines are looked at first
    FOLDER/parts-auto/read/    parts in reading order, each as `writer.PartWriter` leaves it

A part is some files, or whole lines of a large one. It depends on files and sizes alone, so the
corpus is, byte for byte, the one that is read in one go.

What a file is may depend on those before it: its column, and whether another held the same text. A
part waits for the first of its format to tell the column. When the parts are joined, one that
assumed something else than is true by then is read again.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
import secrets
import shutil
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from semigpt.corpus.files import as_numbers, open_span
from semigpt.corpus.formats import PLAIN_TEXT, file_format, is_running
from semigpt.corpus.library import quiet_datasets
from semigpt.corpus.plain import reads_alone
from semigpt.corpus.reading import UNREAD, Reading, Span
from semigpt.corpus.running import unit_of
from semigpt.corpus.sources import open_source
from semigpt.corpus.spec import Source, identity, parse_spec
from semigpt.corpus.splits import SplitPlan, plan_splits
from semigpt.corpus.text import (
    CHUNK_BYTES,
    HEAD_BYTES,
    UTF_8,
    DecodingError,
    TextScan,
    may_be_utf_8,
    scan_stream,
)
from semigpt.corpus.writer import CorpusWriter, PartWriter
from semigpt.errors import CorpusError
from semigpt.language import _, language, speaking
from semigpt.parts import Parts, Task, read_state, share, write_state
from semigpt.pool import Workers, worker_request
from semigpt.storage import JournalClock

__all__ = ["Asked", "SourceParts", "is_large", "may_be_large"]

LARGE = 1 << 27  # bytes: a smaller source is read before worker processes have started
PART_BYTES = 1 << 24
PARTS_AT_MOST = 1 << 12
FIRST_BYTES = 1 << 20  # the first of a format, which others wait for
BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
STAGES = ("scan", "read")
DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError)

File = tuple[str, int]  # a stream and the number of a file in it


@dataclass(frozen=True)
class Asked:
    """What is staged: a SPEC (`staging.in_one_string`), its column, and how it is split."""

    spec: str
    column: str | None
    offset: float | None

    @cached_property
    def source(self) -> Source:
        return parse_spec(self.spec)


def may_be_large(source: Source) -> bool:
    """Whether a source may turn out to be large, without a look into it."""

    def size_of(told: dict[str, Any]) -> int:
        files: int = sum(size for _, size, _ in told.get("files", ()))
        return files + sum(map(size_of, told.get("sources", ())))

    return size_of(identity(source)) >= LARGE


def is_large(reading: Reading, plan: SplitPlan) -> bool:
    """Whether a source is read in parts: it is files, and they are large."""
    if not all(stream in reading.file_sizes for stream in plan.streams):
        return False
    return sum(sum(reading.file_sizes[stream]) for stream in plan.streams) >= LARGE


class SourceParts:
    """The parts of a source in the folder of its staging; each process that reads some has one."""

    def __init__(self, folder: Path, asked: Asked) -> None:
        self.folder, self.asked, self.source = folder, asked, asked.source
        rule = "auto" if asked.offset is None else asked.offset
        self._home = folder / f"parts-{rule}"

    def append_to(self, writer: CorpusWriter, workers: int) -> Generator[float, None, None]:
        """Append all parts, in order, to what `writer` has of them; the fraction that it has now
        and then. With several workers they are processes of their own.

        Raises CorpusError as a reader of the whole source does.
        """
        before = identity(self.source)
        self._home.mkdir(exist_ok=True)
        writer.journal(None)  # from here on another process resumes
        with self._workers(workers if workers > 1 else 0) as pool:
            scans = Parts.create(self._home / STAGES[0], list(self._pieces()))
            for number in range(len(scans)):
                for _waiting in scans.until_done(number, self._work, pool):
                    yield 0.0
            told = {"language": language()}  # of what is said of files, also by other machines
            parts = Parts.create(self._home / STAGES[1], [t | told for t in self._tasks(scans)])
            yield from self._joined(parts, writer, pool)
        if identity(self.source) != before:
            raise CorpusError(
                _(
                    "{path}: it changed while it was read: give the same command again once it is "
                    "whole"
                ).format(path=self.asked.spec)
            )
        shutil.rmtree(self._home, ignore_errors=True)

    def share(self, workers: int) -> Generator[None, None, None]:
        """`help`, with as many processes in all."""
        with self._workers(workers - 1):
            yield from self.help()

    def help(self) -> Generator[None, None, None]:
        """Do parts until all are done, or the process that joins them has given up."""
        quiet = contextlib.nullcontext() if reads_alone(self.source) else quiet_datasets()
        stages = [self._home / name for name in STAGES]
        try:
            with quiet:
                yield from share(self.folder, stages, self._work)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _workers(self, count: int) -> Workers:
        return Workers(count, __name__, {"folder": str(self.folder), "asked": asdict(self.asked)})

    @cached_property
    def _scratch(self) -> Path:
        return self._home / f"scratch-{secrets.token_hex(6)}"

    @cached_property
    def _reading(self) -> Reading:
        self._scratch.mkdir()
        return open_source(self.source, self.asked.column, self._scratch)

    @cached_property
    def _plan(self) -> SplitPlan:
        return plan_splits(self._reading.splits, self.asked.offset)

    # Joining

    def _joined(
        self, parts: Parts, writer: CorpusWriter, pool: Workers
    ) -> Generator[float, None, None]:
        total = sum(task["bytes"] for task in parts.tasks)
        done, removed = 0, 0
        clock = JournalClock()
        for number, task in enumerate(parts.tasks):
            done += task["bytes"]
            if number < (writer.parts or 0):  # before this process began
                continue
            for _waiting in parts.until_done(number, self._work, pool):
                yield (done - task["bytes"]) / total
            self._append(parts.result(number), task, writer)
            if clock.due():
                writer.journal(None)
                for joined in range(removed, number + 1):
                    parts.remove(joined)
                removed = number + 1
                clock.reset()
            yield done / total

    def _append(self, part: Path, task: Task, writer: CorpusWriter) -> None:
        """Append a part; it is read again where it was broken, or is another than was assumed."""
        reading = writer.reading.of(task["stream"])
        found = read_state(part)
        if found and _holds(found, task, reading):
            with contextlib.suppress(*DAMAGED):
                writer.append(part, found, task["stream"])
                return
        again = self._home / "again"
        shutil.rmtree(again, ignore_errors=True)
        again.mkdir()
        found = self._read(task, again, dict(reading.columns), list(reading.texts))
        writer.append(again, found, task["stream"])

    # Doing a part

    def _work(self, task: Task, out: Path) -> None:
        is_read = "span" in task
        found = self._read_first(task, out) if is_read else self._scan(task)
        write_state(out, found)

    def _read_first(self, task: Task, out: Path) -> dict[str, Any]:
        """Read a part without those before it; what was found, and what it assumed."""
        columns: dict[str, str] = {}
        for number in task["after"]:
            first = read_state(self._home / STAGES[1] / f"{number:05d}")
            columns |= first["source"]["columns"] if first else {}
        asked = _AskedColumns(columns)
        try:
            return self._read(task, out, asked, []) | {"asked": asked.asked}
        except (CorpusError, MemoryError):
            return {}  # the process that joins the parts reads it again, and raises what comes then

    def _read(
        self, task: Task, out: Path, columns: dict[str, str], texts: list[int]
    ) -> dict[str, Any]:
        """Write a part of the source to a folder; what `CorpusWriter.append` has to know of it."""
        reading, stream = self._reading, task["stream"]
        own = reading.of(stream)
        span = Span(*task["span"]) if task["span"] else None
        own.resume(
            copy.deepcopy(dict(UNREAD))
            | {"columns": columns, "texts": texts, "file_index": task["first"]}
            | {"scan": task["scan"], "row": max(span.row, 1) if span and span.start else 0}
        )
        own.span, own.end = span, task["stop"]
        writer = PartWriter(out, self._plan, reading)
        with contextlib.closing(writer), speaking(task["language"]):
            for text, bits in reading.splits[stream]():
                writer.add(text, bits, stream)
            return writer.finish(own)

    def _scan(self, task: Task) -> dict[str, Any]:
        """What is found in a piece of a text file: `scan` is None where it is not UTF-8."""
        path = self._reading.files[task["stream"]][task["file"]]
        if task["digest"]:
            digest = hashlib.blake2b(digest_size=8)
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
            return {"digest": int.from_bytes(digest.digest())}
        start, stop = (_line_start(path, task[name]) for name in ("start", "stop"))
        if start is None or stop is None:
            return {"scan": None}
        try:
            with open_span(path, start, stop) as file:
                scan = scan_stream(file, UTF_8, brief=file_format(path) != PLAIN_TEXT)
        except DecodingError:
            return {"scan": None}
        told = {"start": start, "stop": stop, "line_ends": scan.line_ends}
        return {**told, "scan": as_numbers(scan), "opens": scan.opens, "closes": scan.closes}

    # Cutting

    @cached_property
    def _part_bytes(self) -> int:
        total = sum(sum(self._reading.file_sizes[stream]) for stream in self._plan.streams)
        return max(PART_BYTES, 1 << (total // PARTS_AT_MOST).bit_length())

    def _files(self) -> Iterator[tuple[File, Path, int]]:
        """Every file in reading order, with its size."""
        for stream in self._plan.streams:
            sizes = self._reading.file_sizes[stream]
            for number, path in enumerate(self._reading.files[stream]):
                yield (stream, number), path, sizes[number]

    def _pieces(self) -> Iterator[Task]:
        """The pieces of large text files, and the digests of whole ones."""
        for (stream, number), path, size in self._files():
            cut_at = self._reading.cut_at[stream][number]
            if cut_at is None or size < 2 * self._part_bytes or not _begins_as_utf_8(path):
                continue
            task = {"stream": stream, "file": number, "digest": False}
            places = [0, FIRST_BYTES, *range(self._part_bytes, size, self._part_bytes), size]
            yield from (task | {"start": a, "stop": b} for a, b in pairwise(places))
            if file_format(path) == PLAIN_TEXT:
                yield task | {"digest": True}

    def _tasks(self, scans: Parts) -> list[Task]:
        """The parts in reading order."""
        pieces: dict[File, list[dict[str, Any]]] = {}
        for number, task in enumerate(scans.tasks):
            piece = read_state(scans.result(number))
            pieces.setdefault((task["stream"], task["file"]), []).append(piece)
        cut = {file: self._spans(file, found) for file, found in pieces.items()}
        tasks: list[Task] = []
        firsts: dict[tuple[str, str], int] = {}  # of each format, the part that the others wait for
        group: dict[str, Any] = {}  # files that become one part, as far as they are known

        def end_group() -> None:
            if group:
                tasks.append({**group, "after": sorted(group["after"])})
                group.clear()

        for file, path, size in self._files():
            stream, number = file
            # Of what asks for the column of an earlier file; "" for running text.
            kind = "" if is_running(path) else str(file_format(path))
            first = firsts.get((_source_of(stream), kind))
            is_first = bool(kind) and first is None
            after = () if first is None else (first,)
            scan, spans = cut.get(file, ([], []))
            if group and (group["stream"] != stream or is_first or spans):
                end_group()
            if is_first:
                firsts[_source_of(stream), kind] = len(tasks)
            place = {"stream": stream, "first": number, "stop": number + 1}
            for span in spans:
                task = {**place, "bytes": span.stop - span.start, "span": span, "scan": scan}
                tasks.append({**task, "after": after})
                after = (firsts[_source_of(stream), kind],) if kind else ()
            if spans:
                continue
            group.update(
                {} if group else {**place, "bytes": 0, "span": None, "scan": None, "after": set()}
            )
            group["stop"] = number + 1
            group["bytes"] += size
            group["after"].update(after)
            if is_first or group["bytes"] >= self._part_bytes:
                end_group()
        end_group()
        return tasks

    def _spans(self, file: File, pieces: list[dict[str, Any]]) -> tuple[list[int], list[Span]]:
        """A file's scan and the spans in which it is read, of which a file read whole has none."""
        stream, number = file
        path = self._reading.files[stream][number]
        digest = next((piece["digest"] for piece in pieces if "digest" in piece), 0)
        found = [piece for piece in pieces if "digest" not in piece]
        if not all(piece.get("scan") for piece in found):
            return [], []
        found = [piece for piece in found if piece["start"] < piece["stop"]]
        sums = map(sum, zip(*(piece["scan"] for piece in found), strict=True))
        _encoding, characters, lines, paragraphs, size, _digest = sums
        paragraphs -= sum(a["closes"] and b["opens"] for a, b in pairwise(found))
        scan = TextScan(UTF_8, characters, lines, paragraphs, size, digest)
        rows, places = 0, [(0, 0)]
        by_paragraph = (self._reading.cut_at[stream][number] or unit_of(scan)) == "paragraph"
        for before, piece in pairwise(found):
            rows += before["line_ends"]
            place = _after_blank_line(path, piece["start"]) if by_paragraph else piece["start"]
            if place is not None and places[-1][0] < place < size:
                places.append((place, rows))
        ends = [*(place for place, _ in places[1:]), size]
        spans = [
            Span(start, stop, row, stop == size)
            for (start, row), stop in zip(places, ends, strict=True)
        ]
        return as_numbers(scan), spans


class _AskedColumns(dict[str, str]):
    """The columns of earlier files; `asked` are those that were asked for, with the answer."""

    def __init__(self, columns: dict[str, str]) -> None:
        super().__init__(columns)
        self.asked: dict[str, str | None] = {}
        self._own: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self._own:
            self.asked[key] = super().get(key)
        return super().get(key, default)

    def __setitem__(self, key: str, column: str) -> None:
        self._own.add(key)
        super().__setitem__(key, column)


def _holds(found: dict[str, Any], task: Task, reading: Reading) -> bool:
    """Whether a part was read as it is after all that came before."""
    columns = all(reading.columns.get(key) == asked for key, asked in found["asked"].items())
    texts = {*found["source"]["texts"], *((task["scan"] or [0])[-1:])}
    return columns and texts.isdisjoint(reading.texts)


def _source_of(stream: str) -> str:
    """Which of several sources a stream belongs to."""
    return stream.partition(":")[0] if ":" in stream else ""


def _begins_as_utf_8(path: Path) -> bool:
    with path.open("rb") as file:
        return may_be_utf_8(file.read(HEAD_BYTES))


def _line_start(path: Path, place: int) -> int | None:
    """Where the first line at or after `place` begins; None where that is far away."""
    return 0 if place == 0 else _end_of_match(path, re.compile(rb"\n"), place - 1)


def _after_blank_line(path: Path, place: int) -> int | None:
    return _end_of_match(path, BLANK_LINE, place - 1)


def _end_of_match(path: Path, pattern: re.Pattern[bytes], place: int) -> int | None:
    """Where the first match after `place` ends, or the file; None where that is far away."""
    with path.open("rb") as file:
        for length in (HEAD_BYTES, PART_BYTES):
            file.seek(place)
            head = file.read(length)
            if match := pattern.search(head):
                return place + match.end()
        return None if file.read(1) else place + len(head)


def main() -> None:
    """What a worker process runs."""
    with contextlib.suppress(OSError, MemoryError):  # another process does its part
        request = worker_request()
        for _part in SourceParts(Path(request["folder"]), Asked(**request["asked"])).help():
            pass
