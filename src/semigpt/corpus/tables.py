"""Tables in text: the document in a column of each row of a .csv or .tsv file.

Nothing is guessed that is not checked against the whole file first, and what is not plain is said:

separator  the ending's own (a comma, a tab), or the one that `sep=;` in the first line names. Where
           the rows do not fit it, a tab, semicolon, bar or comma that the first hundred rows fit
quotes     as RFC 4180 has them. Where that breaks, or joins lines that each look like a row (as
           many fields as the header, numbers where the column holds numbers), they are characters,
           if every row then fits the header and few fields stand in quotes; else refused
header     see `columns`, for what makes text of a row, too
rows       as many fields as the header. A separator behind the last field counts for none; so does
           a first field of row numbers that the header does not name
text       all columns are text: "007" and "NA" stay. Line ends are read as "\\n"
"""

import contextlib
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import filterfalse, islice

from semigpt.corpus.columns import ABOVE, are_numbers, name_columns, rows_above, text_of_row
from semigpt.corpus.files import open_text, scan_file
from semigpt.corpus.library import library_errors
from semigpt.corpus.reading import Document
from semigpt.corpus.request import SEPARATORS, FileRequest
from semigpt.corpus.survey import Dialect, Survey, is_blank, records, survey
from semigpt.corpus.text import TextScan
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["table_documents"]

OWN_SEPARATORS = {".csv": ",", ".tsv": "\t"}
OTHERS = ("\t", ";", "|", ",")
HEAD_ROWS = 100
HEAD_CHARACTERS = 1 << 20
FEW_ROWS = 3
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """How one file is read.

    names:   of the columns; the first `header` rows, which end in theirs, are skipped
    extra:   fields before the first that has a name
    short:   whether rows may lack the last field, which has no name
    lines:   of the file
    """

    dialect: Dialect
    names: tuple[str, ...]
    header: int
    extra: int
    short: bool
    lines: int

    def has(self, row: list[str]) -> bool:
        """Whether a row has the table's fields."""
        more = len(row) - len(self.names) - self.extra
        return not more or (more == 1 and not row[-1]) or (more == -1 and self.short)


def table_documents(request: FileRequest) -> Iterator[Document]:
    """The documents of a table; `reading.row` counts its rows.

    Raises CorpusError, naming the row, where they do not fit the header.
    """
    path, reading = request.path, request.reading
    scan = scan_file(path, reading)
    if scan is None or not scan.lines:
        return
    with library_errors(path, "a table"):
        table, head = _TableCheck(request, scan).table()
        if not head:  # names of columns, and no row
            return
        advice = _("the separator is read as {separator}").format(
            separator=_in_words(table.dialect.separator)
        )
        if table.header:
            advice += _("; #header=none reads the first row as text")
        text_of = text_of_row(request, table.names, head, advice)
        first, number = reading.row, 0
        with open_text(path, scan) as lines:
            reader = records(lines, table.dialect)
            for row in reader:
                if is_blank(row):
                    continue
                number += 1
                if number <= first or number <= table.header or not table.has(row):
                    continue
                reading.row = number
                reading.file_fraction = reader.line_num / table.lines
                text = text_of(row[table.extra :])
                if text is None:
                    raise CorpusError(
                        _("{path}, line {line_num}: not a conversation like the first one").format(
                            path=path, line_num=reader.line_num
                        )
                    )
                yield text, None


def _in_words(separator: str) -> str:
    names = {sign: name for name, sign in SEPARATORS.items()}
    return names.get(separator, separator)


