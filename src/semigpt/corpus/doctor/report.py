"""What the doctor found: a table for people, an object for scripts, a card for the cleaned text."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from semigpt.corpus.doctor.findings import BY_NAME
from semigpt.language import _

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Example", "Report", "Row"]

EXAMPLES = 3


@dataclass(frozen=True)
class Example:
    """One place where a finding is.

    document: the number of the document, from 1, in the order of reading; 0 for a file
    found:    the place and a little around it
    became:   what would stand there
    """

    document: int
    found: str
    became: str


@dataclass
class Row:
    """A finding in numbers.

    documents: how many have it; for `encoding`, how many files
    places:    in how many places it is; for findings about documents as many as documents
    repaired:  how many places were repaired, or documents left out
    """

    documents: int = 0
    places: int = 0
    repaired: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass
class Report:
    """What was read, found and, by `clean`, written.

    bytes:      of the text in UTF-8
    encodings:  how many text files had which encoding
    notes:      what the reader has to say, in sentences
    rows:       every finding by name, in the order of detection
    kept:       documents written, by split; None after `check`
    """

    spec: str
    documents: int = 0
    characters: int = 0
    bytes: int = 0
    seconds: float = 0.0
    encodings: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=lambda: {name: Row() for name in BY_NAME})
    kept: dict[str, int] | None = None

    @property
    def name(self) -> str:
        """The SPEC, or several, in one line."""
        return self.spec.replace("\n", " + ")

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object, with the meaning of each finding and what repairs it."""
        rows = {
            name: {
                "meaning": BY_NAME[name].meaning,
                "lossless": BY_NAME[name].lossless,
                "repaired_by": BY_NAME[name].flag,
                **asdict(row),
            }
            for name, row in self.rows.items()
        }
        return {
            **{name: value for name, value in asdict(self).items() if name != "rows"},
            "findings": rows,
        }

    def table(self) -> "RenderableType":
        """The findings that occur, one per row, each with an example."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        read = f"{self.name}: {self.documents:,} documents, {self.characters:,} characters"
        if self.bytes > 10e6:  # of less, the start takes longer than the reading
            read += f", {self.bytes / 1e6 / self.seconds:.0f} MB/s"
        lines = [Text(read)]
        lines += [
            Text(_("{number:,} text files in {encoding}").format(number=number, encoding=_(name)))
            for name, number in self.encodings.items()
        ]
        lines += [Text(note) for note in self.notes]
        table = Table(box=None, pad_edge=False)
        table.add_column("finding", no_wrap=True)
        table.add_column("documents", justify="right")
        table.add_column("places", justify="right")
        if self.kept is not None:
            table.add_column("repaired", justify="right")
        table.add_column(_("what it is, and an example"))
        if self.kept is None:
            table.add_column(_("repaired by"), no_wrap=True)
        for name, row in self.rows.items():
            if not row.documents and not row.repaired:
                continue
            finding = BY_NAME[name]
            cells: list[str | Text] = [name, f"{row.documents:,}", f"{row.places:,}"]
            if self.kept is not None:
                cells.append(f"{row.repaired:,}")
            shown = Text(_(finding.meaning))
            for example in row.examples[:1]:
                arrow = f" → {example.became}" if example.became else ""
                shown.append(f"\n{example.found}{arrow}", style="dim")
            cells.append(shown)
            if self.kept is None:
                cells.append(
                    (finding.flag or "nothing") + (" (default)" if finding.lossless else "")
                )
            table.add_row(*cells)
        end: list[Text | Table] = [Text(_("nothing found"))] if not table.row_count else [table]
        if self.kept is not None:
            end.append(
                Text("written: " + ", ".join(f"{split} {n:,}" for split, n in self.kept.items()))
            )
        return Group(*lines, *end)

    def card(self, command: str) -> str:
        """README.md of the cleaned dataset. It shows no examples: they can be what was removed."""
        kept = self.kept or {}
        front = ["---", "language: ko", "configs:", "- config_name: default", "  data_files:"]
        for split in kept:
            front += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
        body = [
            "---",
            "",
            "# Cleaned text",
            "",
            f"Made from `{self.name}` with",
            "",
            f"    {command}",
            "",
            f"{self.documents:,} documents and {self.characters:,} characters were read; written: "
            + (
                ", ".join(f"{split} {number:,} documents" for split, number in kept.items())
                or "nothing"
            )
            + ". The column is `text`. What was found and not repaired is still there.",
            "",
            "| finding | what it is | documents | places | repaired |",
            "|---|---|---:|---:|---:|",
        ]
        for name, row in self.rows.items():
            cells = (
                name,
                BY_NAME[name].meaning,
                f"{row.documents:,}",
                f"{row.places:,}",
                f"{row.repaired:,}",
            )
            body.append(f"| {' | '.join(cells)} |")
        notes = [
            _("{number:,} text files in {encoding}").format(number=number, encoding=_(name))
            for name, number in self.encodings.items()
        ] + self.notes
        body += ["", *(f"- {note}" for note in notes)]
        return "\n".join([*front, *body]).rstrip("\n") + "\n"
