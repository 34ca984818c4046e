"""Where the tokens of a text stand in it, in code points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semigpt.serving.answers import token_name
from semigpt.tokenizers.base import Tokenizer

__all__ = ["placed", "spans", "token_at"]


def spans(tokenizer: Tokenizer, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Where each id begins and ends in the text of all.

    Of the parts of a character the last has its place, and those before it none: they begin and
    end where it begins.
    """
    decoder, place, found = tokenizer.stream(), 0, []
    for token in ids:
        begin, place = place, place + len(decoder.push(token))
        found.append((begin, place))
    return found


def token_at(found: Sequence[tuple[int, int]], at: int) -> int:
    """Which token the character at `at` begins with; their number behind the last one."""
    index = next((n for n, (_, end) in enumerate(found) if end > at), len(found))
    while index and found[index - 1][0] == found[index - 1][1] == at < found[-1][1]:
        index -= 1
    return index


def placed(tokenizer: Tokenizer, token: int, span: tuple[int, int]) -> dict[str, Any]:
    """A token as the API shows it."""
    name = token_name(tokenizer, token)
    return {"id": token, "text": name, "start": span[0], "end": span[1]}
