"""A Python session that writes itself down: what is shown is what ran.

The tour could print code it has prepared beside numbers it has computed, and the two would drift apart. Here each
line of code is a string that is run in one namespace and shown with its true answer, as Python's prompt shows it.
"""

from __future__ import annotations

import ast
import io
import unicodedata
from functools import partial
from textwrap import dedent, indent
from typing import Any, Literal

__all__ = ["Lang", "Session", "columns"]

Lang = Literal["ko", "en"]
LINE = 88  # columns a sentence may take
MARGIN = "    "


class Session:
    """The pages' one Python session, and the language in which it is talked about.

    `heading`, `say`, `run` and `mistake` return what to show: a paragraph without its last line break.
    """

    def __init__(self, lang: Lang) -> None:
        self.lang = lang
        self._chapter = 0
        self._printed = io.StringIO()
        self._names: dict[str, Any] = {"print": partial(print, file=self._printed)}

    def __getitem__(self, name: str) -> Any:
        """What a name stands for in the session now."""
        return self._names[name]

    def heading(self, ko: str, en: str) -> str:
        """The next chapter's number and name."""
        self._chapter += 1
        title = f"{self._chapter}. {ko if self.lang == 'ko' else en}"
        return f"{title}\n{'=' * columns(title)}"

    def say(self, ko: str, en: str) -> str:
        """A few sentences, broken at spaces into lines."""
        lines = [""]
        for word in (ko if self.lang == "ko" else en).split():
            if lines[-1] and columns(lines[-1]) + 1 + columns(word) > LINE:
                lines.append(word)
            else:
                lines[-1] = f"{lines[-1]} {word}".lstrip()
        return "\n".join(lines)

    def run(self, source: str) -> str:
        """Run lines of Python and show each statement with its answer."""
        return self._shown(source, mistaken=False)

    def mistake(self, source: str) -> str:
        """The same with one wrong line, shown with the message of the error it raises."""
        return self._shown(source, mistaken=True)

    def _shown(self, source: str, *, mistaken: bool) -> str:
        source = dedent(source).strip()
        lines, shown = source.splitlines(), []
        for statement in ast.parse(source).body:
            first, *others = lines[_first_line(statement) - 1 : statement.end_lineno]
            shown += [f">>> {first}", *(f"... {line}" for line in others)]
            try:
                answer = self._answer(statement)
            except Exception as error:
                if not mistaken:
                    raise
                answer = (
                    f"Traceback (most recent call last):\n    ...\n{type(error).__name__}: {error}"
                )
            shown += answer.splitlines()
        return indent("\n".join(shown), MARGIN)

    def _answer(self, statement: ast.stmt) -> str:
        """Run one statement; what Python's prompt would print."""
        self._printed.seek(0)
        self._printed.truncate()
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "<tour>", "eval"), self._names)
            if value is not None:
                return repr(value)
        else:
            exec(compile(ast.Module([statement], []), "<tour>", "exec"), self._names)
        return self._printed.getvalue()


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: a Hangul syllable takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
