"""Which tokens may follow: automata over bytes, applied to any tokenizer by `token_bytes`.

A model may give probability to any token at any place. Drawn freely, an early model writes half
syllables, which a screen shows as U+FFFD; so even where nothing is asked, only well-formed UTF-8 is
drawn.

V is the size of the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SettingsError
from semigpt.generation.automata import Automaton, Banned, Pattern, Utf8
from semigpt.generation.symbols import SYMBOLS, jamo_symbols, letter_symbol
from semigpt.tokenizers.base import Tokenizer

__all__ = ["DEAD", "START", "Constraint", "text_constraint"]

DEAD, START = 0, 1


def text_constraint(
    tokenizer: Tokenizer,
    vocab_size: int,
    *,
    pattern: str | None = None,
    choices: Sequence[str] = (),
    banned: Iterable[str] = (),
) -> Constraint:
    """Well-formed text that matches `pattern` or is one of `choices`, without the strings `banned`.

    Raises SettingsError for a pattern that is no regular expression, or that no text of this
    tokenizer matches.
    """
    banned = list(banned)
    if any(not text for text in banned):
        raise SettingsError("a banned string must not be empty")
    if pattern is not None and choices:
        raise SettingsError("give a pattern or choices, not both")
    if any(not text for text in choices):
        raise SettingsError("a choice must not be empty")
    jamo = tokenizer.kind == "jamo"
    asked = pattern if pattern is not None else " | ".join(choices) or None
    automata: list[Automaton] = [Utf8()]
    if asked is not None:
        expression = pattern if pattern is not None else "|".join(map(re.escape, choices))
        automata = [Pattern(expression, jamo=jamo)]
    if banned:
        spelled: list[Sequence[int]] = [text.encode("utf-8", "surrogatepass") for text in banned]
        automata.append(Banned([*spelled, *map(jamo_symbols, banned)] if jamo else spelled))
    return Constraint(tokenizer, vocab_size, automata, asked)


def _symbols(tokenizer: Tokenizer, token: int) -> tuple[int, ...]:
    """What an automaton reads of a token: its bytes, or a letter of the jamo tokenizer."""
    data = tokenizer.token_bytes(token)
    if tokenizer.kind == "jamo" and len(data) == 3:
        letter = data.decode()
        ranges = (("\u1100", "\u1112"), ("\u1161", "\u1175"), ("\u11a8", "\u11c2"))
        if any(first <= letter <= last for first, last in ranges):
            return (letter_symbol(letter),)
    return tuple(data)


class Constraint:
    """The tokens that may follow in each state.

    A state is an integer: `START` at first, `DEAD` after a token that may not follow. Transitions
    are computed when a state is first asked for.

    asked: the pattern or the choices that the whole text must match, for error messages; None for
        free text
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocab_size: int,
        automata: Sequence[Automaton],
        asked: str | None = None,
    ) -> None:
        self._automata = automata
        self.ends_when_met = asked is not None
        tokens = [_symbols(tokenizer, token) for token in range(tokenizer.vocab_size)]
        tokens += [()] * (vocab_size - len(tokens))
        self._lengths = np.array([len(symbols) for symbols in tokens])
        self._symbols = np.zeros((len(tokens), self._lengths.max()), np.uint16)
        for row, symbols in zip(self._symbols, tokens, strict=True):
            row[: len(symbols)] = symbols
        self._end_of_text = tokenizer.end_of_text
        self._special = [token for token in tokenizer.special_tokens.values() if token < vocab_size]
        self._ids: dict[tuple[Hashable, ...], int] = {}  # of each state of the automata
        self._states: list[tuple[Hashable, ...] | None] = [None]
        self._symbol_rows: list[NDArray[np.int32] | None] = [np.zeros(SYMBOLS, np.int32)]
        self._transitions: dict[int, NDArray[np.int32]] = {}
        self._forbidden: dict[int, NDArray[np.uint8]] = {}
        self._addresses: dict[int, int] = {}
        self._dead: set[int] = {DEAD}
        self._id(tuple(automaton.start for automaton in automata))
        # Every symbol that an automaton allows leads to an end. A token may not: where some byte
        # has no token of its own, or where strings are banned.
        every_byte = {s[0] for s in tokens if len(s) == 1} >= set(range(256))
        if asked is not None and (len(automata) > 1 or not every_byte):
            self._prune(asked)

    def _id(self, state: tuple[Hashable, ...]) -> int:
        if state not in self._ids:
            self._ids[state] = len(self._states)
            self._states.append(state)
            self._symbol_rows.append(None)
        return self._ids[state]

    def _symbol_row(self, state: int) -> NDArray[np.int32]:
        """The state after each symbol, `[SYMBOLS]`."""
        row = self._symbol_rows[state]
        if row is None:
            parts = self._states[state]
            assert parts is not None
            rows = [
                automaton.transitions(part)
                for automaton, part in zip(self._automata, parts, strict=True)
            ]
            after = [
                DEAD if None in parts else self._id(parts) for parts in zip(*rows, strict=True)
            ]
            row = np.array(after, np.int32)
            self._symbol_rows[state] = row
        return row

    def transitions(self, state: int) -> NDArray[np.int32]:
        """The state after each token, `[V]`; DEAD where the token may not follow."""
        if state not in self._transitions:
            after = self._read(np.full(len(self._lengths), state, np.int32), 0)
            # A token without bytes is the end, or another special token, which may stand where an
            # end may.
            after[self._lengths == 0] = DEAD
            if self.accepts(state):
                after[self._special] = state
            self._transitions[state] = after
        return self._transitions[state]

    def _read(self, states: NDArray[np.int32], begin: int) -> NDArray[np.int32]:
        """Advance the state of each token, `[V]`, in place, by its symbols from `begin` on."""
        for place in range(begin, self._symbols.shape[1]):
            longer = np.flatnonzero((self._lengths > place) & (states != DEAD))
            now = states[longer]
            for state in np.unique(now).tolist():
                these = longer[now == state]
                states[these] = self._symbol_row(state)[self._symbols[these, place]]
        if len(self._dead) > 1:
            states[np.isin(states, list(self._dead))] = DEAD
        return states

    def healing_transitions(self, covered: bytes) -> NDArray[np.int32]:
        """The first state `[V]`, where the text before ends with `covered` (token healing).

        A token that begins with `covered` and goes on counts by the rest of it; any other is DEAD.
        """
        length = len(covered)
        longer = self._lengths > length
        if longer.any():
            longer &= (self._symbols[:, :length] == np.frombuffer(covered, np.uint8)).all(axis=1)
        return self._read(np.where(longer, START, DEAD).astype(np.int32), length)

    def forbidden(self, state: int) -> NDArray[np.uint8]:
        """1 for each token that may not follow, `[V]`; the same array each time."""
        if state not in self._forbidden:
            self._forbidden[state] = (self.transitions(state) == DEAD).astype(np.uint8)
        return self._forbidden[state]

    def address(self, state: int) -> int:
        """The address in memory of `forbidden(state)`, for C."""
        if state not in self._addresses:
            self._addresses[state] = self.forbidden(state).ctypes.data
        return self._addresses[state]

    def accepts(self, state: int) -> bool:
        """Whether the text may end here."""
        parts = self._states[state]
        return parts is not None and all(
            automaton.accepts(part) for automaton, part in zip(self._automata, parts, strict=True)
        )

    def complete(self, state: int) -> bool:
        """Whether the text matches what was asked, and no more text can or should follow."""
        if not self.ends_when_met or not self.accepts(state):
            return False
        if self._end_of_text is None:
            return True
        return not (self.transitions(state) != DEAD)[self._lengths > 0].any()

    def _prune(self, asked: str) -> None:
        """Make states without a way to an end dead. Raises SettingsError if START is one."""
        found, waiting, known = [START], [START], {START}
        while waiting:
            for state in np.unique(self.transitions(waiting.pop())).tolist():
                if state != DEAD and state not in known:
                    known.add(state)
                    found.append(state)
                    waiting.append(state)
        live = {state for state in found if self.accepts(state)}
        grown = True
        while grown:
            rest = [state for state in found if state not in live]
            more = {s for s in rest if np.isin(self._transitions[s], list(live)).any()}
            grown, live = bool(more), live | more
        if START not in live:
            raise SettingsError(
                f"{asked!r} cannot be written with this model's tokens (and without what is banned)"
            )
        self._dead |= known - live
        for state in found:
            after = self._transitions[state]
            after[np.isin(after, list(self._dead))] = DEAD
