"""A Python session that writes itself down: what is shown is what ran.

Code printed beside numbers computed elsewhere would drift apart from them. Here each statement is
run in one namespace and kept with its true answer, as Python's prompt gives it. What is evaluated
is the package's own chapters, never a reader's text.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from string import Formatter
from typing import Any

from semigpt.tour.figures import Picture

__all__ = ["Ran", "Session"]


@dataclass(frozen=True)
class Ran:
    """One statement that ran, and its answer.

    printed: what it printed
    value:   the value of an expression as Python's prompt writes it
    picture: that value, where it is a picture
    error:   the message of what it raised, after the name of its class
    """

    source: str
    printed: str = ""
    value: str = ""
    picture: Picture | None = None
    error: str = ""

    @property
    def answered(self) -> bool:
        """Whether anything stands below the statement."""
        return bool(self.printed or self.value or self.error)


class Session:
    """One Python session, and `values` that the sentences about it use beside its names.

    The code that runs sees its own names alone, so the lines shown work in a session that knows
    nothing of the tour. Only a word in capitals, such as SEED, is replaced in the code by the value
    of that name, before the code is shown and run.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self.values = dict(values or {})
        self._printed = io.StringIO()
        self._names: dict[str, Any] = {"print": partial(print, file=self._printed)}

    def __getitem__(self, name: str) -> Any:
        """What a name stands for in the session now."""
        return self._names[name]

    def evaluate(self, expression: str) -> Any:
        """The value of a Python expression over the session's names and `values`."""
        return eval(expression, {**self._names, **self.values})

    def fill(self, sentence: str) -> str:
        """The sentence, with the value of each `{expression}`, formatted as by `str.format`."""
        return _Sentence(self.evaluate).format(sentence)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, new names are of no account: the session forgets them afterwards."""
        names = self._names
        self._names = dict(names)
        try:
            yield
        finally:
            self._names = names

    def run(self, source: str, *, mistaken: bool = False) -> list[Ran]:
        """Run lines of Python; each statement with its answer.

        With `mistaken` one of them may raise: its answer is the error's message.
        """
        source = re.sub(r"\b[A-Z_]+\b", lambda word: str(self.values.get(word[0], word[0])), source)
        lines, ran = source.splitlines(), []
        for statement in ast.parse(source).body:
            written = "\n".join(lines[_first_line(statement) - 1 : statement.end_lineno])
            self._printed.seek(0)
            self._printed.truncate()
            value, error = None, ""
            try:
                value = self._value(statement)
            except Exception as raised:  # whatever a reader's mistake may raise
                if not mistaken:
                    raise
                error = f"{type(raised).__name__}: {raised}"
            shown = "" if value is None else repr(value)
            picture = value if isinstance(value, Picture) else None
            ran.append(Ran(written, self._printed.getvalue(), shown, picture, error))
        return ran

    def _value(self, statement: ast.stmt) -> Any:
        """Run one statement; the value of an expression."""
        if isinstance(statement, ast.Expr):
            return eval(compile(ast.Expression(statement.value), "<tour>", "eval"), self._names)
        exec(compile(ast.Module([statement], []), "<tour>", "exec"), self._names)
        return None


class _Sentence(Formatter):
    """`str.format` whose fields are expressions."""

    def __init__(self, evaluate: Any) -> None:
        self._evaluate = evaluate

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return self._evaluate(field_name), field_name


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])
