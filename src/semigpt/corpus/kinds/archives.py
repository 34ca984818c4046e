"""Archives: .zip and .tar, the latter also compressed. Members are read as files of a folder are.

A member is copied, one at a time, to a file of our own naming in the scratch folder and read by the
reader of its ending; nothing is written to a path that the archive names. They come in the order in
which they stand in it. Hidden ones are passed over; those of kinds that are not read are named in a
note. An archive may hold archives, and these none. All that is unpacked counts against one budget.
"""

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from semigpt.corpus.compression import compression_of, open_binary
from semigpt.corpus.kinds.limits import ARCHIVE_DEPTH, MEMBERS, Budget
from semigpt.corpus.kinds.source import plain_file
from semigpt.corpus.kinds.zipped_xml import check_members
from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Document, Reading
from semigpt.corpus.request import FileRequest, ReadDocuments, Reader
from semigpt.errors import CorpusError
from semigpt.language import N_, _

__all__ = ["ARCHIVES", "Find", "archive_reader"]

CHUNK_BYTES = 1 << 20
LINK = 0o12
NOT_READ = N_("not of a kind that is read here")
TOO_DEEP = N_("not read, because archives are read no deeper")

# The ending and the reader of a file of this name, None where it is not read.
Find = Callable[[Path], tuple[str, Reader] | None]
# The name of each member and its bytes, valid until the next one is asked for.
Members = Iterator[tuple[str, IO[bytes]]]


def archive_reader(find: Find) -> ReadDocuments:
    """A reader of archives whose members are read by what `find` finds."""

    def read(request: FileRequest) -> Iterator[Document]:
        reading, first = request.reading, request.reading.row
        # Members are read anew where a reading is resumed, and what they tell counts once.
        found = Reading(columns=reading.columns, texts=list(reading.texts), repairs=reading.repairs)
        archive = _Archive(find, found, Budget(str(request.path), request.path.stat().st_size))
        for number, (text, running) in enumerate(archive.documents(request, str(request.path)), 1):
            if number > first:
                reading.row, reading.running = number, running
                yield text, None
        reading.column = found.column
        reading.texts[:] = found.texts
        for name, count in found.encodings.items():
            reading.encodings[name] = reading.encodings.get(name, 0) + count
        _pass_on(found, reading)

    return read


def _pass_on(told: Reading, to: Reading, old: str = "", new: str = "") -> None:
    """Give the notes of one reading to another, `new` put in place of `old`."""
    for note in told.notes:
        to.note(note.replace(old, new) if old else note)
    for what, (count, name) in told.tallies.items():
        to.tallies.setdefault(what, [0, new or name])[0] += count


@dataclass(frozen=True)
class _Archive:
    """An archive while it is read, with those in it: what is common to all members.

    found: what the readers of the members found
    """

    find: Find
    found: Reading
    budget: Budget

    def documents(
        self, request: FileRequest, where: str, depth: int = 1
    ) -> Iterator[tuple[str, bool]]:
        """Each document of the members, and whether it is part of running text.

        Raises CorpusError, naming archive and member, where one is broken.
        """
        with library_errors(where, _("an archive")):
            for count, (name, file) in enumerate(ARCHIVES[request.extension](request, where), 1):
                if count > MEMBERS:
                    raise CorpusError(
                        _(
                            "{where}: holds more than {members:,} files: unpack it, give the folder"
                        ).format(where=where, members=MEMBERS)
                    )
                parts = PurePosixPath(name.replace("\\", "/")).parts
                if any(map(_is_hidden, parts)):
                    continue
                path = Path(parts[-1]) if parts else Path("_")
                reader = self.find(path)
                shown = f"{where.rpartition('/')[2]}, {name}"
                if reader is None or (reader[0] in ARCHIVES and depth == ARCHIVE_DEPTH):
                    self.found.tally(_(NOT_READ if reader is None else TOO_DEEP), shown)
                    continue
                copy = request.scratch / f"member{depth}{reader[0]}{compression_of(path)}"
                try:
                    with copy.open("wb") as out:
                        while chunk := file.read(CHUNK_BYTES):
                            self.budget.spend(len(chunk))
                            out.write(chunk)
                    member = self._member(request, copy, reader, f"{where}, {name}", depth)
                    if request.options.broken == "skip":
                        member = self._while_whole(member, shown)
                    yield from member
                finally:
                    copy.unlink(missing_ok=True)

    def _while_whole(
        self, member: Iterator[tuple[str, bool]], name: str
    ) -> Iterator[tuple[str, bool]]:
        """The documents of a member up to where it is broken, which is said."""
        try:
            yield from member
        except CorpusError as error:
            self.found.skip(name, error)

    def _member(
        self, request: FileRequest, copy: Path, reader: tuple[str, Reader], where: str, depth: int
    ) -> Iterator[tuple[str, bool]]:
        if not copy.stat().st_size:
            return
        extension, how = reader
        told = Reading(
            columns=self.found.columns,
            texts=self.found.texts,
            encodings=self.found.encodings,
            running=how.running,
            repairs=self.found.repairs,
        )
        scratch = request.scratch / f"in-member{depth}"
        scratch.mkdir(exist_ok=True)
        inner = FileRequest(copy, extension, request.column, request.options, scratch, told)
        with _naming(copy, where):
            if extension in ARCHIVES:
                yield from self.documents(inner, where, depth + 1)
            else:
                for text, _ in how.read(inner):
                    yield text, told.running
        self.found.column = told.column or self.found.column
        _pass_on(told, self.found, copy.name, where.rpartition("/")[2])


@contextmanager
def _naming(copy: Path, where: str) -> Iterator[None]:
    """Inside, an error about the copy of a member says where it is from."""
    try:
        yield
    except CorpusError as error:
        raise type(error)(str(error).replace(str(copy), where)) from None


def _is_hidden(part: str) -> bool:
    return part == "__MACOSX" or (part.startswith((".", "~$")) and part not in (".", ".."))


def _zip_members(request: FileRequest, where: str) -> Members:
    with plain_file(request) as path:
        if not zipfile.is_zipfile(path):
            raise CorpusError(
                _("{where}: is no ZIP file, or was cut short: copy it anew").format(where=where)
            )
        with zipfile.ZipFile(path) as archive:
            check_members(archive, where)
            for member in archive.infolist():
                if member.is_dir() or member.external_attr >> 28 == LINK:
                    continue
                with archive.open(member) as file:
                    yield _zip_name(member), file


def _zip_name(member: zipfile.ZipInfo) -> str:
    """A member's name: without a mark that it is UTF-8 it was read as CP437, and is rarely that."""
    name = member.filename
    if member.flag_bits & 0x800 or name.isascii():
        return name
    for encoding in ("utf-8", "cp949"):
        try:
            return name.encode("cp437").decode(encoding)
        except UnicodeError:
            continue
    return name


def _tar_members(request: FileRequest, _where: str) -> Members:
    with open_binary(request.path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            # Kept, they fill the memory; the type stubs do not know them.
            archive.members.clear()  # type: ignore[attr-defined]
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                yield member.name, file


ARCHIVES: dict[str, Callable[[FileRequest, str], Members]] = {
    ".zip": _zip_members,
    ".tar": _tar_members,
    ".tgz": _tar_members,
    ".tbz2": _tar_members,
    ".txz": _tar_members,
}
