"""Stage the text of a `--data SPEC` on disk once, so that all that follows streams from there.

    CACHE/corpora/NAME-KEY/    see `corpus.corpus` for its files

CACHE is `$SEMIGPT_CACHE`, else `$XDG_CACHE_HOME/semigpt`, else `~/.cache/semigpt`. KEY is a hash of
what was asked for (`spec.identity`, column, split rule): a staged corpus opens in milliseconds and
imports nothing heavy, and a file that has changed is staged again. What the Hub held is kept until
`refresh=True`.

A staging writes a journal every ten seconds, beside the text written so far. The next one resumes
from it (`semigpt.storage`): files that were read are not read again, and rows that were read inside
a file are skipped. The result is byte for byte that of a staging without a stop. A Hub dataset is
resumed only at the commit that was being read.
"""

import contextlib
import hashlib
import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semigpt.corpus.corpus import Corpus, open_corpus
from semigpt.corpus.library import quietly
from semigpt.corpus.parting import Asked, SourceParts, is_large, may_be_large
from semigpt.corpus.plain import reads_alone
from semigpt.corpus.reading import printable
from semigpt.corpus.sources import open_source, passed_over
from semigpt.corpus.spec import HubSource, JoinedSource, Source, identity, parse_spec
from semigpt.corpus.splits import cut_by_character, parse_split_rule, plan_splits
from semigpt.corpus.text import EncodingError
from semigpt.corpus.writer import STAGING_VERSION, CorpusWriter, counted_documents
from semigpt.errors import CorpusError
from semigpt.language import N_, _
from semigpt.pool import processes
from semigpt.storage import (
    STOPPED,
    HeldElsewhereError,
    JournalClock,
    cache_folder,
    has_resumable,
    is_held,
    publish,
    read_settled,
    resumable_folder,
)

__all__ = ["Progress", "StagingProgress", "in_one_string", "prepare_corpus", "stage", "with_repair"]

PROGRESS_CHARACTERS = 1 << 20
TOO_FEW = 0.9  # where documents are too few to be split, the text is cut at this fraction
RESUMABLE = N_("what was read is kept: the same command resumes from there")
WAIT_SECONDS = 0.1  # for the process that puts the parts together
INTERRUPTED = (*STOPPED, GeneratorExit)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StagingProgress:
    """How far a staging has come.

    documents, characters: written so far
    fraction:              how much of the source's files is read, 0 to 1; None where it is unknown,
                           as of a stream from the Hub
    """

    documents: int
    characters: int
    fraction: float | None


