"""Which tokens may follow: automata over bytes, carried over to the tokens of any tokenizer by `token_bytes`.

A model may put probability on any token at any place. Drawn freely, an early model writes half syllables, which a
screen shows as U+FFFD; so even unasked, only what UTF-8 allows is drawn.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SettingsError
from semigpt.generation.automata import (
    SYMBOLS,
    Automaton,
    Banned,
    Pattern,
    Utf8,
    jamo_symbols,
    letter_symbol,
)
from semigpt.tokenizers.base import Tokenizer

__all__ = ["Constraint", "text_constraint"]

DEAD, START = 0, 1


def text_constraint(
    tokenizer: Tokenizer,
    vocab_size: int,
    *,
    pattern: str | None = None,
    choices: Sequence[str] = (),
    banned: Iterable[str] = (),
) -> Constraint:
    """Well-formed text, all of which `pattern` matches or which is one of `choices`, without the strings `banned`.

    Raises SettingsError for a pattern that is none, or that no text of this tokenizer can meet.
    """
    import re

    banned = list(banned)
    if any(not text for text in banned):
        raise SettingsError("a banned string must not be empty")
    if pattern is not None and choices:
        raise SettingsError("give a pattern or choices, not both")
    if any(not text for text in choices):
        raise SettingsError("a choice must not be empty")
    jamo = tokenizer.kind == "jamo"
    automata: list[Automaton] = []
    if pattern is not None or choices:
        automata.append(
            Pattern(
                pattern if pattern is not None else "|".join(map(re.escape, choices)), jamo=jamo
            )
        )
    else:
        automata.append(Utf8())
    if banned:
        spelt: list[Sequence[int]] = [text.encode("utf-8", "surrogatepass") for text in banned]
        automata.append(Banned([*spelt, *map(jamo_symbols, banned)] if jamo else spelt))
    asked = pattern if pattern is not None else " | ".join(choices) or None
    return Constraint(tokenizer, vocab_size, automata, asked)


def _symbols(tokenizer: Tokenizer, token: int) -> tuple[int, ...]:
    """What an automaton reads of a token: its bytes, or a letter that is joined to a syllable."""
    data = tokenizer.token_bytes(token)
    if tokenizer.kind == "jamo" and len(data) == 3:
        letter = data.decode()
        if (
            "\u1100" <= letter <= "\u1112"
            or "\u1161" <= letter <= "\u1175"
            or "\u11a8" <= letter <= "\u11c2"
        ):
            return (letter_symbol(letter),)
    return tuple(data)


class Constraint:
    """The tokens that may follow, by state: a whole number, `START` at first. Rows are made when first asked for."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocab_size: int,
        automata: Sequence[Automaton],
        asked: str | None = None,
    ) -> None:
        self._automata = automata
        self.ends_when_met = asked is not None
        pieces = [_symbols(tokenizer, token) for token in range(tokenizer.vocab_size)]
        pieces += [()] * (vocab_size - len(pieces))
        self._lengths = np.array([len(piece) for piece in pieces])
        self._symbols = np.zeros((len(pieces), self._lengths.max()), np.uint16)
        for row, piece in zip(self._symbols, pieces, strict=True):
            row[: len(piece)] = piece
        self._end_of_text = tokenizer.end_of_text
        self._marks = [token for token in tokenizer.special_tokens.values() if token < vocab_size]
        self._numbers: dict[tuple[Hashable, ...], int] = {}
        self._states: list[tuple[Hashable, ...] | None] = [None]
        self._after_byte: list[NDArray[np.int32] | None] = [np.zeros(SYMBOLS, np.int32)]
        self._after: dict[int, NDArray[np.int32]] = {}
        self._forbidden: dict[int, NDArray[np.uint8]] = {}
        self._addresses: dict[int, int] = {}
        self._dead: set[int] = {DEAD}
        self._number(tuple(automaton.start for automaton in automata))
        # A byte that may follow leads somewhere; a token may not, where not every byte has one, or strings are banned.
        every_byte = {piece[0] for piece in pieces if len(piece) == 1} >= set(range(256))
        if asked is not None and (len(automata) > 1 or not every_byte):
            self._prune(asked)

    def _number(self, state: tuple[Hashable, ...]) -> int:
        if state not in self._numbers:
            self._numbers[state] = len(self._states)
            self._states.append(state)
            self._after_byte.append(None)
        return self._numbers[state]

    def _bytes_row(self, number: int) -> NDArray[np.int32]:
        row = self._after_byte[number]
        if row is None:
            state = self._states[number]
            assert state is not None
            rows = [
                automaton.row(part) for automaton, part in zip(self._automata, state, strict=True)
            ]
            row = np.array(
                [
                    DEAD if None in after else self._number(after)
                    for after in zip(*rows, strict=True)
                ],
                np.int32,
            )
            self._after_byte[number] = row
        return row

    def after(self, state: int) -> NDArray[np.int32]:
        """The state after each token, `[V]`; 0 where the token may not follow."""
        if state not in self._after:
            after = self._read(np.full(len(self._lengths), state, np.int32), 0)
            # A token without bytes is no text: the end, or another mark, which stands where an end may.
            after[self._lengths == 0] = DEAD
            if self.accepts(state):
                after[self._marks] = state
            self._after[state] = after
        return self._after[state]

    def _read(self, states: NDArray[np.int32], begin: int) -> NDArray[np.int32]:
        """Each token's state, `[V]` and changed in place, after what it has from its symbol `begin` on."""
        for place in range(begin, self._symbols.shape[1]):
            longer = np.flatnonzero((self._lengths > place) & (states != DEAD))
            now = states[longer]
            for number in np.unique(now).tolist():
                these = longer[now == number]
                states[these] = self._bytes_row(number)[self._symbols[these, place]]
        if len(self._dead) > 1:
            states[np.isin(states, list(self._dead))] = DEAD
        return states

    def after_covering(self, covered: bytes) -> NDArray[np.int32]:
        """As `after(START)`, of the tokens that begin with these bytes and go on, by what they are behind them; `[V]`."""
        length = len(covered)
        longer = self._lengths > length
        if longer.any():
            longer &= (self._symbols[:, :length] == np.frombuffer(covered, np.uint8)).all(axis=1)
        return self._read(np.where(longer, START, DEAD).astype(np.int32), length)

    def forbidden(self, state: int) -> NDArray[np.uint8]:
        """1 for each token that may not follow, `[V]`; the same array each time."""
        if state not in self._forbidden:
            self._forbidden[state] = (self.after(state) == DEAD).astype(np.uint8)
        return self._forbidden[state]

    def address(self, state: int) -> int:
        """Where `forbidden` of a state lies in memory."""
        if state not in self._addresses:
            self._addresses[state] = self.forbidden(state).ctypes.data
        return self._addresses[state]

    def accepts(self, state: int) -> bool:
        """Whether the text may end here."""
        parts = self._states[state]
        return parts is not None and all(
            a.accepts(part) for a, part in zip(self._automata, parts, strict=True)
        )

    def complete(self, state: int) -> bool:
        """Whether what was asked for is met and the text ends here: nothing can follow, or nothing could end it later."""
        if not self.ends_when_met or not self.accepts(state):
            return False
        return self._end_of_text is None or not (self.after(state) != DEAD)[self._lengths > 0].any()

    def _prune(self, asked: str) -> None:
        """Take out the states from which these tokens reach no end. Raises SettingsError if none is left."""
        found, waiting = [START], [START]
        known = {START}
        while waiting:
            for number in np.unique(self.after(waiting.pop())).tolist():
                if number != DEAD and number not in known:
                    known.add(number)
                    found.append(number)
                    waiting.append(number)
        live = {number for number in found if self.accepts(number)}
        grown = True
        while grown:
            more = {
                number
                for number in found
                if number not in live and np.isin(self._after[number], list(live)).any()
            }
            grown, live = bool(more), live | more
        if START not in live:
            raise SettingsError(
                f"{asked!r} cannot be written with this model's tokens (and without what is banned)"
            )
        self._dead |= known - live
        for number in found:
            after = self._after[number]
            after[np.isin(after, list(self._dead))] = DEAD
