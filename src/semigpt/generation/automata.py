"""What may be written, as automata over bytes: UTF-8, a regular expression, no banned strings.

An automaton has a start state, the next state for each state and symbol (None where the symbol
cannot follow), and says whether the text may end in a state. States are made when they are first
asked for. The symbols are the 256 bytes and, after them, the 67 letters that the jamo tokenizer
joins to syllables.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, ClassVar, Protocol

from semigpt.errors import SettingsError
from semigpt.generation.symbols import (
    SYMBOLS,
    Ranges,
    SymbolRanges,
    category,
    complement,
    jamo_sequences,
    utf8_sequences,
)

__all__ = ["Automaton", "Banned", "Pattern", "Utf8"]

MAX_STATES = 100_000


class Automaton(Protocol):
    """Reads a text symbol by symbol."""

    @property
    def start(self) -> Hashable:
        """The state before the first symbol."""
        ...

    def transitions(self, state: Any) -> Sequence[Hashable | None]:
        """The state after each symbol, `[SYMBOLS]`; None where the symbol cannot follow."""
        ...

    def accepts(self, state: Any) -> bool:
        """Whether the text may end here."""
        ...


class Utf8:
    """The well-formed sequences of UTF-8, without surrogates (The Unicode Standard, table 3-7).

    Each of the jamo tokenizer's letters is a character too. A state is the name of what the
    character still lacks.
    """

    start = ""
    # Of each state the ranges of symbols that may follow, with the state after them.
    _RANGES: ClassVar[dict[str, tuple[tuple[int, int, str], ...]]] = {
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

    def transitions(self, state: str) -> list[str | None]:
        row: list[str | None] = [None] * SYMBOLS
        for first, last, after in self._RANGES[state]:
            row[first : last + 1] = [after] * (last + 1 - first)
        return row

    def accepts(self, state: str) -> bool:
        return state == self.start


class Banned:
    """Any text without some sequences of symbols (the automaton of Aho and Corasick 1975).

    A state is the longest suffix of the text that is a prefix of one of them.
    """

    start: tuple[int, ...] = ()

    def __init__(self, sequences: Iterable[Iterable[int]]) -> None:
        self._banned = {tuple(sequence) for sequence in sequences}
        self._prefixes = {
            sequence[:n] for sequence in self._banned for n in range(len(sequence) + 1)
        }

    def transitions(self, state: tuple[int, ...]) -> list[tuple[int, ...] | None]:
        return [self._state((*state, symbol)) for symbol in range(SYMBOLS)]

    def _state(self, suffix: tuple[int, ...]) -> tuple[int, ...] | None:
        if any(suffix[-n:] in self._banned for n in range(1, len(suffix) + 1)):
            return None
        while suffix not in self._prefixes:
            suffix = suffix[1:]
        return suffix

    def accepts(self, state: tuple[int, ...]) -> bool:
        return True


class Pattern:
    """The texts that `re.fullmatch(pattern, text)` matches.

    Python's own parser reads the pattern (`re._parser`, not public, but hypothesis uses it too), so
    its meaning is Python's. The nondeterministic automaton is Thompson's (1968); a state here is a
    set of its states (the subset construction). States from which no end can be reached are left
    out, so an allowed symbol never leads to a dead end.

    jamo: syllables are the letters they are made of, as the jamo tokenizer writes them, not their
        UTF-8 bytes

    Raises SettingsError for a pattern that is not regular (back references, look-around), depends
    on flags, is too large, or cannot be matched.
    """

    def __init__(self, pattern: str, *, jamo: bool = False) -> None:
        self._jamo = jamo
        self._empty: list[list[int]] = []  # of each state: the states reached without a symbol
        self._edges: list[list[tuple[int, int, int]]] = []  # first symbol, last symbol, next state
        try:
            tree = _parser.parse(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise SettingsError(f"pattern {pattern!r} is no regular expression: {error}") from None
        self._pattern, self._flags = pattern, tree.state.flags
        if self._flags & (re.IGNORECASE | re.ASCII | re.LOCALE | re.MULTILINE):
            raise self._refused("flags but (?s)")
        self._end = self._state()
        try:
            first = self._sequence(_without_outer_anchors(list(tree)), self._end)
        except RecursionError:
            raise SettingsError(f"pattern {pattern[:40]!r}… is nested too deeply") from None
        self._live = self._reaching_the_end()
        self.start = self._closure({first})
        if not self.start:
            raise SettingsError(f"pattern {pattern!r} cannot be met by any text; change it")

    def _refused(self, what: str) -> SettingsError:
        return SettingsError(
            f"pattern {self._pattern!r} has {what}, which no automaton can express; "
            "write it without"
        )

    def _state(self) -> int:
        if len(self._empty) >= MAX_STATES:
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
                return self._characters(complement([(value, value)]), end)
            case "ANY":
                return self._characters(
                    complement([] if self._flags & re.DOTALL else [(10, 10)]), end
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
            loop = self._state()
            self._empty[loop] += [self._sequence(list(body), loop), end]
            end = loop
        else:
            last = end
            for _ in range(most - least):
                choice = self._state()
                self._empty[choice] += [self._sequence(list(body), end), last]
                end = choice
        for _ in range(least):
            start = self._sequence(list(body), end)
            if start == end:  # an empty body: more of it is the same
                break
            end = start
        return end

    def _characters(self, ranges: Ranges, end: int) -> int:
        sequences = jamo_sequences(ranges) if self._jamo else utf8_sequences(ranges)
        return self._tree(sequences, end, {})

    def _tree(
        self,
        sequences: tuple[SymbolRanges, ...],
        end: int,
        made: dict[tuple[SymbolRanges, ...], int],
    ) -> int:
        """A state from which exactly these sequences lead to `end`; equal rests share a state."""
        if sequences not in made:
            state = made[sequences] = self._state()
            followers: dict[tuple[int, int], list[SymbolRanges]] = {}
            for sequence in sequences:
                followers.setdefault(sequence[0], []).append(sequence[1:])
            for (first, last), rest in followers.items():
                if () in rest:
                    self._edges[state].append((first, last, end))
                if longer := tuple(sequence for sequence in rest if sequence):
                    self._edges[state].append((first, last, self._tree(longer, end, made)))
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
        """The states reached without a symbol. Only those with edges, and the end, are kept."""
        reached, waiting = set(states), list(states)
        while waiting:
            for after in self._empty[waiting.pop()]:
                if after not in reached:
                    reached.add(after)
                    waiting.append(after)
        return frozenset(
            s for s in reached if s in self._live and (self._edges[s] or s == self._end)
        )

    def transitions(self, state: frozenset[int]) -> list[frozenset[int] | None]:
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


def _without_outer_anchors(items: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The pattern without ^ at its beginning and $ at its end: the whole text is matched anyway."""
    beginnings = (_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING)
    ends = (_constants.AT_END, _constants.AT_END_STRING)
    if items and items[0] in [(_constants.AT, anchor) for anchor in beginnings]:
        items = items[1:]
    if items and items[-1] in [(_constants.AT, anchor) for anchor in ends]:
        items = items[:-1]
    return items


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
                ranges += category(str(value))
    return complement(ranges) if negated else complement(complement(ranges))