def stage(
    spec: str | Sequence[str],
    *,
    column: str | None = None,
    split: str = "auto",
    cache: Path | None = None,
    refresh: bool = False,
    workers: int | None = None,
) -> Generator[StagingProgress, None, Corpus]:
    """Stage the text of `spec`, or open what was staged before; the generator returns the corpus.

        corpus = yield from stage("novel.txt")

    It yields its progress now and then. There it can be closed, or a KeyboardInterrupt thrown in,
    and loses nothing: the next staging of the same SPEC resumes.

    spec:     one, or several that are one corpus
    column:   where the documents are; see `reading.choose_column`
    split:    "auto" or "offset:F" with 0 < F < 1; see `splits`
    cache:    instead of CACHE
    refresh:  stage from scratch, for a Hub dataset that may have changed
    workers:  processes that read a large source (see `parting`); None: one per core

    The corpus appears whole or not at all: it is written to a resumable folder, flushed to the disk
    and renamed. Processes that stage the same corpus, on other machines too, share its parts where
    it is large; else they do not wait for each other, and the last drops its work. What a stopped
    process had written, the next one resumes, however it was stopped. A KeyboardInterrupt gets a
    note that says so, and so does the error of a Hub that is gone. Any other error leaves nothing:
    a full disk has its space back.

    Memory: a few hundred rows, for each document 8 bytes for its end and 12 to 36 for its digest,
    and what the library keeps of a Parquet file with nested columns, up to twice its text.

    Raises CorpusError, in one line, for all that is wrong with SPEC, its text or the cache folder.
    """
    offset = parse_split_rule(split)
    source = parse_spec(given := in_one_string(spec))
    spec = given.replace("\n", " + ")
    corpora, key = (cache or cache_folder()) / "corpora", _key(source, column, split)
    folder = corpora / f"{_slug(spec)}-{key}"
    asked = Asked(given, column, offset)
    workers = processes(workers)
    if folder.is_dir() and not refresh:
        # Another process may be putting a newer one in its place.
        return _with_notes(read_settled(corpora, lambda: open_corpus(folder)), source)
    is_hub = _is_hub(source)
    resumed_after = (*INTERRUPTED, CorpusError) if is_hub else INTERRUPTED
    try:
        with resumable_folder(
            *(corpora, key),
            from_scratch=refresh,
            resumed_after=resumed_after,
            shared=may_be_large(source) and not refresh,
        ) as temporary:
            if refresh or not folder.is_dir():  # published by the process that held it
                work = _write(asked, spec, temporary, workers)
                yield from (work if reads_alone(source) else quietly(work))
                publish(temporary, folder, replace=refresh)
    except HeldElsewhereError as held:
        yield from _help(held.args[0], asked, workers)
        return (yield from stage(given, column=column, split=split, cache=cache, workers=workers))
    except KeyboardInterrupt as stop:
        if has_resumable(corpora, key):
            stop.add_note(f"{spec}: {_(RESUMABLE)}")
        raise
    except EncodingError as error:
        raise with_repair(error, given, column) from None
    except CorpusError as error:
        if is_hub and has_resumable(corpora, key):
            raise CorpusError(f"{error} ({_(RESUMABLE)})") from None
        raise
    except OSError as error:
        raise CorpusError(
            _(
                "{corpora}: the corpus cannot be staged there ({reason}): "
                "free some space, or name another folder in SEMIGPT_CACHE"
            ).format(corpora=corpora, reason=error.strerror or error)
        ) from None
    return _with_notes(open_corpus(folder), source)


def _help(folder: Path, asked: Asked, workers: int) -> Generator[StagingProgress, None, None]:
    """Read parts for the process that puts the corpus together in `folder`."""
    with contextlib.closing(SourceParts(folder, asked).share(workers)) as helping:
        for _part in helping:
            yield StagingProgress(0, 0, None)
    while is_held(folder):
        time.sleep(WAIT_SECONDS)
        yield StagingProgress(0, 0, None)


def _with_notes(corpus: Corpus, source: Source) -> Corpus:
    """A corpus with what is passed over now, as a run that has begun since the text was staged."""
    return replace(corpus, findings=[*passed_over(source), *corpus.findings])


