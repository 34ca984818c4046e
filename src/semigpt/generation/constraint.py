"""Which tokens may follow: automata over bytes, applied to any tokenizer by `token_bytes`.

A model may give probability to any token at any place. Drawn freely, an early model writes half
syllables, which a screen shows as U+FFFD; so even where nothing is asked, only well-formed UTF-8 is
drawn.

V is the size of the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import SettingsError
from semigpt.generation.automata import Automaton, Banned, Pattern, Utf8
from semigpt.generation.budget import TO_PREPARE, Budget
from semigpt.generation.symbols import SYMBOLS, jamo_symbols, letter_symbol
from semigpt.language import _
from semigpt.tokenizers.base import Tokenizer

__all__ = ["DEAD", "START", "Allowed", "Constraint", "Vocabulary", "text_constraint"]

DEAD, START = 0, 1
MOST_STATES = 10_000  # of one constraint
BYTES_KEPT = 4 << 20  # of the transitions of one constraint; others are computed anew


class Vocabulary:
    """What constraints need of a tokenizer's tokens, read once.

    vocab_size: of the model, which may have more tokens
    longest: bytes of the longest token
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        tokens = [_symbols(tokenizer, token) for token in range(tokenizer.vocab_size)]
        tokens += [()] * (vocab_size - len(tokens))
        self.jamo = tokenizer.kind == "jamo"
        self.longest = max(
            len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)
        )
        self.lengths = np.array([len(symbols) for symbols in tokens])
        self.symbols = np.zeros((len(tokens), self.lengths.max()), np.uint16)
        for row, symbols in zip(self.symbols, tokens, strict=True):
            row[: len(symbols)] = symbols
        self.end_of_text = tokenizer.end_of_text
        self.special = [token for token in tokenizer.special_tokens.values() if token < vocab_size]
        alone = {symbols[0] for symbols in tokens if len(symbols) == 1}
        self.has_every_symbol = alone >= set(range(SYMBOLS if self.jamo else 256))


def _symbols(tokenizer: Tokenizer, token: int) -> tuple[int, ...]:
    """What an automaton reads of a token: its bytes, or a letter of the jamo tokenizer."""
    data = tokenizer.token_bytes(token)
    if tokenizer.kind == "jamo" and len(data) == 3:
        letter = data.decode()
        ranges = (("\u1100", "\u1112"), ("\u1161", "\u1175"), ("\u11a8", "\u11c2"))
        if any(first <= letter <= last for first, last in ranges):
            return (letter_symbol(letter),)
    return tuple(data)


def text_constraint(
    vocabulary: Vocabulary,
    *,
    pattern: str | None = None,
    choices: Sequence[str] = (),
    banned: Iterable[str] = (),
) -> Constraint:
    """Well-formed text that matches `pattern` or is one of `choices`, without the strings `banned`.

    Raises SettingsError for a pattern that is no regular expression, that no text of this tokenizer
    matches, or that takes more work than `Budget` allows.
    """
    banned = list(banned)
    if any(not text for text in banned):
        raise SettingsError(_("a banned string must not be empty"))
    if pattern is not None and choices:
        raise SettingsError(_("give a pattern or choices, not both"))
    if any(not text for text in choices):
        raise SettingsError(_("a choice must not be empty"))
    asked = pattern if pattern is not None else " | ".join(choices) or None
    budget = Budget(asked if asked is not None else " | ".join(banned))
    automata: list[Automaton] = [Utf8()]
    if asked is not None:
        expression = pattern if pattern is not None else "|".join(map(re.escape, choices))
        automata = [Pattern(expression, budget, jamo=vocabulary.jamo)]
    if banned:
        spelled: list[Sequence[int]] = [text.encode("utf-8", "surrogatepass") for text in banned]
        letters = map(jamo_symbols, banned) if vocabulary.jamo else ()
        automata.append(Banned([*spelled, *letters], budget))
    return Constraint(vocabulary, automata, budget, asked)


class Allowed(NamedTuple):
    """What may follow in one state of a constraint.

    next_states_V: the state after each token, `[V]`; DEAD where the token may not follow
    forbidden_V: 1 for each token that may not follow, `[V]`
    address: of `forbidden_V` in memory, for C
    """

    next_states_V: NDArray[np.int32]
    forbidden_V: NDArray[np.uint8]
    address: int

    @classmethod
    def after(cls, next_states_V: NDArray[np.int32]) -> Allowed:
        forbidden_V = (next_states_V == DEAD).astype(np.uint8)
        return cls(next_states_V, forbidden_V, forbidden_V.ctypes.data)


