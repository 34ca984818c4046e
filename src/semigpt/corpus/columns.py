"""Tables of cells: which row names the columns, and what makes text of a row.

header  the first row names the columns, unless it has numbers where the other rows have them; in a
        table of one column, unless it reads like a sentence. Then they are 1, 2, …
text    the column asked for; else a conversation (`conversations`); else `document` or `text`, or
        the only column that holds more than numbers
"""

import re
from collections.abc import Callable, Sequence

from semigpt.corpus.json_lines import ROWS_FOR_COLUMNS
from semigpt.corpus.kinds.conversations import (
    as_python_writes,
    conversation_columns,
    conversation_template,
)
from semigpt.corpus.reading import ColumnError, shortened
from semigpt.corpus.request import FileRequest
from semigpt.errors import CorpusError
from semigpt.language import N_, _

__all__ = ["ABOVE", "are_numbers", "name_columns", "rows_above", "text_of_row"]

ABOVE = N_("the rows above the names of the columns are left out, because they have one cell")

NUMBER = re.compile(r"\s*[+-]?\d[\d.,:/\s-]*")  # and dates
SENTENCE = re.compile(r".*[.!?…。~]\s*|.{41,}|\S+(\s+\S+){2,}.*", re.DOTALL)
# Names that only a header has.
USUAL_NAMES = frozenset(
    """
    text texts document documents content contents body sentence sentences title review reviews
    comment comments question answer context passage summary article news id idx index no label
    labels class score rating date time url link name category source author instruction input
    output prompt response messages conversations
    본문 내용 제목 문장 텍스트 글 기사 리뷰 댓글 질문 답변 요약 문서 원문 번호 순번 날짜 일시
    라벨 평점 점수 분류 작성자 이름 출처
    """.split()  # noqa: SIM905
)


def are_numbers(values: Sequence[str]) -> bool:
    """Whether there are values, and all of them are numbers."""
    return bool(values) and all(map(NUMBER.fullmatch, values))


def _is_usual_name(name: str) -> bool:
    """Whether only a header has a cell like this one."""
    return name.strip().casefold() in USUAL_NAMES


def rows_above(rows: Sequence[Sequence[str]]) -> int:
    """How many rows with nothing behind the first cell, such as a title, stand above a table of at
    least three columns. (In one of two they may be a header whose second name is missing.)
    """
    filled = [sum(map(bool, row)) for row in rows]
    if max(map(len, rows), default=0) < 3 or 2 * sum(count > 1 for count in filled) <= len(rows):
        return 0
    for number, row in enumerate(rows):
        if any(row[1:]) or _is_usual_name(row[0]):
            return number
    return 0


def name_columns(
    request: FileRequest, rows: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], int, str]:
    """The names of the columns, how many of the first rows they take, and a note for the user on
    what was decided, "" where it is plain.
    """
    first, others = rows[0], rows[1:]
    numbered = tuple(str(place) for place in range(1, len(first) + 1))
    if request.options.header == "none":
        return numbered, 0, ""
    evident = any(name == request.column or _is_usual_name(name) for name in first)
    if request.options.header is not None or evident:
        return _told_apart(first), 1, ""
    if _looks_like_a_row(first, others):
        note = _(
            "the first row looks like the others, so it is read as text and the columns "
            "are called 1, 2, … (#header=first takes it for names)"
        )
        return numbered, 0, note
    note = _(
        "the first row was taken for the names of the columns: "
        "{first} (#header=none reads it as text)"
    ).format(first=shortened(", ".join(first)))
    return _told_apart(first), 1, note


def _looks_like_a_row(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    if len(first) == 1:
        return bool(SENTENCE.fullmatch(first[0].strip()))
    if not any(are_numbers([value]) for value in first):
        return False
    for place, value in enumerate(first):
        column = [row[place] for row in others if len(row) > place]
        if column and are_numbers([value]) != are_numbers(column):
            return False
    return bool(others)


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """A name for each column: its number where it has none, `text.1` for a second `text`."""
    found: dict[str, None] = {}
    counts: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        own = unique = name or str(place)
        while unique in found:
            counts[own] = counts.get(own, 0) + 1
            unique = f"{own}.{counts[own]}"
        found[unique] = None
    return tuple(found)


def text_of_row(
    request: FileRequest, names: Sequence[str], rows: Sequence[Sequence[str]], advice: str
) -> Callable[[Sequence[str]], str | None]:
    """What makes text of a row: of one column, or a conversation; None for a row that is none.

    rows:   the first ones, without their header
    advice: in parentheses behind the error of a column that is not there or has to be chosen
    """
    asked = request.has_column(names)
    if not asked:
        columns = [names.index(name) for name in conversation_columns(names)]
        dicts = [
            {names[place]: row[place] for place in columns if place < len(row)}
            for row in rows[:ROWS_FOR_COLUMNS]
        ]
        if columns and (found := conversation_template(dicts)) is not None:
            note, template = found
            request.tell(note)
            return lambda row: template(
                {names[place]: row[place] for place in columns if place < len(row)}
            )
        if name := as_python_writes(dicts):
            raise CorpusError(
                _(
                    "{path}: the column {name!r} holds lists as Python writes them: save the "
                    "table as .jsonl or .parquet, or take them as they stand with --column {name}"
                ).format(path=request.path, name=name)
            )
    kinds = {}
    for place, name in enumerate(names):
        values = [row[place] for row in rows if len(row) > place and row[place]]
        holds_text = bool(values) and not are_numbers(values)
        kinds[name] = asked or name in ("document", "text") or holds_text
    try:
        column = request.choose_column(kinds)
    except ColumnError as error:
        raise type(error)(f"{error} ({advice})") from None
    request.reading.column = column
    chosen = names.index(column)
    return lambda row: row[chosen] if chosen < len(row) else ""
