"""A corpus through the doctor: `check` counts what is wrong, `clean` writes it repaired.

    OUT/
      README.md                           the dataset card: what was found and repaired, the command
      data/train-00000-of-00002.parquet   one column, `text`; the same for the source's other splits

Documents are read as `corpus.sources` reads them. Splits come in the order test, validation, train,
so of two equal documents the held-out one stays. Chunks of a million characters go through one
process per core and come back in order: the result is the same for any number of processes. In
memory are a few chunks, 12 to 36 bytes per document to recognize duplicates, and with
`near_duplicates` 2 to 4 kB per document.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from semigpt.corpus.broken_text import EncodingRepairs
from semigpt.corpus.doctor.changes import excerpt
from semigpt.corpus.doctor.findings import FIXES, LOSSLESS, PERSONAL
from semigpt.corpus.doctor.near_duplicates import near_index
from semigpt.corpus.doctor.plan import Plan, make_plan, selected_fixes
from semigpt.corpus.doctor.repair import Examined
from semigpt.corpus.doctor.report import EXAMPLES, Example, Report
from semigpt.corpus.doctor.shards import ShardWriter
from semigpt.corpus.doctor.workers import examined_chunks
from semigpt.corpus.duplicates import Seen
from semigpt.corpus.library import quiet_datasets
from semigpt.corpus.sources import open_source, passed_over
from semigpt.corpus.spec import parse_spec
from semigpt.corpus.splits import READING_ORDER, own_name, plan_splits
from semigpt.corpus.staging import Progress, in_one_string, with_repair
from semigpt.corpus.text import EncodingError
from semigpt.errors import CorpusError
from semigpt.language import _
from semigpt.pool import processes
from semigpt.storage import fsync, resumable_folder

__all__ = ["check", "clean", "selected_fixes"]


def check(
    spec: str | Sequence[str],
    *,
    column: str | None = None,
    squeeze: int | None = None,
    min_characters: int | None = None,
    near_duplicates: float | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Count what is wrong with the text of `spec`; nothing is written.

    What another finding hides is counted as it will be once that is repaired: the control
    characters inside mojibake do not count as control characters.

    squeeze:         a character more often than this in a row is a repetition (3)
    min_characters:  a document of fewer is tiny (10)
    near_duplicates: the fraction of 5-character shingles in common from which documents are near
                     duplicates; None: not detected. It needs the extra `text`
    workers:         processes; None: one per core

    Raises CorpusError as `sources` does, SettingsError for a value that cannot work.
    """
    plan = make_plan(FIXES, squeeze, near_duplicates, min_characters)
    report = Report(in_one_string(spec))
    with tempfile.TemporaryDirectory(prefix="semigpt-text-") as scratch:
        for _ in _repaired(report, plan, column, workers, Path(scratch), progress):
            pass
    for row in report.rows.values():
        row.repaired = 0
    return report


def clean(
    spec: str | Sequence[str],
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
    """Write the text of `spec`, repaired as asked, to the new folder `out`: Parquet with a card.

    fixes:         what to repair, as `selected_fixes` gives it
    mask_personal: put `[전화번호]` and the like in place of personal data
    squeeze, min_characters, near_duplicates: repair these too; see `check`
    command:       the command that the card names

    The folder is written atomically. Lone surrogates become U+FFFD in any case, because Parquet
    cannot hold them.

    Raises CorpusError as `sources` does, and if `out` exists or cannot be written; SettingsError as
    `check` does.
    """
    limits = {"repeats": squeeze, "tiny": min_characters, "near-duplicate": near_duplicates}
    selected = fixes | {"surrogates"}
    selected |= {name for name, value in limits.items() if value is not None}
    if near_duplicates is not None:
        selected |= {"duplicate"}
    if mask_personal:
        selected |= PERSONAL
    plan = make_plan(selected, squeeze, near_duplicates, min_characters)
    if out.exists() or out.is_symlink():
        raise CorpusError(
            _("{out}: it exists already: name a folder that does not, with --out").format(out=out)
        )
    report = Report(in_one_string(spec))
    out = out.absolute()
    try:
        with resumable_folder(out.parent) as temporary:
            documents = _repaired(report, plan, column, workers, temporary, progress)
            _write(temporary / "dataset", documents, report, command)
            (temporary / "dataset").rename(out)
            fsync(out.parent)
    except OSError as error:
        raise CorpusError(
            _(
                "{out}: cannot be written ({reason}): "
                "free some room, or name another folder with --out"
            ).format(out=out, reason=error.strerror or error)
        ) from None
    return report


def _write(
    folder: Path, documents: Iterator[tuple[str, str]], report: Report, command: str
) -> None:
    """Write documents with their splits, and then the card, to the new folder `folder`."""
    (folder / "data").mkdir(parents=True)
    writers: dict[str, ShardWriter] = {}
    for split, text in documents:
        if split not in writers:
            writers[split] = ShardWriter(folder / "data", split)
        writers[split].add(text)
    if not writers:
        raise CorpusError(_("{spec}: nothing is left of it to write").format(spec=report.spec))
    report.kept = {
        split: writers[split].finish() for split in reversed(READING_ORDER) if split in writers
    }
    card = folder / "README.md"
    card.write_text(report.card(command), encoding="utf-8")
    for path in (card, folder / "data", folder):
        fsync(path)


def _repaired(
    report: Report,
    plan: Plan,
    column: str | None,
    workers: int | None,
    scratch: Path,
    progress: Progress | None,
) -> Iterator[tuple[str, str]]:
    """The documents to keep, as (split, text); the report is filled on the way."""
    count = processes(workers)
    near = None if plan.near_duplicates is None else near_index(plan.near_duplicates)
    seen = Seen()
    started = time.perf_counter()
    source = parse_spec(report.spec)
    with quiet_datasets():
        opened = open_source(source, column, scratch)
        repairs = EncodingRepairs()
        if "encoding" in plan.selected:
            opened.repair_with(repairs)
        streams = plan_splits(opened.splits, None).streams
        documents = (
            (own_name(stream), text) for stream in streams for text, _ in opened.splits[stream]()
        )
        told = _telling_repair(documents, report.spec, column)
        for chunk, results in examined_chunks(told, plan, count):
            for (split, original), result in zip(chunk, results, strict=True):
                report.documents += 1
                report.characters += result.characters
                report.bytes += result.bytes
                text = original if result.text is None else result.text
                if _count(report, plan, result, text, seen, near):
                    yield split or "train", text
            if progress is not None:
                progress(report.documents, report.characters)
    _count_encodings(report, repairs)
    report.notes = [*passed_over(source), *opened.sentences()]
    report.encodings = dict(opened.encodings)
    report.seconds = time.perf_counter() - started


def _telling_repair(
    documents: Iterator[tuple[str, str]], spec: str, column: str | None
) -> Iterator[tuple[str, str]]:
    try:
        yield from documents
    except EncodingError as error:
        raise with_repair(error, spec, column) from None


def _count_encodings(report: Report, repairs: EncodingRepairs) -> None:
    row = report.rows["encoding"]
    row.documents, row.places, row.repaired = repairs.files, repairs.places, repairs.places
    row.examples = [Example(0, name, became) for name, became in repairs.examples]


def _count(report: Report, plan: Plan, result: Examined, text: str, seen: Seen, near: Any) -> bool:
    """Count what was found in a document. Returns whether to keep it."""
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
        row.examples.append(Example(report.documents, excerpt(text, 0, 0), ""))
    left_out = reason in plan.selected
    row.repaired += left_out
    return not left_out