class _TableCheck:
    """Finds out how a file is written, and refuses it where that cannot be told."""

    def __init__(self, request: FileRequest, scan: TextScan) -> None:
        self.request, self.scan = request, scan
        self.path, self.options, self.reading = request.path, request.options, request.reading
        self.own = OWN_SEPARATORS[request.extension]
        with open_text(self.path, scan) as file:
            self.head = file.read(HEAD_CHARACTERS).splitlines(keepends=True)
            if file.read(1):
                self.head.pop()

    def table(self) -> tuple[Table, list[list[str]]]:
        """How the file is read; and the first rows below its header, from the first named field."""
        skipped = bool(SEPARATOR_LINE.fullmatch(self.head[0])) if self.head else False
        dialect = Dialect(self._separator(skipped), "standard", int(skipped))
        dialect, found = self._quoting(dialect)
        extra = int(bool(found.misfits) and found.longer == found.rows - 1 and found.numbered)
        rows = self._rows(dialect)
        short = 0 < found.shorter == found.misfits and not rows[0][-1]
        if found.misfits and not extra and not short:
            self._misfits(found)
        above = rows_above(rows)
        names, header, note = name_columns(self.request, rows[above:])
        header += above
        for told in filter(None, (_(ABOVE) if above else "", note)):
            self.request.tell(told)
        self._say(found, dialect, extra)
        table = Table(dialect, names, header, extra, short, max(found.lines, 1))
        return table, [row[extra:] for row in rows[header:]]

    # Separator

    def _separator(self, skipped: bool) -> str:
        if self.options.separator is not None:
            return self.options.separator
        if skipped and (named := SEPARATOR_LINE.fullmatch(self.head[0])):
            return named[1]
        if self._head_fits(self.own) > 1:
            return self.own
        others = [sign for sign in OTHERS if sign != self.own and self._head_fits(sign) > 1]
        if not others or (self._head_fits(self.own) == 1 and not self._in_first_row(others[0])):
            return self.own
        self.request.tell(
            _("its fields are separated by a {separator}, and read so").format(
                separator=_in_words(others[0])
            )
        )
        return others[0]

    def _in_first_row(self, separator: str) -> bool:
        return separator in next((line for line in self.head if line.strip()), "")

    def _head_fits(self, separator: str) -> int:
        """How many fields each of the first rows has; 0 where they do not have equally many."""
        for quoting in ("standard", "none"):
            rows = self._rows(Dialect(separator, quoting))
            counts = {len(row) - (len(row) > 1 and not row[-1]) for row in rows}
            if len(counts) == 1:
                return counts.pop()
        return 0

    def _rows(self, dialect: Dialect) -> list[list[str]]:
        """The first rows, as far as they can be read."""
        rows: list[list[str]] = []
        with contextlib.suppress(csv.Error):
            rows.extend(islice(filterfalse(is_blank, records(self.head, dialect)), HEAD_ROWS))
        return rows

    # Quotes

    def _quoting(self, dialect: Dialect) -> tuple[Dialect, Survey]:
        if self.options.quoting is not None:
            dialect = dialect.with_quoting(self.options.quoting)
            found = self._survey(dialect)
            if found.error is not None:
                raise self._quote_error(found)
            return dialect, found
        found = self._survey(dialect)
        if not found.fits and any(f'{dialect.separator} "' in line for line in self.head):
            spaced = replace(dialect, spaced=True)
            second = self._survey(spaced)
            if second.fits and second.suspects is None:
                self.request.tell(_("spaces before a field are left out"))
                return spaced, second
        if found.error is None and found.suspects is None:
            return dialect, found
        backslash = found.error is not None and self._has_backslash(found.error[0])
        for quoting in ("backslash", "none") if backslash else ("none",):
            other = dialect.with_quoting(quoting)
            second = self._survey(other)
            if second.fits and second.suspects is None and not second.seems_quoted:
                self._say_quoting(quoting, found)
                return other, second
        if found.error is None and not found.certain:
            return dialect, found
        raise self._quote_error(found)

    def _has_backslash(self, line: int) -> bool:
        with open_text(self.path, self.scan) as lines:
            return '\\"' in next(islice(lines, line - 1, line), "")

    def _survey(self, dialect: Dialect) -> Survey:
        plain = [row for row in self._rows(dialect)[1:] if not any("\n" in cell for cell in row)]
        rows = plain if len(plain) >= FEW_ROWS else self._rows(dialect.with_quoting("none"))[1:]
        width = max((len(row) for row in rows), default=0)
        numbers = [
            place
            for place in range(width)
            if are_numbers([row[place] for row in rows if len(row) > place])
        ]
        with open_text(self.path, self.scan) as lines:
            return survey(lines, dialect, numbers)

    def _say_quoting(self, quoting: str, found: Survey) -> None:
        why = ""
        if found.suspects is not None:
            first, last = found.suspects
            why = _("as quotes they would join lines {first:,} to {last:,}, which are rows").format(
                first=first, last=last
            )
        elif found.error is not None:
            why = _("a quote is out of place in line {line:,}").format(line=found.error[0])
        how = _("quotes are characters")
        if quoting == "backslash":
            how = _('a quote inside quotes is \\"')
        self._tell_of_rows(
            _("{how}: {why} (#quoting=standard takes them as quotes)").format(how=how, why=why)
        )

    def _quote_error(self, found: Survey) -> CorpusError:
        if found.suspects is not None and found.error is None:
            first, last = found.suspects
            return CorpusError(
                _(
                    "{path}, line {first}: its quotes join the lines to {last}, which look like "
                    "rows: double a quote that is a character, or say #quoting=none (quotes are "
                    "characters) or #quoting=standard (they are quotes)"
                ).format(path=self.path, first=first, last=last)
            )
        assert found.error is not None
        line, what = found.error
        return CorpusError(
            _(
                "{path}, line {line}: cannot be read as a table ({what}): a quote that is a "
                "character has to be doubled inside quotes; #quoting=none takes all quotes as "
                'characters, #quoting=backslash reads \\"'
            ).format(path=self.path, line=line, what=what)
        )

    # Rows

    def _misfits(self, found: Survey) -> None:
        """Refuse a table with rows that do not fit its header, or say that they are left out."""
        assert found.misfit is not None
        line, fields = found.misfit
        if self.options.misfits == "skip":
            self._tell_of_rows(
                _(
                    "{misfits:,} rows left out, the first in line {line:,}, because they have "
                    "not as many fields as the header"
                ).format(misfits=found.misfits, line=line)
            )
            return
        more = ""
        if found.misfits > 1:
            more = _(", and {misfits:,} more such rows").format(misfits=found.misfits - 1)
        raise CorpusError(
            _(
                "{path}, line {line}: {fields} fields, where the first row has {wanted}"
                "{more}: put a field that holds a separator or line end in quotes, name another "
                "separator (#separator=semicolon, tab, bar, none), or leave such rows out "
                "(#misfits=skip)"
            ).format(path=self.path, line=line, fields=fields, wanted=found.fields, more=more)
        )

    def _say(self, found: Survey, dialect: Dialect, extra: int) -> None:
        if found.trailing:
            self._tell_of_rows(
                _(
                    "{trailing:,} rows end in a separator that the first row does not have, and "
                    "are read without it"
                ).format(trailing=found.trailing)
            )
        if extra:
            self.request.tell(
                _("the number that each row begins with has no name, and is left out")
            )
        if found.joined and found.longest is not None:
            first, last = found.longest
            self._tell_of_rows(
                _(
                    "{lines:,} lines are {rows:,} rows, because {joined:,} hold line ends inside "
                    "quotes, the longest from line {first:,} to {last:,} (#quoting=none takes "
                    "quotes as characters)"
                ).format(
                    lines=found.lines, rows=found.rows, joined=found.joined, first=first, last=last
                )
            )

    def _tell_of_rows(self, what: str) -> None:
        """Say something of the file that has its own numbers in it."""
        if not self.reading.row:
            self.reading.note(f"{self.path.name}: {what}")
