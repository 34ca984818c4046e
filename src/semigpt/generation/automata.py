"""What may be written, as automata over bytes: UTF-8, a regular expression, no banned strings.

An automaton has a start state, the next state for each state and symbol (None where the symbol
cannot follow), and says whether the text may end in a state. States are made when they are first
asked for. The symbols are the 256 bytes and, after them, the 67 letters that the jamo tokenizer
joins to syllables. Symbols that lie together and lead to one state are given as one run.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, ClassVar, Protocol

from semigpt.errors import SettingsError
from semigpt.generation.budget import Budget
from semigpt.generation.symbols import (
    SYMBOLS,
    Ranges,
    SymbolRanges,
    category,
    complement,
    jamo_sequences,
    utf8_sequences,
)
from semigpt.language import _

__all__ = ["Automaton", "Banned", "Pattern", "Runs", "Utf8"]

Runs = list[tuple[int, Any]]
"""For all symbols in order: the first symbol behind each run, and the state after its symbols."""


class Automaton(Protocol):
    """Reads a text symbol by symbol."""

    @property
    def start(self) -> Hashable:
        """The state before the first symbol."""
        ...

    def runs(self, state: Any) -> Runs:
        """The state after each symbol; None where the symbol cannot follow."""
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

    def runs(self, state: str) -> Runs:
        runs: Runs = []
        for first, last, after in self._RANGES[state]:
            runs += [(first, None), (last + 1, after)]
        return [*runs, (SYMBOLS, None)]

    def accepts(self, state: str) -> bool:
        return state == self.start


class Banned:
    """Any text without some sequences of symbols (the automaton of Aho and Corasick 1975).

    A state stands for the longest suffix of the text that is a prefix of one of them.
    """

    start = 0

    def __init__(self, sequences: Iterable[Iterable[int]], budget: Budget) -> None:
        self._budget = budget
        self._after: list[dict[int, int]] = [{}]  # of each prefix: the prefixes one symbol longer
        self._banned = [False]  # whether a banned sequence ends here
        for sequence in sequences:
            state = 0
            for symbol in sequence:
                budget.spend()
                if symbol not in self._after[state]:
                    self._after[state][symbol] = len(self._after)
                    self._after.append({})
                    self._banned.append(False)
                state = self._after[state][symbol]
            self._banned[state] = True
        self._shorter = [0] * len(self._after)  # the longest proper suffix that is a prefix
        waiting = list(self._after[0].values())
        for state in waiting:
            for symbol, longer in self._after[state].items():
                budget.spend()
                shorter = self._shorter[state]
                while shorter and symbol not in self._after[shorter]:
                    shorter = self._shorter[shorter]
                self._shorter[longer] = self._after[shorter].get(symbol, 0)
                waiting.append(longer)
            self._banned[state] |= self._banned[self._shorter[state]]

    def runs(self, state: int) -> Runs:
        after: dict[int, int] = {}
        while True:
            after = {**self._after[state], **after}
            self._budget.spend(1 + len(after))
            if not state:
                break
            state = self._shorter[state]
        runs: Runs = []
        for symbol, longer in sorted(after.items()):
            runs += [(symbol, 0), (symbol + 1, None if self._banned[longer] else longer)]
        return [*runs, (SYMBOLS, 0)]

    def accepts(self, state: int) -> bool:
        return True


class _Node:
    """A place inside a character, or before its first symbol, in a tree of its symbols.

    edges: the first and last symbol of each range, and the place after; None at the character's end
    """

    __slots__ = ("edges",)

    def __init__(self) -> None:
        self.edges: list[tuple[int, int, _Node | None]] = []


@lru_cache(maxsize=256)
def _characters(ranges: tuple[tuple[int, int], ...], jamo: bool) -> tuple[_Node, int]:
    """The tree of a set of code points, and what it costs to make."""
    sequences = jamo_sequences(list(ranges)) if jamo else utf8_sequences(list(ranges))
    return _tree(sequences, {}), 10 * len(sequences)


@lru_cache(maxsize=256)
def _class(items: tuple[tuple[Any, Any], ...], jamo: bool) -> tuple[_Node, int]:
    """As `_characters`, of a class such as [^가-힣\\d]."""
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
    ranges = complement(ranges) if negated else complement(complement(ranges))
    return _characters(tuple(ranges), jamo)


def _tree(
    sequences: tuple[SymbolRanges, ...], made: dict[tuple[SymbolRanges, ...], _Node]
) -> _Node:
    """The place from which exactly these sequences lead to the end; equal rests share a place."""
    if sequences not in made:
        node = made[sequences] = _Node()
        followers: dict[tuple[int, int], list[SymbolRanges]] = {}
        for sequence in sequences:
            followers.setdefault(sequence[0], []).append(sequence[1:])
        for (first, last), rest in followers.items():
            if () in rest:
                node.edges.append((first, last, None))
            if longer := tuple(sequence for sequence in rest if sequence):
                node.edges.append((first, last, _tree(longer, made)))
    return made[sequences]


class Pattern:
    """The texts that `re.fullmatch(pattern, text)` matches.

    Python's own parser reads the pattern (`re._parser`, not public, but hypothesis uses it too), so
    its meaning is Python's. The nondeterministic automaton is Thompson's (1968) and reads whole
    characters; a state here is a set of its states, or of places inside the characters before them
    (the subset construction). States from which no end can be reached are left out, so an allowed
    symbol never leads to a dead end.

    jamo: syllables are the letters they are made of, as the jamo tokenizer writes them, not their
        UTF-8 bytes

    Raises SettingsError for a pattern that is not regular (back references, look-around), depends
    on flags, or cannot be matched; and where the budget is used up.
    """

    def __init__(self, pattern: str, budget: Budget, *, jamo: bool = False) -> None:
        self._budget, self._jamo = budget, jamo
        budget.spend(len(pattern))
        self._empty: list[list[int]] = []  # of each state: the states reached without a symbol
        self._edges: list[tuple[_Node, int] | None] = []  # a character, and the state after it
        self._trees: set[_Node] = set()
        try:
            tree = _parser.parse(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise SettingsError(
                _("pattern {pattern!r} is no regular expression: {error}").format(
                    pattern=pattern, error=error
                )
            ) from None
        self._pattern, self._flags = pattern, tree.state.flags
        if self._flags & (re.IGNORECASE | re.ASCII | re.LOCALE | re.MULTILINE):
            raise self._refused(_("flags but (?s)"))
        self._end = self._state()
        try:
            first = self._sequence(_without_outer_anchors(list(tree)), self._end)
        except RecursionError:
            raise SettingsError(
                _("pattern {pattern!r}… is nested too deeply").format(pattern=pattern[:40])
            ) from None
        self._live = self._reaching_the_end()
        self.start = self._closure({first})
        if not self.start:
            raise SettingsError(
                _("pattern {pattern!r} cannot be met by any text; change it").format(
                    pattern=pattern
                )
            )

    def _refused(self, what: str) -> SettingsError:
        return SettingsError(
            _(
                "pattern {pattern!r} has {what}, which no automaton can express; write it without"
            ).format(pattern=self._pattern, what=what)
        )

    def _state(self) -> int:
        self._budget.spend(3)
        self._empty.append([])
        self._edges.append(None)
        return len(self._empty) - 1

    def _sequence(self, items: Sequence[tuple[Any, Any]], end: int) -> int:
        """The state from which `items` lead to `end`."""
        for operator, value in reversed(items):
            end = self._item(operator, value, end)
        return end

    def _item(self, operator: Any, value: Any, end: int) -> int:
        match str(operator):
            case "LITERAL":
                return self._character(_characters(((value, value),), self._jamo), end)
            case "NOT_LITERAL":
                others = tuple(complement([(value, value)]))
                return self._character(_characters(others, self._jamo), end)
            case "ANY":
                others = tuple(complement([] if self._flags & re.DOTALL else [(10, 10)]))
                return self._character(_characters(others, self._jamo), end)
            case "IN":
                return self._character(_class(tuple(value), self._jamo), end)
            case "BRANCH":
                start = self._state()
                self._empty[start] += [self._sequence(list(branch), end) for branch in value[1]]
                return start
            case "SUBPATTERN":
                if value[1] or value[2]:
                    raise self._refused(_("flags but (?s)"))
                return self._sequence(list(value[3]), end)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = value
                return self._repeat(least, most, body, end)
            case "AT":
                raise self._refused(_("an anchor inside"))
            case other:
                raise self._refused(
                    {"GROUPREF": _("a back reference")}.get(other, other.lower().replace("_", " "))
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

    def _character(self, tree: tuple[_Node, int], end: int) -> int:
        node, cost = tree
        if node not in self._trees:  # a tree that another pattern made costs as much
            self._trees.add(node)
            self._budget.spend(cost)
        state = self._state()
        if node.edges:
            self._edges[state] = (node, end)
        return state

    def _reaching_the_end(self) -> set[int]:
        before: list[list[int]] = [[] for _ in self._empty]
        for state, (empty, edge) in enumerate(zip(self._empty, self._edges, strict=True)):
            for after in empty if edge is None else (*empty, edge[1]):
                before[after].append(state)
        live, waiting = {self._end}, [self._end]
        while waiting:
            for state in before[waiting.pop()]:
                if state not in live:
                    live.add(state)
                    waiting.append(state)
        return live

    def _closure(self, states: set[Any]) -> frozenset[Any]:
        """Places inside characters, and the states reached without a symbol.

        Only those states with an edge, and the end, are kept.
        """
        reached, waiting = set(states), [s for s in states if isinstance(s, int)]
        while waiting:
            for after in self._empty[waiting.pop()]:
                if after not in reached:
                    reached.add(after)
                    waiting.append(after)
        self._budget.spend(len(reached))
        return frozenset(
            s
            for s in reached
            if not isinstance(s, int)
            or (s in self._live and (self._edges[s] is not None or s == self._end))
        )

    def runs(self, state: frozenset[Any]) -> Runs:
        """A member of `state` is a state, or a place in a character and the state after that."""
        found: dict[tuple[int, int], set[Any]] = {}
        self._budget.spend(len(state))
        for member in state:
            edge = self._edges[member] if isinstance(member, int) else member
            if edge is None:
                continue
            node, end = edge
            if end not in self._live:
                continue
            for first, last, inside in node.edges:
                after = end if inside is None else (inside, end)
                found.setdefault((first, last), set()).add(after)
        borders = sorted({0, SYMBOLS, *(b for first, last in found for b in (first, last + 1))})
        runs: Runs = []
        for first, behind in pairwise(borders):
            covering = [
                after for (low, high), after in found.items() if low <= first and behind <= high + 1
            ]
            self._budget.spend(1 + len(found) // 8)
            after = self._closure(set().union(*covering)) if covering else None
            runs.append((behind, after or None))
        return runs

    def accepts(self, state: frozenset[Any]) -> bool:
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
