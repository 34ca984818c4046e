"""How much work a constraint may take, so that no pattern holds up the other sequences."""

from __future__ import annotations

from semigpt.errors import SettingsError
from semigpt.language import _

__all__ = ["PER_DRAW", "TO_PREPARE", "Budget"]

TO_PREPARE = 24_000
"""Units of work before the first token. A unit is a state made or visited, about a microsecond: the
worst of 24 patterns takes 50 ms (docs/generation.md#text-that-must-have-a-form)."""
PER_DRAW = 4_000
"""Units of work for each token after that."""


class Budget:
    """Counts work down, not time, so that what is refused does not depend on a busy machine.

    asked: what the work is for, for the error message
    """

    def __init__(self, asked: str, units: int = TO_PREPARE) -> None:
        self._asked = asked if len(asked) <= 40 else f"{asked[:40]}…"
        self._left = units

    def refill(self, units: int = PER_DRAW) -> None:
        """Allow so much work from here on."""
        self._left = units

    def spend(self, units: int = 1) -> None:
        """Raises SettingsError where the work is used up."""
        self._left -= units
        if self._left < 0:
            raise SettingsError(
                _(
                    "{asked!r} takes too much work to follow: it is too large, or repeats or "
                    "bans too much; repeat fewer times, or give shorter or fewer strings"
                ).format(asked=self._asked)
            )
