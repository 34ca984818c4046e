"""One pass over a table: what its rows are when it is read in one dialect, before any is believed.

A quote that was never meant as one joins all rows up to the next quote, and a library reads on
without a word. So the number of fields of every row is held against the header's, and rows against
lines.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from semigpt.corpus.columns import are_numbers

__all__ = ["Dialect", "Survey", "is_blank", "records", "survey"]

FIELD_CHARACTERS = 1 << 26  # a longer field is a quote that nobody closed
ROW_NUMBER_NAMES = ("id", "idx", "index", "no", "no.", "번호", "순번", "연번")
SHORTEST_JOIN = 3  # lines that commas alone make look like rows


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    separator: between two fields
    quoting:   standard, backslash or none
    skipped:   lines before the first row
    spaced:    whether spaces before a field count for nothing
    """

    separator: str
    quoting: str = "standard"
    skipped: int = 0
    spaced: bool = False

    def with_quoting(self, quoting: str) -> "Dialect":
        return replace(self, quoting=quoting)


@dataclass
class Survey:
    """What the rows of a table are in one dialect. Lines are counted from 1.

    fields:    of the first row
    rows:      all of them, without blank lines
    lines:     of the file
    error:     where the dialect is broken: the line, and what is wrong there
    trailing:  rows with one more field than the first, an empty one at the end
    longer:    rows with one more field than the first
    numbered:  whether these begin with 1, 2, 3 … or 0, 1, 2 …, which the first does not name
    shorter:   rows with one field less than the first
    misfits:   rows with another number of fields, those of `trailing` not among them
    misfit:    the first of them: its line and its number of fields
    joined:    rows that hold line ends inside quotes
    longest:   the lines of the longest of them, first and last
    suspects:  the lines of the first of them whose every line looks like a row of its own
    certain:   whether it does by more than its commas
    quoted:    for each column, how many fields begin and end with a quote, though quotes are
               characters; and whether one holds a doubled quote
    """

    fields: int = 0
    rows: int = 0
    lines: int = 0
    error: tuple[int, str] | None = None
    trailing: int = 0
    longer: int = 0
    numbered: bool = True
    shorter: int = 0
    misfits: int = 0
    misfit: tuple[int, int] | None = None
    joined: int = 0
    longest: tuple[int, int] | None = None
    suspects: tuple[int, int] | None = None
    certain: bool = False
    quoted: dict[int, int] | None = None
    doubled: bool = False

    @property
    def fits(self) -> bool:
        """Whether every row has the fields of the first, at most a separator behind them."""
        return self.error is None and not self.misfits

    @property
    def seems_quoted(self) -> bool:
        """Whether quotes that were read as characters look as if they were quotes after all."""
        often = any(2 * count > self.rows for count in (self.quoted or {}).values())
        return self.doubled or often


def records(lines: Iterable[str], dialect: Dialect) -> Any:
    """Python's reader of `lines` in a dialect: strict, so that a quote out of place is an error."""
    csv.field_size_limit(FIELD_CHARACTERS)
    options: dict[str, Any] = {"delimiter": dialect.separator, "strict": True}
    options["skipinitialspace"] = dialect.spaced
    if dialect.quoting == "none":
        options |= {"quoting": csv.QUOTE_NONE, "quotechar": None}
    if dialect.quoting == "backslash":
        options |= {"doublequote": False, "escapechar": "\\"}
    return csv.reader(_without(lines, dialect.skipped), **options)


def _without(lines: Iterable[str], count: int) -> Iterator[str]:
    iterator = iter(lines)
    for _ in range(count):
        next(iterator, None)
    return iterator


def is_blank(row: Sequence[str]) -> bool:
    """Whether a row is a line that is empty, or white space."""
    return len(row) < 2 and (not row or not row[0].strip())


def survey(lines: Iterable[str], dialect: Dialect, numbers: Sequence[int]) -> Survey:
    """Read a whole table.

    numbers: the columns in which all of the first rows have numbers
    """
    found = Survey(quoted={} if dialect.quoting == "none" else None)
    reader = records(lines, dialect)
    line = dialect.skipped
    skipped = dialect.skipped
    try:
        for row in reader:
            before, line = line, reader.line_num + skipped
            if is_blank(row):
                continue
            found.rows += 1
            if not found.fields:
                found.fields = len(row)
                found.numbered = row[0].strip().casefold() not in ROW_NUMBER_NAMES
            if len(row) != found.fields:
                _count_misfit(found, row, before + 1)
            if line > before + 1:
                _count_joined(found, row, dialect, (before + 1, line), numbers)
            if found.quoted is not None:
                _count_quoted(found, row)
    except csv.Error as error:
        found.error = line + 1, str(error)
    found.lines = line
    return found


def _count_misfit(found: Survey, row: list[str], line: int) -> None:
    if len(row) == found.fields + 1:
        found.longer += 1
        found.numbered &= row[0] in (str(found.longer), str(found.longer - 1))
        if not row[-1]:
            found.trailing += 1
            return
    found.shorter += len(row) == found.fields - 1
    found.misfits += 1
    found.misfit = found.misfit or (line, len(row))


def _count_joined(
    found: Survey,
    row: list[str],
    dialect: Dialect,
    place: tuple[int, int],
    numbers: Sequence[int],
) -> None:
    found.joined += 1
    if found.longest is None or place[1] - place[0] > found.longest[1] - found.longest[0]:
        found.longest = place
    if found.fields < 2 or found.suspects is not None:
        return
    inside = [
        line.split(dialect.separator) for line in dialect.separator.join(row).split("\n") if line
    ]
    like_rows = all(
        len(fields) == found.fields and all(are_numbers([fields[place]]) for place in numbers)
        for fields in inside
    )
    certain = bool(numbers) or dialect.separator == "\t"
    if like_rows and (certain or len(inside) >= SHORTEST_JOIN):
        found.suspects, found.certain = place, certain


def _count_quoted(found: Survey, row: list[str]) -> None:
    assert found.quoted is not None
    for place, field in enumerate(row):
        if field.startswith('"') and field.endswith('"') and len(field) > 1:
            found.quoted[place] = found.quoted.get(place, 0) + 1
            inner = field[1:-1]
            if '""' in inner and '"' not in inner.replace('""', ""):
                found.doubled = True
