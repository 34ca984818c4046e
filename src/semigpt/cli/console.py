"""Consoles for tables, bars and messages, which show the control characters of a text as pictures:
only those that rich writes reach a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from semigpt.cli.output import in_notebook
from semigpt.controls import pictured

__all__ = ["error_console", "output_console"]


class _Console(Console):
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=pictured(segment.text))

    def on_broken_pipe(self) -> None:
        """Leave it to `main`; rich would exit with code 1."""
        raise BrokenPipeError


def output_console(**settings: Any) -> Console:
    """A console on standard output; the settings are rich's."""
    return _Console(highlight=False, **_plain(), **settings)


def error_console(*, soft_wrap: bool = True) -> Console:
    """A console on standard error, for how it goes; lines are the terminal's to break."""
    return _Console(stderr=True, highlight=False, soft_wrap=soft_wrap, **_plain())


def _plain() -> dict[str, Any]:
    """Settings for plain lines, in a notebook's cell."""
    return {"force_terminal": False, "force_jupyter": False} if in_notebook() else {}
