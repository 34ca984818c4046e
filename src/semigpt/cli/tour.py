"""semigpt tour"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from semigpt.cli.flags import Commands, add_command, add_data_flags
from semigpt.cli.output import is_live, note, write, write_path
from semigpt.errors import SettingsError
from semigpt.language import N_, _

if TYPE_CHECKING:
    from rich.text import Text

    from semigpt.tour import TourSettings
    from semigpt.tour.loader import Element

HELP = N_(
    """\
It is in Korean unless --lang en. In a terminal it waits for Enter between
chapters. --notebook and --html write the same with its pictures into a file.
"""
)
ASKED = {  # behind a chapter, and before an answer
    "ko": ("Enter: 다음 장, q: 그만", "Enter: 답 보기"),
    "en": ("Enter: next chapter, q: stop", "Enter: the answer"),
}


def add(commands: Commands) -> None:
    sub = add_command(
        commands, "tour", run, _("the book's chapter on your own text, step by step"), _(HELP)
    )
    add_data_flags(sub)
    sub.add_argument(
        "--seconds", type=float, default=60.0, help=_("how long the tour trains (default: 60)")
    )
    sub.add_argument(
        "--steps", type=int, help=_("steps of each model instead, for numbers that repeat exactly")
    )
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--chapter",
        type=int,
        metavar="N",
        help=_("begin with chapter N; those before are run unseen (default: 1)"),
    )
    sub.add_argument(
        "--notebook", type=Path, metavar="FILE", help=_("write a Jupyter notebook, FILE.ipynb")
    )
    sub.add_argument("--html", type=Path, metavar="FILE", help=_("write a page, FILE.html"))


def run(options: argparse.Namespace) -> int:
    from semigpt.corpus.standard_input import with_received
    from semigpt.tour import CHAPTERS, TourSettings, chapters

    files = [path for path in (options.notebook, options.html) if path is not None]
    if options.chapter is not None:
        if files:
            raise SettingsError(_("--chapter is for the terminal: a file holds the whole tour"))
        if not 1 <= options.chapter <= CHAPTERS:
            raise SettingsError(
                _("--chapter is 1 to {chapters}, not {chapter}").format(
                    chapters=CHAPTERS, chapter=options.chapter
                )
            )
    settings = TourSettings(
        spec=seen_from(with_received(options.data or "news"), options.notebook),
        column=options.column,
        split=options.split or "auto",
        lang=options.lang or "ko",
        seconds=options.seconds,
        steps=options.steps,
        seed=options.seed,
        figures=bool(files),
    )
    if files:
        return write_files(settings, options.notebook, options.html)
    told = chapters(settings)
    for number in range(1, options.chapter or 1):
        behind(
            next(told),
            _("chapter {number} of {chapters}: run, not shown").format(
                number=number, chapters=CHAPTERS
            ),
        )
    show(told, settings.lang)
    return 0


def seen_from(spec: str, notebook: Path | None) -> str:
    """SPECs as they are written in a notebook, which runs in the folder it lies in."""
    here = Path.cwd()
    if notebook is None or notebook.absolute().parent.resolve() == here:
        return spec
    parts = spec.split("\n")
    return "\n".join(
        part if part == "news" or part.startswith(("news#", "hf:", "-", "~")) else str(here / part)
        for part in parts
    )


def behind(chapter: Iterable[Element], what: str) -> list[Element]:
    """A chapter's elements, run while a line says which it is."""
    note(what)
    return list(chapter)


def write_files(settings: TourSettings, notebook: Path | None, html: Path | None) -> int:
    """Run the tour once, and write what was asked for."""
    from semigpt.storage import replace_file
    from semigpt.tour import CHAPTERS, chapters
    from semigpt.tour.files import as_html, as_notebook, check_free

    for path, suffix in ((notebook, ".ipynb"), (html, ".html")):
        if path is not None:
            check_free(path, suffix)
    elements = list(
        chain.from_iterable(
            behind(
                chapter,
                _("chapter {number} of {chapters}").format(number=number, chapters=CHAPTERS),
            )
            for number, chapter in enumerate(chapters(settings), 1)
        )
    )
    if notebook is not None:
        replace_file(notebook, as_notebook(elements).encode("utf-8", "replace"))
        write_path(notebook)
    if html is not None:
        replace_file(html, as_html(elements, settings.lang).encode("utf-8", "replace"))
        write_path(html)
    return 0


def show(told: Iterator[Iterator[Element]], lang: str) -> None:
    """The chapters on standard output; where a person sits there, at the pace of their Enter."""
    from semigpt.tour.loader import Fold
    from semigpt.tour.text import as_text

    paced = is_live(sys.stdin) and is_live(sys.stdout)
    next_chapter, answer = ASKED[lang]
    for number, chapter in enumerate(told):
        if paced and number and not asked(next_chapter):
            return
        for element in chapter:
            if paced and isinstance(element, Fold) and not asked(answer):
                return
            if text := as_text(element, shutil.get_terminal_size().columns):
                show_text(element, text)


def asked(what: str) -> bool:
    """Wait for Enter; False for q, or where nothing more can be typed."""
    print(f"── {what} ", end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline()
    print(file=sys.stderr)
    return bool(typed) and not typed.strip().lower().startswith("q")


def show_text(element: Element, text: str) -> None:
    """An element on standard output, in colours on a terminal."""
    if not is_live(sys.stdout):
        write(f"{text}\n\n")
        return
    from rich.text import Text

    from semigpt.cli.console import output_console
    from semigpt.tour.loader import Code, Paragraph

    if isinstance(element, Code):
        styled = highlighted(text)
    else:
        styled = Text(text, style="" if isinstance(element, Paragraph) else "bold")
        styled.highlight_regex(r"`[^`]+`", "cyan")
    output_console().print(styled, "", sep="\n", soft_wrap=True)


def highlighted(text: str) -> Text:
    """Lines of a session at Python's prompt, in the colours of a terminal's own palette."""
    from pygments.token import Comment, Generic, Keyword, Number, Operator, String
    from rich.style import Style
    from rich.syntax import ANSISyntaxTheme, Syntax
    from rich.text import Text

    theme = ANSISyntaxTheme(
        {
            Keyword: Style(color="magenta"),
            Operator.Word: Style(color="magenta"),
            String: Style(color="green"),
            Number: Style(color="cyan"),
            Comment: Style(dim=True),
            Generic.Prompt: Style(dim=True),
            Generic.Traceback: Style(color="red"),
            Generic.Error: Style(color="red"),
        }
    )
    margin = text[: len(text) - len(text.lstrip(" "))]
    session = Syntax("", "pycon", theme=theme, background_color="default")
    lines = session.highlight(dedent(text)).split("\n")
    return Text("\n").join(Text(margin) + line for line in lines)
