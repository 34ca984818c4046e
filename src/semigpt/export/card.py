"""The part of a model folder's README.md that says which files were verified in which runtime."""

from __future__ import annotations

from pathlib import Path

from semigpt.export.verify import Verdict
from semigpt.storage import replace_file

__all__ = ["add_row", "verified_files"]

HEADING = "## Verified in other programs"
INTRODUCTION = (
    "Each file was run in the program itself on Korean texts of semigpt's and compared with the "
    "model: token ids, log-probabilities in nats, and the text written greedily."
)
COLUMNS = "| file | run in | what was found | to use it |\n|---|---|---|---|"


def add_row(folder: Path, file: Path, verdict: Verdict, use: dict[str, str]) -> None:
    """Write what was found for a file of `folder` into the card, in place of what stood there."""
    name = file.relative_to(folder).as_posix()
    before, rows, after = _card(folder)
    steps = "<br>".join(f"{program}: `{line}`" for program, line in use.items())
    steps = steps.replace(f"{folder}/", "").replace(str(folder), "FOLDER")
    rows[name] = f"| `{name}` | {verdict.runtime} | {verdict.found} | {steps} |"
    table = "\n".join([COLUMNS, *(rows[name] for name in sorted(rows))])
    section = f"{HEADING}\n\n{INTRODUCTION}\n\n{table}\n"
    replace_file(folder / "README.md", f"{before}\n\n{section}{after}".lstrip().encode())


def verified_files(folder: Path) -> list[str]:
    """The exported files that the card lists: those of the weights that lie there now, since every
    save of a model writes another card.
    """
    return list(_card(folder)[1])


def _card(folder: Path) -> tuple[str, dict[str, str], str]:
    """What stands before the section, its rows by file, and what stands after."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    before, _, section = text.partition(HEADING)
    section, mark, after = section.partition("\n## ")
    rows = {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}
    return before.rstrip(), rows, mark + after
