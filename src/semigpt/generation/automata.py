"""What may be written, as automata that read bytes: well-formed UTF-8, a regular expression, anything but some strings.

An automaton has a start, a row of next states for each state (None: that byte cannot follow), and a word on whether the
text may end in a state. States are made when they are first asked for. What is read are the 256 bytes and, behind them,
the 67 letters that the jamo tokenizer joins to syllables: the symbols.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, ClassVar, Protocol

from semigpt.errors import SettingsError

__all__ = ["Automaton", "Banned", "Pattern", "Utf8"]

Ranges = list[tuple[int, int]]
"""Code points, first and last of each run, in order and apart."""
ByteRanges = tuple[tuple[int, int], ...]
"""First and last of each symbol of a sequence."""

LAST_CODE_POINT = 0x10FFFF
MOST_STATES = 100_000
SYMBOLS = 256 + 67


class Automaton(Protocol):
    """Reads a text byte by byte."""

    @property
    def start(self) -> Hashable:
        """The state before the first byte."""
        ...

    def row(self, state: Any) -> Sequence[Hashable | None]:
        """The state after each symbol; None where it cannot follow."""
        ...

    def accepts(self, state: Any) -> bool:
        """Whether the text may end here."""
        ...


class Utf8:
    """The well-formed byte sequences of UTF-8 (The Unicode Standard, table 3-7); surrogates are not among them. And the jamo
    tokenizer's letters, each a character."""

    start = ""
    # What a state still waits for: a byte from each range.
    _ROWS: ClassVar[dict[str, tuple[tuple[int, int, str], ...]]] = {
        "": (
            (0x00, 0x7F, ""),
            (0xC2, 0xDF, "last"),
            (0xE0, 0xE0, "after E0"),
            (0xE1, 0xEC, "two more"),
            (0xED, 0xED, "after ED"),
            (0xEE, 0xEF, "two more"),
            (0xF0, 0xF0, "after F0"),
            (0xF1, 0xF3, "three more"),
            (0xF4, 0xF4, "after F4"),
            (256, SYMBOLS - 1, ""),
        ),
        "last": ((0x80, 0xBF, ""),),
        "two more": ((0x80, 0xBF, "last"),),
        "after E0": ((0xA0, 0xBF, "last"),),
        "after ED": ((0x80, 0x9F, "last"),),
        "three more": ((0x80, 0xBF, "two more"),),
        "after F0": ((0x90, 0xBF, "two more"),),
        "after F4": ((0x80, 0x8F, "two more"),),
    }

    def row(self, state: str) -> list[str | None]:
        row: list[str | None] = [None] * SYMBOLS
        for first, last, after in self._ROWS[state]:
            row[first : last + 1] = [after] * (last + 1 - first)
        return row

    def accepts(self, state: str) -> bool:
        return state == self.start


class Banned:
    """Anything without one of some sequences. A state is the longest end of what was read that begins one of them."""

    start: tuple[int, ...] = ()

    def __init__(self, sequences: Iterable[Iterable[int]]) -> None:
        self._banned = {tuple(sequence) for sequence in sequences}
        self._prefixes = {
            sequence[:n] for sequence in self._banned for n in range(len(sequence) + 1)
        }

    def row(self, state: tuple[int, ...]) -> list[tuple[int, ...] | None]:
        return [self._after((*state, symbol)) for symbol in range(SYMBOLS)]

    def _after(self, read: tuple[int, ...]) -> tuple[int, ...] | None:
        if any(read[-n:] in self._banned for n in range(1, len(read) + 1)):
            return None
        while read not in self._prefixes:
            read = read[1:]
        return read

    def accepts(self, state: tuple[int, ...]) -> bool:
        return True


