"""ZIP files of XML, such as office programs and EPUB write: parts by name, elements by callback.

Parts are read in memory, each and all together up to a limit. XML is read by the standard library's
expat, event by event and without a tree; a document type that declares entities is refused, so
nothing expands.
"""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.parsers import expat

from semigpt.corpus.kinds.limits import MEMBERS, Budget, check_size
from semigpt.errors import CorpusError
from semigpt.language import N_, _

__all__ = [
    "SAVE_ANEW",
    "Attributes",
    "Elements",
    "Package",
    "check_members",
    "local",
    "parse_xml",
    "parsing",
    "repeated",
]

CHUNK_BYTES = 1 << 20
PARSED_AT_ONCE = 1 << 16
SAVE_ANEW = N_("open it in the program that made it and save it without a password")
Attributes = dict[str, str]


def check_members(archive: zipfile.ZipFile, where: str) -> None:
    """Raise CorpusError for an archive of too many members, or one that is encrypted."""
    members = archive.infolist()
    if len(members) > MEMBERS:
        raise CorpusError(
            _("{where}: holds more than {members:,} files: unpack it and give the folder").format(
                where=where, members=MEMBERS
            )
        )
    for member in members:
        if member.flag_bits & 1:
            raise CorpusError(
                _(
                    "{where}: is encrypted: unpack it with its password and give what was in it"
                ).format(where=where)
            )


class Package:
    """A ZIP file whose parts are read by name, within a budget."""

    def __init__(self, archive: zipfile.ZipFile, where: str, budget: Budget) -> None:
        self.names = frozenset(archive.namelist())
        self._archive = archive
        self.where = where
        self._budget = budget

    @staticmethod
    @contextmanager
    def open(path: Path, where: str, kind: str) -> "Iterator[Package]":
        with path.open("rb") as file:
            head = file.read(8)
        if head.startswith(b"\xd0\xcf\x11\xe0"):  # what Office and 한글 encrypt, they wrap in OLE
            raise CorpusError(
                _("{where}: is encrypted, or of an older format: {save_anew}").format(
                    where=where, save_anew=_(SAVE_ANEW)
                )
            )
        if not zipfile.is_zipfile(path):
            raise CorpusError(
                _("{where}: is no {kind}, or was cut short (it is not a ZIP file)").format(
                    where=where, kind=kind
                )
            )
        with zipfile.ZipFile(path) as archive:
            check_members(archive, where)
            yield Package(archive, where, Budget(where, path.stat().st_size))

    def read(self, name: str, missing: bytes | None = None) -> bytes:
        """A part's bytes; `missing` where there is no such part."""
        if name not in self.names and missing is not None:
            return missing
        parts = []
        size = 0
        with self._archive.open(name) as file:
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                self._budget.spend(len(chunk))
                check_size(f"{self.where}, {name}", size, _("save the document in parts"))
                parts.append(chunk)
        return b"".join(parts)


class Elements(dict[str, list[Attributes]]):
    """The attributes of every element by its local name."""

    def __missing__(self, name: str) -> list[Attributes]:
        return []

    @classmethod
    def of(cls, xml: bytes, where: str, part: str) -> "Elements":
        elements = cls()

        def start(name: str, attributes: Attributes) -> None:
            elements.setdefault(local(name), []).append(attributes)

        parse_xml(xml, where, part, start)
        return elements


def local(name: str) -> str:
    return name.rpartition(" ")[2]


def repeated(attributes: Attributes, name: str) -> int:
    """How often what has an attribute of this local name, of OpenDocument, is meant, at least 1."""
    value = next((value for key, value in attributes.items() if local(key) == name), "1")
    return int(value) if re.fullmatch("[1-9][0-9]{0,8}", value) else 1


def parse_xml(
    xml: bytes,
    where: str,
    part: str,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None] | None = None,
    data: Callable[[str], None] | None = None,
) -> None:
    """Call back for each element. Raises CorpusError for broken XML and for declared entities."""
    for _piece in parsing(xml, where, part, start, end, data):
        pass


def parsing(
    xml: bytes,
    where: str,
    part: str,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None] | None = None,
    data: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """`parse_xml`, a few kilobytes at a time: what was called back may be used in between."""

    def refuse(*_declaration: object) -> None:
        raise CorpusError(
            _("{where}, {part}: declares entities of its own, which are not expanded").format(
                where=where, part=part
            )
        )

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    try:
        for at in range(0, len(xml), PARSED_AT_ONCE):
            parser.Parse(xml[at : at + PARSED_AT_ONCE])
            yield
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise CorpusError(
            _("{where}, {part}: not XML that can be read ({error})").format(
                where=where, part=part, error=error
            )
        ) from None
    yield