def prepare_corpus(
    spec: str | Sequence[str],
    *,
    column: str | None = None,
    split: str = "auto",
    cache: Path | None = None,
    refresh: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Corpus:
    """The text of `spec`, staged: `stage` run to its end.

    progress: called now and then with the documents and characters written so far; a
              KeyboardInterrupt from it stops the staging, which the next call resumes

    The other arguments, and the CorpusError it raises, are `stage`'s.
    """
    steps = stage(spec, column=column, split=split, cache=cache, refresh=refresh, workers=workers)
    with contextlib.closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as done:
                corpus: Corpus = done.value
                return corpus
            try:
                if progress is not None:
                    progress(step.documents, step.characters)
            except KeyboardInterrupt as stop:
                steps.throw(stop)


def with_repair(error: EncodingError, spec: str, column: str | None) -> CorpusError:
    """The error with the command that repairs the text; `spec` as `in_one_string` gives it."""
    first = spec.partition("\n")[0]
    name = f"{_slug(Path(first).name.partition('.')[0])}-clean"
    column_flag = [] if column is None else ["--column", column]
    flags = [*column_flag, "--fix", "encoding", "--out", name]
    command = shlex.join(["semigpt", "text", "clean", *spec.split("\n"), *flags])
    return CorpusError(
        _("{error}; this repairs it, each change counted: {command}").format(
            error=error, command=command
        )
    )


def in_one_string(spec: str | Sequence[str]) -> str:
    """One SPEC or several as a string, without bytes that are no UTF-8; see `spec`."""
    return printable(spec if isinstance(spec, str) else "\n".join(spec))


def _is_hub(source: Source) -> bool:
    parts = source.sources if isinstance(source, JoinedSource) else (source,)
    return any(isinstance(part, HubSource) for part in parts)


def _key(source: Source, column: str | None, split: str) -> str:
    request = {
        "version": STAGING_VERSION,
        "source": identity(source),
        "column": column,
        "split": split,
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def _slug(spec: str) -> str:
    """A hint for people who look into the cache; the key beside it is what counts."""
    name = spec.removeprefix("hf:").rpartition("#")[0] or spec
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[-40:] or "corpus"


def _write(
    asked: Asked, spec: str, folder: Path, workers: int
) -> Generator[StagingProgress, None, None]:
    """Write the files of a corpus into `folder`, the manifest last, resuming what is there."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    notes: list[str] = []
    writer = yield from _read(asked, spec, scratch, workers)
    if writer.lacks_a_split:
        notes.append(
            _(
                "{documents} cannot be split by document: the text is cut "
                "by character, the first nine tenths are train and the rest is "
                "both validation and test"
            ).format(documents=counted_documents(writer.documents))
        )
        writer = yield from _read(replace(asked, offset=TOO_FEW), spec, scratch, workers)
    shutil.rmtree(scratch)
    writer.write_manifest(spec, notes)


def _read(
    asked: Asked, spec: str, scratch: Path, workers: int
) -> Generator[StagingProgress, None, CorpusWriter]:
    """Read every document once, write it to its split, and finish the splits' files.

    With "auto", splits carved out of train may be empty afterwards.
    """
    folder, offset = scratch.parent, asked.offset
    reading = open_source(asked.source, asked.column, scratch)
    plan = plan_splits(reading.splits, offset)
    in_parts = is_large(reading, plan)
    writer = CorpusWriter.open(folder, plan, reading, parts=0 if in_parts else None)
    with contextlib.closing(writer):
        if in_parts:
            with contextlib.closing(SourceParts(folder, asked).append_to(writer, workers)) as work:
                for fraction in work:
                    yield from _report(writer, None, fraction)
        else:
            yield from _read_streams(writer)
    if not writer.documents:
        why = f" ({'; '.join(said)})" if (said := reading.sentences()) else ""
        raise CorpusError(
            _("{spec}: no text in it: every document is empty, or there is none{why}").format(
                spec=spec, why=why
            )
        )
    for split in writer.splits.values():
        split.finish()
    if offset is not None:
        writer.splits["validation"] = cut_by_character(writer.splits["train"], offset, spec)
    elif writer.plan.is_own:
        for name, split in writer.splits.items():
            if not split.ends:
                raise CorpusError(
                    _(
                        "{spec}: no text in its {name} split: "
                        "cut train instead, with --split offset:0.9"
                    ).format(spec=spec, name=name)
                )
    return writer


def _read_streams(writer: CorpusWriter) -> Generator[StagingProgress, None, None]:
    reading, streams = writer.reading, writer.plan.streams
    clock = JournalClock()
    reported = writer.characters
    for stream in writer.streams_left:
        for text, bits in reading.splits[stream]():
            writer.add(text, bits, stream)
            if clock.due():
                writer.journal(stream)
                clock.reset()
            if writer.characters - reported >= PROGRESS_CHARACTERS:
                reported = writer.characters
                yield from _report(writer, stream, reading.fraction(streams, stream))
    if writer.documents:
        yield from _report(writer, None, 1.0 if reading.file_sizes else None)


def _report(
    writer: CorpusWriter, stream: str | None, fraction: float | None
) -> Generator[StagingProgress, None, None]:
    """Yield the progress; stopped there, nothing that was read is lost."""
    try:
        yield StagingProgress(writer.documents, writer.characters, fraction)
    except INTERRUPTED:
        writer.journal(stream)
        raise
