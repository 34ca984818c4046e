"""The tour as files: a Jupyter notebook that runs from top to bottom, and an HTML page.

Both are made from the elements that a terminal shows, their answers and pictures with them. A code
cell ends where there is an answer to show, so that each stands below its own line.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from semigpt.controls import pictured
from semigpt.errors import SettingsError
from semigpt.html import escape
from semigpt.language import _
from semigpt.report.document import page
from semigpt.tour.loader import Code, Element, Fold, FoldEnd, Heading, Lang, Paragraph
from semigpt.tour.session import Ran
from semigpt.tour.text import prompted

__all__ = ["as_html", "as_notebook", "check_free"]

Cell = tuple[str, Ran]  # the source of some statements, and the last one with its answer
FORMAT = {"nbformat": 4, "nbformat_minor": 5}
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def check_free(path: Path, suffix: str) -> None:
    """Raise SettingsError where a file of the tour cannot be written, before the tour is run."""
    if path.suffix != suffix:
        raise SettingsError(
            _("{path}: give it a name that ends in {suffix}").format(path=path, suffix=suffix)
        )
    if path.exists():
        raise SettingsError(
            _(
                "{path} is there already and may hold your own work; delete it or give another name"
            ).format(path=path)
        )
    if not path.absolute().parent.is_dir():
        raise SettingsError(
            _("{path}: there is no folder {parent}; make it first").format(
                path=path, parent=path.parent
            )
        )


def cells(ran: Iterable[Ran]) -> Iterator[Cell]:
    """Statements in cells: each ends with a statement that has an answer, or is the last."""
    sources: list[str] = []
    for statement in ran:
        source = statement.source
        if statement.error:
            name = statement.error.split(":")[0]
            caught = name if hasattr(builtins, name) else "Exception"
            source = (
                f"try:\n{indent(source, '    ')}\n"
                f'except {caught} as error:\n    print("{name}:", error)'
            )
        apart = "\n\n" * bool(sources) * (_is_definition(source) or _is_definition(sources[-1:]))
        sources.append(apart + source)
        if statement.answered:
            yield "\n".join(sources), statement
            sources = []
    if sources:
        yield "\n".join(sources), statement


def _is_definition(source: str | Sequence[str]) -> bool:
    """Whether a statement is a function or a class, which stands apart from others."""
    text = source if isinstance(source, str) else "".join(source)
    return text.lstrip("\n").startswith(("def ", "class ", "@"))


# The notebook


def as_notebook(elements: Iterable[Element]) -> str:
    """A notebook (nbformat 4.5) with the answers that the elements have."""
    made: list[dict[str, Any]] = []
    folded: list[str] | None = None
    count = 0
    for element in elements:
        match element:
            case Fold(summary):
                folded = [f"<details>\n<summary>{escape(summary)}</summary>"]
            case FoldEnd() if folded is not None:
                made.append(_markdown_cell("\n\n".join([*folded, "</details>"])))
                folded = None
            case Code(ran) if folded is not None:
                folded.append(_fenced("pycon", "\n".join(map(prompted, ran))))
            case Code(ran):
                for cell in cells(ran):
                    count += 1
                    made.append(_code_cell(cell, count))
            case Heading() | Paragraph():
                text = _markdown(element)
                if folded is None:
                    made.append(_markdown_cell(text))
                else:
                    folded.append(text)
    named = [{**cell, "id": f"tour-{number}"} for number, cell in enumerate(made)]
    notebook = {"cells": named, "metadata": KERNEL, **FORMAT}
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def _markdown(element: Heading | Paragraph) -> str:
    if isinstance(element, Heading):
        return f"{'#' * element.level} {element.text}"
    return "".join(
        _code_span(part) if number % 2 else _escaped(part)
        for number, part in enumerate(element.parts)
    )


def _escaped(text: str) -> str:
    """Sentences as Markdown that says them: nothing in them is markup."""
    return re.sub(r"([\\*_<$])", r"\\\1", text.replace("\n", " "))


def _code_span(text: str) -> str:
    text = pictured(text, one_line=True)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _fenced(language: str, text: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}{language}\n{pictured(text)}\n{fence}"


def _markdown_cell(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code_cell(cell: Cell, count: int) -> dict[str, Any]:
    source, ran = cell
    outputs: list[dict[str, Any]] = []
    if printed := _caught(ran):
        outputs.append(
            {"name": "stdout", "output_type": "stream", "text": printed.splitlines(keepends=True)}
        )
    if ran.value:
        data = {"text/plain": ran.value.splitlines(keepends=True)}
        if ran.picture is not None:
            data["image/svg+xml"] = ran.picture._repr_svg_().splitlines(keepends=True)
        outputs.append(
            {
                "data": data,
                "execution_count": count,
                "metadata": {},
                "output_type": "execute_result",
            }
        )
    return {
        "cell_type": "code",
        "execution_count": count,
        "metadata": {},
        "outputs": outputs,
        "source": source.splitlines(keepends=True),
    }


def _caught(ran: Ran) -> str:
    """What a cell prints."""
    return ran.printed + (f"{ran.error}\n" if ran.error else "")


# The page


def as_html(elements: Iterable[Element], lang: Lang) -> str:
    """An HTML page: chapters with their answers and pictures, and links to them."""
    parts: list[str] = []
    links: list[str] = []
    for element in elements:
        match element:
            case Heading(text, 1):
                number = len(links) + 1
                links.append(f'<li><a href="#c{number}">{escape(text.split(". ", 1)[-1])}</a></li>')
                parts.append(f'<h2 id="c{number}">{escape(text)}</h2>')
            case Heading(text):
                parts.append(f"<h3>{escape(text)}</h3>")
            case Paragraph(prose):
                parts.append(f"<p>{_prose(prose)}</p>")
            case Code(ran):
                parts += map(_code_html, cells(ran))
            case Fold(summary):
                parts.append(f"<details><summary>{escape(summary)}</summary>")
            case FoldEnd():
                parts.append("</details>")
    body = f"<h1>semigpt tour</h1><nav><ol>{''.join(links)}</ol></nav>{''.join(parts)}"
    return page("semigpt tour", body, STYLE, lang=lang)


def _prose(parts: Sequence[str]) -> str:
    return "".join(
        f"<code>{escape(part)}</code>" if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def _code_html(cell: Cell) -> str:
    source, ran = cell
    shown = highlight(pictured(source), PythonLexer(), HtmlFormatter(nowrap=True))
    html = f'<pre class="in">{shown.rstrip()}</pre>'
    if ran.picture is not None:
        return html + ran.picture.html
    answer = _caught(ran) + ran.value
    return html + (f'<pre class="out">{escape(answer.rstrip())}</pre>' if answer else "")


STYLE = """
nav ol { columns: 15rem 2; column-gap: 2rem; padding-left: 1.6rem; font-size: .88rem; }
h2 { font-size: 1.3rem; }
h3 { margin-top: 1.6rem; font-size: .95rem; font-weight: 650; color: inherit; }
html { word-break: keep-all; overflow-wrap: anywhere; }
a { color: var(--c0); }
pre.in { margin-bottom: 0; background: color-mix(in srgb, var(--floor) 45%, transparent); }
pre.out { margin-top: .1rem; border-color: transparent; color: var(--soft); }
pre { word-break: normal; }
figure.chart { margin: .8rem 0 1.6rem; }
figure.chart figcaption { display: none; }
details { margin: .6rem 0; padding: .2rem .9rem; border-left: 3px solid var(--rule); }
summary { cursor: pointer; color: var(--c0); }
.k, .kn, .kc, .ow { color: var(--c2); }
.s1, .s2, .sa, .si { color: var(--c3); }
.mi, .mf { color: var(--c0); }
.nf, .nc, .nd { font-weight: 600; }
.c1 { color: var(--soft); }
"""
