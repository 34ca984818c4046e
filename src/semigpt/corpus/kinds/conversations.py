"""Rows of chats and of instructions, as plain text by one template:

    지시: what a system message says
    질문: what the user says
    답: what the assistant says

A turn begins a line with who speaks, so the roles can be read from the text. A row of

    {"messages": [{"role": "user", "content": …}, …]}     also "conversations", with "from", "value"
    {"instruction": …, "input": …, "output": …}           also "prompt", "question" and their kin

is one document. Empty turns are left out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

__all__ = ["Template", "conversation_template"]

# The text of a row; None where it is not of the kind after all.
Template = Callable[[Mapping[str, Any]], str | None]

SPEAKERS = {
    "system": "지시", "developer": "지시",
    "user": "질문", "human": "질문", "prompter": "질문",
    "assistant": "답", "gpt": "답", "model": "답", "bot": "답", "chatgpt": "답",
}  # fmt: skip
CHATS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns")
ROLES = ("role", "from", "speaker")
CONTENTS = ("content", "value", "text", "utterance")
QUESTIONS = ("instruction", "prompt", "question", "query")
ANSWERS = ("output", "response", "answer", "completion", "chosen")


def conversation_template(rows: Sequence[Mapping[str, Any]]) -> tuple[str, Template] | None:
    """What makes text of rows like these, and a note on it; None where they are of another kind.

    Rows with a column `text` or `document` are of another kind.
    """
    texts = {name for row in rows for name, value in row.items() if isinstance(value, str)}
    if texts & {"text", "document"}:
        return None
    for name in CHATS:
        if any(_turns(row.get(name)) is not None for row in rows):
            note = f"each row of {name!r} read as one document of lines 지시:, 질문:, 답:"
            return note, partial(_chat, name)
    question = next((name for name in QUESTIONS if name in texts), None)
    answer = next((name for name in ANSWERS if name in texts), None)
    if question is None or answer is None:
        return None
    between = "input" if "input" in texts else ""
    names = ", ".join(repr(name) for name in (question, between, answer) if name)
    note = f"each row of {names} read as one document of lines 질문:, 답: (--column takes one)"
    return note, partial(_instruction, question, between, answer)


def _turns(value: Any) -> list[tuple[str, str]] | None:
    """Who says what in a list of messages; None where it is no such list."""
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


def _chat(name: str, row: Mapping[str, Any]) -> str | None:
    value = row.get(name)
    turns = [] if value is None or value == [] else _turns(value)
    return None if turns is None else _lines(turns)


def _instruction(question: str, between: str, answer: str, row: Mapping[str, Any]) -> str | None:
    values = [row.get(name) or "" for name in (question, between, answer)]
    if not all(isinstance(value, str) for value in values):
        return None
    asked = "\n".join(filter(None, (value.strip() for value in values[:2])))
    return _lines([("질문", asked), ("답", values[2].strip())])


def _lines(turns: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{speaker}: {content}" for speaker, content in turns if content)
