"""A Python session that writes itself down: what is shown is what ran.

Code printed beside numbers computed elsewhere would drift apart from them. Here each statement is
run in one namespace and shown with its true answer, as Python's prompt shows it. What is evaluated
is the package's own chapters, never a reader's text.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Mapping, Sequence
from functools import partial
from string import Formatter
from textwrap import indent
from typing import Any

__all__ = ["Session"]

MARGIN = "    "


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

    def run(self, source: str) -> str:
        """Run lines of Python; the lines, each statement followed by its answer."""
        return self._shown(source, mistaken=False)

    def mistake(self, source: str) -> str:
        """The same for lines of which one is wrong: its answer is the error's message."""
        return self._shown(source, mistaken=True)

    def _shown(self, source: str, *, mistaken: bool) -> str:
        source = re.sub(r"\b[A-Z_]+\b", lambda word: str(self.values.get(word[0], word[0])), source)
        lines, shown = source.splitlines(), []
        for statement in ast.parse(source).body:
            first, *others = lines[_first_line(statement) - 1 : statement.end_lineno]
            # At Python's prompt an empty line would end the statement.
            shown += [f">>> {first}", *(f"... {line}" for line in others if line)]
            try:
                answer = self._answer(statement)
            except Exception as error:  # whatever a reader's mistake may raise
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


class _Sentence(Formatter):
    """`str.format` whose fields are expressions."""

    def __init__(self, evaluate: Any) -> None:
        self._evaluate = evaluate

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return self._evaluate(field_name), field_name


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])