class Pattern:
    """The texts that `re.fullmatch(pattern, text)` takes.

    Python's own parser reads the pattern (`re._parser`, without a public name, as hypothesis uses it), so that its
    meaning is Python's. What is no regular language (back references, look-around) or hangs on flags is refused. The
    nondeterministic automaton is Thompson's; a state here is a set of its states (the subset construction). States
    from which no end can be reached are left out, so a byte that is allowed never leads nowhere.

    jamo: syllables are the letters they are made of, as the jamo tokenizer writes them, not their own bytes.
    """

    def __init__(self, pattern: str, *, jamo: bool = False) -> None:
        self._jamo = jamo
        self._empty: list[list[int]] = []  # of each state: where one gets for nothing
        self._edges: list[list[tuple[int, int, int]]] = []  # first byte, last byte, where to
        try:
            tree = _parser.parse(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise SettingsError(f"pattern {pattern!r} is no regular expression: {error}") from None
        self._pattern, self._flags = pattern, tree.state.flags
        if self._flags & (re.IGNORECASE | re.ASCII | re.LOCALE | re.MULTILINE):
            raise self._refused("flags but (?s)")
        self._end = self._state()
        items = list(tree)
        # The whole text is matched: the anchors that say so add nothing.
        if items and items[0] in (
            (_constants.AT, _constants.AT_BEGINNING),
            (_constants.AT, _constants.AT_BEGINNING_STRING),
        ):
            items = items[1:]
        if items and items[-1] in (
            (_constants.AT, _constants.AT_END),
            (_constants.AT, _constants.AT_END_STRING),
        ):
            items = items[:-1]
        first = self._sequence(items, self._end)
        self._live = self._reaching_the_end()
        self.start = self._closure({first})
        if not self.start:
            raise SettingsError(f"pattern {pattern!r} cannot be met by any text; change it")

    def _refused(self, what: str) -> SettingsError:
        return SettingsError(
            f"pattern {self._pattern!r} has {what}, which cannot be turned into an automaton; write it without"
        )

    def _state(self) -> int:
        if len(self._empty) >= MOST_STATES:
            raise SettingsError(f"pattern {self._pattern[:40]!r}… is too large; repeat fewer times")
        self._empty.append([])
        self._edges.append([])
        return len(self._empty) - 1

    def _sequence(self, items: Sequence[tuple[Any, Any]], end: int) -> int:
        """The state from which `items` lead to `end`."""
        for operator, value in reversed(items):
            end = self._item(operator, value, end)
        return end

    def _item(self, operator: Any, value: Any, end: int) -> int:
        match str(operator):
            case "LITERAL":
                return self._characters([(value, value)], end)
            case "NOT_LITERAL":
                return self._characters(_without([(value, value)]), end)
            case "ANY":
                return self._characters(
                    _without([] if self._flags & re.DOTALL else [(10, 10)]), end
                )
            case "IN":
                return self._characters(_class(value), end)
            case "BRANCH":
                start = self._state()
                self._empty[start] += [self._sequence(list(branch), end) for branch in value[1]]
                return start
            case "SUBPATTERN":
                if value[1] or value[2]:
                    raise self._refused("flags but (?s)")
                return self._sequence(list(value[3]), end)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = value
                return self._repeat(least, most, body, end)
            case "AT":
                raise self._refused("an anchor inside")
            case other:
                raise self._refused(
                    {"GROUPREF": "a back reference"}.get(other, other.lower().replace("_", " "))
                )

    def _repeat(self, least: int, most: int, body: Any, end: int) -> int:
        if most is _constants.MAXREPEAT:
            turn = self._state()
            self._empty[turn] += [self._sequence(list(body), turn), end]
            end = turn
        else:
            last = end
            for _ in range(most - least):
                choice = self._state()
                self._empty[choice] += [self._sequence(list(body), end), last]
                end = choice
        for _ in range(least):
            end = self._sequence(list(body), end)
        return end

    def _characters(self, ranges: Ranges, end: int) -> int:
        sequences = _jamo_sequences(ranges) if self._jamo else _utf8_sequences(ranges)
        return self._share(sequences, end, {})

    def _share(
        self, sequences: tuple[ByteRanges, ...], end: int, made: dict[tuple[ByteRanges, ...], int]
    ) -> int:
        """A state from which exactly these byte sequences lead to `end`; what follows alike is one state."""
        if sequences not in made:
            state = made[sequences] = self._state()
            followers: dict[tuple[int, int], list[ByteRanges]] = {}
            for sequence in sequences:
                followers.setdefault(sequence[0], []).append(sequence[1:])
            for (first, last), rest in followers.items():
                if () in rest:
                    self._edges[state].append((first, last, end))
                if longer := tuple(sequence for sequence in rest if sequence):
                    self._edges[state].append((first, last, self._share(longer, end, made)))
        return made[sequences]

    def _reaching_the_end(self) -> set[int]:
        before: list[list[int]] = [[] for _ in self._empty]
        for state, (empty, edges) in enumerate(zip(self._empty, self._edges, strict=True)):
            for after in (*empty, *(to for _, _, to in edges)):
                before[after].append(state)
        live, waiting = {self._end}, [self._end]
        while waiting:
            for state in before[waiting.pop()]:
                if state not in live:
                    live.add(state)
                    waiting.append(state)
        return live

    def _closure(self, states: set[int]) -> frozenset[int]:
        """All that can be reached for nothing; only what matters later is kept: edges, and the end."""
        reached, waiting = set(states), list(states)
        while waiting:
            for after in self._empty[waiting.pop()]:
                if after not in reached:
                    reached.add(after)
                    waiting.append(after)
        return frozenset(
            s for s in reached if s in self._live and (self._edges[s] or s == self._end)
        )

    def row(self, state: frozenset[int]) -> list[frozenset[int] | None]:
        edges = [edge for s in state for edge in self._edges[s]]
        borders = sorted(
            {0, SYMBOLS, *(first for first, _, _ in edges), *(last + 1 for _, last, _ in edges)}
        )
        row: list[frozenset[int] | None] = []
        for first, behind in pairwise(borders):
            after = self._closure(
                {to for low, high, to in edges if low <= first and behind <= high + 1}
            )
            row += [after or None] * (behind - first)
        return row

    def accepts(self, state: frozenset[int]) -> bool:
        return self._end in state


def _class(items: Sequence[tuple[Any, Any]]) -> Ranges:
    """The code points of a class such as [^가-힣\\d]."""
    ranges: Ranges = []
    negated = False
    for operator, value in items:
        match str(operator):
            case "NEGATE":
                negated = True
            case "LITERAL":
                ranges.append((value, value))
            case "RANGE":
                ranges.append(value)
            case "CATEGORY":
                ranges += _category(str(value))
    return _without(ranges) if negated else _without(_without(ranges))


@cache
def _category(name: str) -> Ranges:
    r"""The code points of \d, \s or \w, or of \D, \S or \W: those that Python's `re` says."""
    letter = name.removeprefix("CATEGORY_").removeprefix("NOT_")[0].lower()
    every = "".join(map(chr, range(LAST_CODE_POINT + 1)))
    ranges = [
        (run.start(), run.end() - 1)
        for run in re.finditer({"d": r"\d+", "s": r"\s+", "w": r"\w+"}[letter], every)
    ]
    return _without(ranges) if "NOT_" in name else ranges


def _without(ranges: Ranges) -> Ranges:
    """Every other code point."""
    others, begin = [], 0
    for first, last in sorted(ranges):
        if begin < first:
            others.append((begin, first - 1))
        begin = max(begin, last + 1)
    return [*others, (begin, LAST_CODE_POINT)] if begin <= LAST_CODE_POINT else others


def _within(ranges: Ranges, first: int, last: int) -> Ranges:
    return [(max(a, first), min(b, last)) for a, b in ranges if a <= last and b >= first]


def _utf8_sequences(ranges: Ranges) -> tuple[ByteRanges, ...]:
    """The byte sequences of the code points, surrogates left out, split where a byte's range would hang on another."""
    sequences: list[ByteRanges] = []
    blocks = (
        (0, 0x7F),
        (0x80, 0x7FF),
        (0x800, 0xD7FF),
        (0xE000, 0xFFFF),
        (0x10000, LAST_CODE_POINT),
    )
    waiting = [part for block in reversed(blocks) for part in reversed(_within(ranges, *block))]
    while waiting:
        first, last = waiting.pop()
        length = len(chr(first).encode())
        for bits in (6 * n for n in range(1, length)):
            low = (1 << bits) - 1
            if first & ~low != last & ~low:
                if first & low:
                    waiting += [((first | low) + 1, last), (first, first | low)]
                    break
                if last & low != low:
                    waiting += [(last & ~low, last), (first, (last & ~low) - 1)]
                    break
        else:
            sequences.append(tuple(zip(chr(first).encode(), chr(last).encode(), strict=True)))
    return tuple(sequences)


def letter_symbol(letter: str) -> int:
    """The symbol of a letter token of the jamo tokenizer: joined to syllables on decoding, as the same letter spelt in
    byte tokens is not."""
    code_point = ord(letter)
    begin, number = next(
        (b, n) for b, n in ((0x11A8, 40), (0x1161, 19), (0x1100, 0)) if code_point >= b
    )
    return 256 + number + code_point - begin


def jamo_symbols(text: str) -> tuple[int, ...]:
    """A text as the jamo tokenizer writes it, its syllables in letters."""
    symbols: list[int] = []
    for character in text:
        if "가" <= character <= "힣":
            symbols += map(letter_symbol, unicodedata.normalize("NFD", character))
        else:
            symbols += character.encode("utf-8", "surrogatepass")
    return tuple(symbols)


def _jamo_sequences(ranges: Ranges) -> tuple[ByteRanges, ...]:
    """The same with syllables in letters (The Unicode Standard, 3.12). A letter by itself is left out: it would join the
    syllable before it."""
    rest = (
        _within(ranges, 0, 0x10FF)
        + _within(ranges, 0x1200, 0xABFF)
        + _within(ranges, 0xD7A4, LAST_CODE_POINT)
    )
    sequences = list(_utf8_sequences(rest))
    finals: dict[tuple[int, int], set[int]] = {}  # of each initial and vowel; 0 is no final
    for first, last in _within(ranges, 0xAC00, 0xD7A3):
        for syllable in range(first - 0xAC00, last - 0xAC00 + 1):
            finals.setdefault((syllable // 588, syllable % 588 // 28), set()).add(syllable % 28)
    for (initial, vowel), ends in finals.items():
        two = ((256 + initial,) * 2, (256 + 19 + vowel,) * 2)
        if 0 in ends:
            sequences.append(two)
        present = [(256 + 39 + end,) * 2 for end in sorted(ends) if end]
        if len(present) == 27:
            present = [(present[0][0], present[-1][0])]
        sequences += [(*two, final) for final in present]
    return tuple(sequences)
