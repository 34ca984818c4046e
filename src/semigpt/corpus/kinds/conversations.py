"""Rows of chats and of instructions, as plain text by one template:

    지시: what a system message says
    질문: what the user says
    답: what the assistant says

A turn begins a line with who speaks, so the roles can be read from the text. A row of

    {"messages": [{"role": "user", "content": …}, …]}     also "conversations", with "from", "value"
    {"instruction": …, "input": …, "output": …}           also "prompt", "질문" and their kin

is one document; a column "system" comes first. Empty turns are left out. In a table a chat is
written as JSON.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from semigpt.language import _

__all__ = ["Template", "as_python_writes", "conversation_columns", "conversation_template"]

# The text of a row; None where it is not of the kind after all.
Template = Callable[[Mapping[str, Any]], str | None]

SPEAKERS = {
    "system": "지시", "developer": "지시",
    "user": "질문", "human": "질문", "prompter": "질문",
    "assistant": "답", "gpt": "답", "model": "답", "bot": "답", "chatgpt": "답",
}  # fmt: skip
CHATS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns")
SYSTEMS = ("system", "system_prompt")
ROLES = ("role", "from", "speaker")
CONTENTS = ("content", "value", "text", "utterance")
INPUTS = ("input", "입력")
# Columns of questions, and those of their answers.
PAIRS = (
    (
        ("instruction", "prompt", "question", "query"),
        ("output", "response", "answer", "completion", "chosen"),
    ),
    (("지시", "명령", "질문"), ("답변", "답", "응답", "출력")),
    (("Q",), ("A",)),
)
TEXTS = {"text", "document"}


def conversation_template(rows: Sequence[Mapping[str, Any]]) -> tuple[str, Template] | None:
    """What makes text of rows like these, and a note on it; None where they are of another kind.

    Rows with a column `text` or `document` are of another kind.
    """
    texts = {name for row in rows for name, value in row.items() if isinstance(value, str)}
    if texts & TEXTS:
        return None
    system = next((name for name in SYSTEMS if name in texts), "")
    for name in CHATS:
        if any(_turns(row.get(name)) is not None for row in rows):
            names = ", ".join(repr(name) for name in (system, name) if name)
            note = _("each row of {names} read as one document of lines 지시:, 질문:, 답:").format(
                names=names
            )
            return note, partial(_chat, system, name)
    pairs = ([[n for n in names if n in texts] for names in pair] for pair in PAIRS)
    pair = next((found for found in pairs if all(found)), None)
    if pair is None:
        return None
    question, answer = pair[0][0], pair[1][0]
    between = next((name for name in INPUTS if name in texts), "")
    names = ", ".join(repr(name) for name in (system, question, between, answer) if name)
    note = _(
        "each row of {names} read as one document of lines 질문:, 답: (--column takes one)"
    ).format(names=names)
    return note, partial(_instruction, system, question, between, answer)


def conversation_columns(names: Iterable[str]) -> list[str]:
    """The columns of a table that may make a conversation; [] where it has a column of texts."""
    found = list(names)
    if TEXTS & set(found):
        return []
    known = {*CHATS, *SYSTEMS, *INPUTS, *chain.from_iterable(chain.from_iterable(PAIRS))}
    return [name for name in found if name in known]


def as_python_writes(rows: Sequence[Mapping[str, Any]]) -> str:
    """The column that holds chats as Python writes a list, which is no JSON; "" for none."""
    for name in CHATS:
        values = [value for row in rows if (value := row.get(name))]
        if values and all(isinstance(v, str) and re.match(r"\[\s*\{'", v) for v in values):
            return name
    return ""


def _turns(value: Any) -> list[tuple[str, str]] | None:
    """Who says what in a list of messages, or in JSON of one; None where it is no such list."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value, strict=False)
    if not isinstance(value, list) or not value:
        return None
    turns = []
    for message in value:
        if not isinstance(message, Mapping):
            return None
        role = next((message[key] for key in ROLES if isinstance(message.get(key), str)), None)
        content = next((message[key] for key in CONTENTS if key in message), None)
        if isinstance(content, list):  # parts of a message, of which pictures have no text
            parts = (part.get("text") for part in content if isinstance(part, Mapping))
            content = "\n".join(part for part in parts if isinstance(part, str))
        if role is None or not isinstance(content, str | None):
            return None
        turns.append((SPEAKERS.get(role.lower(), role), (content or "").strip()))
    return turns


def _chat(system: str, name: str, row: Mapping[str, Any]) -> str | None:
    value, told = row.get(name), row.get(system) or ""
    turns = [] if value in (None, [], "") else _turns(value)
    if turns is None or not isinstance(told, str):
        return None
    return _lines([("지시", told.strip()), *turns])


def _instruction(
    system: str, question: str, between: str, answer: str, row: Mapping[str, Any]
) -> str | None:
    values = [row.get(name) or "" for name in (system, question, between, answer)]
    if not all(isinstance(value, str) for value in values):
        return None
    told, *asked, answered = (value.strip() for value in values)
    return _lines([("지시", told), ("질문", "\n".join(filter(None, asked))), ("답", answered)])


def _lines(turns: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{speaker}: {content}" for speaker, content in turns if content)
