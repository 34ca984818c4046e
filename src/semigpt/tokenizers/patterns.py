"""What a stranger's `tokenizer.json` may do to a text: patterns and steps whose work is bounded.

The library runs them by Oniguruma, which backtracks. It gives up a match after ten million steps,
but a pattern may take nearly as many at each character: `(?=[\\s\\S]*)x?` takes 6 s on 20,000
characters, 600 on 200,000. Taken are patterns whose work on a text is at most quadratic in the
length of its words and of its runs of spaces, as that of all public tokenizers is:

- what repeats holds nothing that varies;
- in each alternative at most one unbounded repetition is followed by something that must match,
  and it does not run across both letters and spaces;
- a lookaround has no unbounded repetition;
- optional parts allow a thousand ways in all, and counts are small.

Other constructs, such as references back, are refused, and so are a great many steps, and those
that make a text a thousand times as long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from semigpt.errors import TokenizerError
from semigpt.language import _

__all__ = ["check_patterns"]

PLACES = ("normalizer", "pre_tokenizer", "decoder")
MOST_STEPS = 64
LARGEST_GROWTH = 1000  # times the characters of a text, by what replaces one
LONGEST = 4000  # characters; the longest public one has 1,000
DEEPEST = 16  # groups in groups
MOST_WAYS = 1000  # products of optional parts and of alternatives in groups
LARGEST_COUNT = 1000
GROUP = re.compile(r"\((?:\?(?:(<?[=!])|>|[im]*(?:-[im]+)?:))?(?!\?)")
FLAGS = re.compile(r"\(\?[im]*(?:-[im]+)?\)")
ESCAPE = re.compile(
    r"\\(?:[pP]\{\^?\w+\}|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|(.))", re.DOTALL
)
LETTERS = "sSdDwWhHrntfvae"  # escapes that are characters or classes of them
ANCHORS = "bBAzZ"
QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d{1,4}),?\}|\{(\d{0,4}),(\d{1,4})\})")
SAMPLES = ("가a漢", " \u3000\n")  # letters and spaces, of which a repetition runs across one kind


class _RefusedError(Exception):
    """Why a pattern is not taken."""


@dataclass
class _Item:
    """One part of an alternative, `least` to `most` times (None: any number)."""

    source: str = ""  # of an atom; empty for a group
    branches: list[list[_Item]] = field(default_factory=list)
    looks: bool = False  # a lookaround or an anchor, which takes no characters
    least: int = 1
    most: int | None = 1

    @property
    def varies(self) -> bool:
        """Whether it can match in several ways."""
        inner = len(self.branches) > 1 or any(i.varies for b in self.branches for i in b)
        return self.least != self.most or inner

    @property
    def copies(self) -> int:
        """How many times its innermost parts are counted out."""
        inner = (item.copies for branch in self.branches for item in branch)
        return max(self.least, self.most or 1, 1) * max(inner, default=1)

    @property
    def must(self) -> bool:
        """Whether a match can fail at it."""
        if not self.branches:
            return self.least > 0
        return self.least > 0 and all(any(i.must for i in branch) for branch in self.branches)


def check_patterns(document: Mapping[str, Any]) -> None:
    """Raise TokenizerError where the work of a `tokenizer.json` on a text is not bounded."""
    steps = list(_steps(document))
    growth = math.prod(
        len(step["content"]) or 1 for step in steps if isinstance(step.get("content"), str)
    )
    if len(steps) > MOST_STEPS or growth > LARGEST_GROWTH:
        raise TokenizerError(
            _(
                "it has more than {steps} steps, or makes a text more than {times:,} times as "
                "long; take another model"
            ).format(steps=MOST_STEPS, times=LARGEST_GROWTH)
        )
    for pattern in (step["Regex"] for step in steps if isinstance(step.get("Regex"), str)):
        shown = pattern if len(pattern) <= 60 else f"{pattern[:60]}…"
        try:
            if len(pattern) > LONGEST:
                raise _RefusedError(
                    _("has {length:,} characters, more than {most:,}").format(
                        length=len(pattern), most=LONGEST
                    )
                )
            reader = _Reader(pattern)
            branches = reader.alternatives(0)
            if reader.place < len(pattern):
                raise _RefusedError(_("has one parenthesis too many"))
            for branch in branches:
                if _ways(branch, False, [0]) > MOST_WAYS:
                    raise _RefusedError(
                        _("has more than {ways:,} ways to match").format(ways=MOST_WAYS)
                    )
        except _RefusedError as reason:
            raise TokenizerError(
                _(
                    "its pattern {pattern!r} {reason}: semigpt takes those whose work on any text "
                    "is bounded; take a model whose tokenizer has a plainer one"
                ).format(pattern=shown, reason=reason)
            ) from None


def _steps(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every table of the steps, that of a pattern with its step's."""
    waiting = [document.get(place) for place in PLACES]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            pattern = found.get("pattern")
            yield {**pattern, **found} if isinstance(pattern, Mapping) else found
            waiting += (value for key, value in found.items() if key != "pattern")
        elif isinstance(found, list):
            waiting += found


