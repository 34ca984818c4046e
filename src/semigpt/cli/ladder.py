"""semigpt ladder"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from semigpt.cli.flags import (
    Commands,
    add_command,
    add_data_flags,
    add_json_flag,
    add_machine_flags,
    asked_for,
)
from semigpt.cli.output import RUNS, note, stopping, write_json, write_path
from semigpt.language import N_, _

if TYPE_CHECKING:
    from rich.text import Text

    from semigpt.studies.ladder import LadderSettings, Row

WIDE = 120  # columns for a rung's numbers and its explanation beside each other
HELP = N_(
    """\
Each rung is a run in FOLDER/RUNG that can be resumed, generated from and
evaluated; one that is finished with the same settings is not trained again.
FOLDER gets ladder.html (curves against steps and seconds), ladder.md,
ladder.json, and model.html: every rung in one page, to be played with in a
browser.
"""
)


def add(commands: Commands) -> None:
    sub = add_command(
        commands, "ladder", run, _("train every rung on the same text, and compare"), _(HELP)
    )
    add_data_flags(sub)
    sub.add_argument(
        "--rungs",
        nargs="+",
        metavar="RUNG",
        help=_("some of the rungs (default: all, from bigram up)"),
    )
    sub.add_argument("--steps", type=int, help=_("the same steps for all"))
    sub.add_argument(
        "--minutes",
        type=float,
        help=_("the same minutes for each, with its own good settings (default: 1)"),
    )
    sub.add_argument(
        "--book",
        action="store_true",
        help=_("the book's batch 32, block 8, learning rate 1e-2; with --steps"),
    )
    sub.add_argument(
        "--seed", type=int, default=0, help=_("of weights, order of data and samples (default: 0)")
    )
    sub.add_argument("--prompt", default="", help=_("what every rung's samples begin with"))
    sub.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=_("where the rungs and the table go (default: runs/ladder)"),
    )
    add_json_flag(sub, _("print the rows as JSON"))
    add_machine_flags(sub)


def run(options: argparse.Namespace) -> int:
    from semigpt.models import LADDER
    from semigpt.studies.ladder import LadderSettings, too_short, write_models

    minutes = options.minutes
    if minutes is None and options.steps is None:
        minutes = 1.0
    settings = LadderSettings(
        rungs=tuple(options.rungs or LADDER),
        steps=options.steps,
        minutes=minutes,
        book=options.book,
        seed=options.seed,
        data={
            {"data": "spec"}.get(name, name): value
            for name, value in asked_for(options, "data", "column", "split").items()
        },
        machine=asked_for(options, "device", "precision"),
        sample={"prompt": options.prompt},
    )
    folder = options.out or RUNS / "ladder"
    with stopping() as stop:
        rows = show_ladder(settings, folder, stop=lambda: stop[0] is not None)
    for line in write_models(folder, [row.rung for row in rows]):
        note(line)
    if short := too_short(settings, rows):
        note(short)
    if options.json:
        write_json([asdict(row) for row in rows])
    else:
        write_path(folder)
    return 0 if stop[0] is None else 128 + stop[0]


def show_ladder(
    settings: LadderSettings, folder: Path, *, stop: Callable[[], bool] = lambda: False
) -> list[Row]:
    """Climb, with a live table on standard error, or a plain line a rung where that is no terminal;
    the rows reached.
    """
    from rich.live import Live
    from rich.text import Text

    from semigpt.cli.console import error_console
    from semigpt.recipe import Evaluated, Prepared, Preparing, Stepped
    from semigpt.studies.ladder import Reached, Rung, cells, climb

    # A live table is drawn over itself: a line that a terminal breaks would be counted as one.
    console = error_console(soft_wrap=False)
    rows: list[Row] = []
    under_way: dict[str, str] = {}
    doing = ""

    def shown() -> Text:
        return table(settings, rows, under_way, doing, console.width)

    with Live(
        get_renderable=shown,
        console=console,
        refresh_per_second=2,
        transient=not console.is_terminal,
    ) as live:
        if not console.is_terminal:
            live.stop()
        for event in climb(settings, folder, stop=stop):
            match event:
                case Rung(rung, Preparing() as preparing):
                    doing = f"{rung}: {preparing.what}"
                case Rung(rung, Prepared() as prepared):
                    parameters = prepared.model.parameter_count()
                    doing = _("{rung}: {parameters:,} parameters on {device}").format(
                        rung=rung, parameters=parameters, device=prepared.device
                    )
                case Rung(rung, Stepped(report)):
                    under_way[rung] = _("{loss:.2f} at {fraction:.0%}").format(
                        loss=report.loss, fraction=report.fraction
                    )
                case Rung(rung, Evaluated() as evaluated):
                    doing = _(
                        "{rung}, step {step:,}: {bits:.3f} bits per character: {sample}"
                    ).format(
                        rung=rung,
                        step=evaluated.step,
                        bits=evaluated.bits_per_character,
                        sample=evaluated.sample,
                    )
                case Reached(row, trained):
                    rows.append(row)
                    doing = ""
                    if not console.is_terminal:
                        line = [*cells(settings, row), *([] if trained else [_("as it was")])]
                        console.print(Text(" · ".join(line)), soft_wrap=True)
    if console.is_terminal:
        console.print(samples(rows, console.width))
    return rows


def table(
    settings: LadderSettings,
    rows: Sequence[Row],
    under_way: Mapping[str, str],
    doing: str,
    width: int,
) -> Text:
    """The rungs in lines that fit the terminal; where it is narrow, each explains itself in a line
    of its own.
    """
    from rich.text import Text

    from semigpt.models import model_class
    from semigpt.studies.ladder import cells, headline

    wide = width >= WIDE
    lines = [Text(headline(settings), style="italic")]
    names = (
        _("rung"),
        _("bits/char"),
        _("loss in nats"),
        _("parameters"),
        _("chars/s"),
        _("seconds"),
    )
    lines.append(Text(_aligned(names) + ("  " + _("adds")) * wide, style="bold"))
    reached = {row.rung: row for row in rows}
    for rung in settings.rungs:
        adds = _(model_class(rung).description)
        if rung in reached:
            name, bits, _adds, loss, *others = cells(settings, reached[rung])
            line = Text(_aligned((name, bits, loss, *others[:3])))
        else:
            line = Text(_aligned((rung, "", under_way.get(rung, ""), "", "", "")), style="dim")
        lines.append(line.append(f"  {adds}", style="dim") if wide else line)
        if not wide:
            lines.append(Text(f"  {adds}", style="dim"))
    if doing:
        lines.append(Text(doing.replace("\n", " ")))
    return _cut(lines, width)


def samples(rows: Sequence[Row], width: int) -> Text:
    """What each rung writes from the one prompt, a line each."""
    from rich.text import Text

    lines = [Text()]
    for row in rows:
        line = Text(f"{row.rung:11} ", style="bold")
        lines.append(line.append(row.sample.replace("\n", " "), style="not bold cyan"))
    return _cut(lines, width)


def _cut(lines: Sequence[Text], width: int) -> Text:
    """Lines that end where the terminal does; a Hangul syllable takes two columns."""
    from rich.text import Text

    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, overflow="ignore").join(lines)


def _aligned(values: Sequence[str]) -> str:
    """A Hangul syllable takes two columns of a terminal."""
    from rich.cells import cell_len

    rung, *numbers = values
    return f"{rung}{' ' * (12 - cell_len(rung))}" + " ".join(
        " " * (size - cell_len(value)) + value
        for value, size in zip(numbers, (9, 15, 11, 9, 7), strict=True)
    )