class Constraint:
    """The tokens that may follow in each state.

    A state is an integer: `START` at first, `DEAD` after a token that may not follow. Transitions
    are computed when a state is asked for.

    asked: the pattern or the choices that the whole text must match, for error messages; None for
        free text

    Every method that computes transitions raises SettingsError where the budget is used up.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        automata: Sequence[Automaton],
        budget: Budget,
        asked: str | None = None,
    ) -> None:
        self._vocabulary, self._automata, self._budget = vocabulary, automata, budget
        self.ends_when_met = asked is not None
        self._ids: dict[tuple[Hashable, ...], int] = {}  # of each state of the automata
        self._states: list[tuple[Hashable, ...] | None] = [None]
        self._symbol_rows: list[NDArray[np.int32] | None] = [np.zeros(SYMBOLS, np.int32)]
        self._allowed: dict[int, Allowed] = {}
        self._dead: set[int] = {DEAD}
        self._id(tuple(automaton.start for automaton in automata))
        # Every symbol that an automaton allows leads to an end. A symbol may not where strings are
        # banned; a token may not where some symbol has no token of its own.
        if asked is not None and not vocabulary.has_every_symbol:
            self._prune(asked, self._after_tokens)
        elif asked is not None and len(automata) > 1:
            self._prune(asked, self._symbol_row)
        budget.refill()

    def _id(self, state: tuple[Hashable, ...]) -> int:
        if state not in self._ids:
            if len(self._states) > MOST_STATES:
                self._budget.spend(TO_PREPARE)
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
            runs = [
                automaton.runs(part) for automaton, part in zip(self._automata, parts, strict=True)
            ]
            row = np.empty(SYMBOLS, np.int32)
            first = 0
            for behind in sorted({behind for automaton in runs for behind, _ in automaton}):
                for automaton in runs:
                    while automaton[0][0] <= first:
                        automaton.pop(0)
                after = tuple(automaton[0][1] for automaton in runs)
                row[first:behind] = DEAD if None in after else self._id(after)
                self._budget.spend()
                first = behind
            self._symbol_rows[state] = row
        return row

    def is_known(self, state: int) -> bool:
        """Whether what may follow in a state need not be computed."""
        return state in self._allowed

    def allowed(self, state: int) -> Allowed:
        """What may follow in a state."""
        found = self._allowed.get(state)
        if found is None:
            self._budget.refill()
            if len(self._allowed) >= self._most_kept:
                self._allowed.clear()
            found = self._allowed[state] = Allowed.after(self._after_tokens(state))
        return found

    @property
    def longest(self) -> int:
        """Symbols of the longest token."""
        return int(self._vocabulary.symbols.shape[1])

    def explore(self) -> None:
        """Compute the transitions of every state, of which there are few in free text."""
        state = START
        while state < len(self._states):
            self.allowed(state)
            state += 1

    def transitions(self, state: int) -> NDArray[np.int32]:
        """The state after each token, `[V]`; DEAD where the token may not follow."""
        return self.allowed(state).next_states_V

    @property
    def _most_kept(self) -> int:
        """How many states' `Allowed` are kept."""
        return max(BYTES_KEPT // (5 * len(self._vocabulary.lengths)), 16)

    def _after_tokens(self, state: int) -> NDArray[np.int32]:
        vocabulary = self._vocabulary
        after = self._read(np.full(len(vocabulary.lengths), state, np.int32), 0)
        # A token without bytes is the end, or another special token, which may stand where an end
        # may.
        after[vocabulary.lengths == 0] = DEAD
        if self.accepts(state):
            after[vocabulary.special] = state
        return after

    def _read(self, states: NDArray[np.int32], begin: int) -> NDArray[np.int32]:
        """Advance the state of each token, `[V]`, in place, by its symbols from `begin` on."""
        vocabulary = self._vocabulary
        self._budget.spend(len(states) // 64)
        longer = np.arange(len(states))
        for place in range(begin, vocabulary.symbols.shape[1]):
            longer = longer[(vocabulary.lengths[longer] > place) & (states[longer] != DEAD)]
            if not longer.size:
                break
            now = states[longer]
            for state in np.unique(now).tolist():
                these = longer[now == state]
                states[these] = self._symbol_row(state)[vocabulary.symbols[these, place]]
                self._budget.spend(10 + len(these) // 64)
        if len(self._dead) > 1:
            states[np.isin(states, list(self._dead))] = DEAD
        return states

    def healing_transitions(self, covered: bytes) -> NDArray[np.int32]:
        """The first state `[V]`, where the text before ends with `covered` (token healing).

        A token that begins with `covered` and goes on counts by the rest of it; any other is DEAD.
        """
        length, vocabulary = len(covered), self._vocabulary
        longer = vocabulary.lengths > length
        if longer.any():
            begin = vocabulary.symbols[:, :length] == np.frombuffer(covered, np.uint8)
            longer &= begin.all(axis=1)
        self._budget.refill()
        return self._read(np.where(longer, START, DEAD).astype(np.int32), length)

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
        if self._vocabulary.end_of_text is None:
            return True
        return not (self.transitions(state) != DEAD)[self._vocabulary.lengths > 0].any()

    def _prune(self, asked: str, transitions: Callable[[int], NDArray[np.int32]]) -> None:
        """Make states without a way to an end dead. Raises SettingsError if START is one.

        transitions: the states after a state, by symbols or by tokens
        """
        before: dict[int, list[int]] = {START: []}
        waiting = [START]
        for state in waiting:
            for after in set(transitions(state).tolist()) - {DEAD}:
                self._budget.spend()
                if after not in before:
                    before[after] = []
                    waiting.append(after)
                before[after].append(state)
        ends = [state for state in before if self.accepts(state)]
        live = set(ends)
        for state in ends:
            new = set(before[state]) - live
            live |= new
            ends += new
        if START not in live:
            raise SettingsError(
                _(
                    "{asked!r} cannot be written with this model's tokens (and "
                    "without what is banned)"
                ).format(asked=asked)
            )
        self._dead |= before.keys() - live