def _ways(branch: list[_Item], followed: bool, unbounded: list[int]) -> int:
    """In how many ways the optional parts of an alternative can match.

    followed: something that must match comes behind it
    unbounded: how many unbounded repetitions of the whole alternative are followed by such

    Raises _RefusedError for what the module's docstring excludes.
    """
    ways = 1
    for item in reversed(branch):
        inner = [_ways(each, followed or item.looks, unbounded) for each in item.branches]
        ways *= sum(inner) if inner else 1
        ways *= 1 if item.most is None else item.most - item.least + 1
        if item.most is None and followed:
            unbounded[0] += 1
            if unbounded[0] > 1:
                raise _RefusedError(_("repeats without bound twice before what must match"))
            if _runs_across(item):
                raise _RefusedError(
                    "repeats letters and spaces without bound before what must match"
                )
        followed = followed or item.must
    return ways


def _runs_across(item: _Item) -> bool:
    """Whether a repetition takes both letters and spaces; a repeated group is taken to."""
    if item.branches:
        return True
    from tokenizers import Regex, normalizers

    try:
        replaced = normalizers.Replace(Regex(item.source), "\0")
    except Exception:  # the library's own, for a pattern that it does not take
        raise _RefusedError(_("is not one that the library takes")) from None
    return all(any(replaced.normalize_str(c) == "\0" for c in sample) for sample in SAMPLES)


class _Reader:
    """Reads a pattern into alternatives."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.place = pattern, 0

    def alternatives(self, depth: int) -> list[list[_Item]]:
        """As many alternatives as there are up to a closing parenthesis or the end."""
        if depth > DEEPEST:
            raise _RefusedError(_("has groups more than {most} deep").format(most=DEEPEST))
        branches: list[list[_Item]] = [[]]
        while self.place < len(self.pattern) and self.pattern[self.place] != ")":
            if self.pattern[self.place] == "|":
                self.place += 1
                branches.append([])
            elif flags := FLAGS.match(self.pattern, self.place):
                self.place = flags.end()
            else:
                branches[-1].append(self._quantified(self._item(depth)))
        return branches

    def _item(self, depth: int) -> _Item:
        begin, character = self.place, self.pattern[self.place]
        if character == "(":
            opened = GROUP.match(self.pattern, begin)
            if opened is None:
                raise _RefusedError(_("has a group of a kind that semigpt does not know"))
            self.place = opened.end()
            branches = self.alternatives(depth + 1)
            if self.place >= len(self.pattern):
                raise _RefusedError(_("lacks a parenthesis"))
            self.place += 1
            looks = opened[1] is not None
            if looks and any(_endless(item) for branch in branches for item in branch):
                raise _RefusedError(_("looks ahead or back without bound"))
            return _Item(branches=branches, looks=looks)
        if character == "[":
            self._skip_class()
            return _Item(self.pattern[begin : self.place])
        if character == "\\":
            escape = ESCAPE.match(self.pattern, begin)
            name: str = (escape and escape[1]) or ""
            if escape is None or (name.isalnum() and name not in LETTERS + ANCHORS):
                raise _RefusedError(
                    _("has {escape!r} in it").format(escape=self.pattern[begin : begin + 2])
                )
            self.place = escape.end()
            return _Item(escape[0], looks=name != "" and name in ANCHORS)
        if character in "*+?":
            raise _RefusedError(_("repeats nothing"))
        self.place += 1
        return _Item(character, looks=character in "^$")

    def _quantified(self, item: _Item) -> _Item:
        """The item with what is said behind it of how often; `+` and `?` behind that are of how."""
        found = QUANTIFIER.match(self.pattern, self.place)
        if found is None:
            return item
        self.place = found.end()
        if found[1]:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[1]]
        elif found[2]:
            least, most = int(found[2]), None if "," in found[0] else int(found[2])
        else:
            least, most = int(found[3] or 0), int(found[4])
        if max(least, most or 1) * item.copies > LARGEST_COUNT:
            raise _RefusedError(_("counts to more than {most:,}").format(most=LARGEST_COUNT))
        if (most is None or most > 1) and (item.looks or item.varies):
            raise _RefusedError(_("repeats what varies itself"))
        item.least, item.most = least, most
        if self.pattern[self.place : self.place + 1] in ("?", "+"):
            if not found[1]:  # a quantifier of its own
                raise _RefusedError(_("repeats what varies itself"))
            self.place += 1
        if QUANTIFIER.match(self.pattern, self.place):
            raise _RefusedError(_("repeats what varies itself"))
        return item

    def _skip_class(self) -> None:
        """To behind a class in brackets, which may hold others."""
        depth, first = 0, False
        while self.place < len(self.pattern):
            character = self.pattern[self.place]
            self.place += 1
            if character == "\\":
                self.place += 1
            elif character == "[":
                depth += 1
                first = True
                if self.pattern[self.place : self.place + 1] == "^":
                    self.place += 1
                continue
            elif character == "]" and not first:
                depth -= 1
                if not depth:
                    return
            first = False
        raise _RefusedError(_("lacks a bracket"))


def _endless(item: _Item) -> bool:
    """Whether it has an unbounded repetition, however deep."""
    inner = any(_endless(i) for branch in item.branches for i in branch)
    return item.most is None or inner
