"""One document through the findings, in a worker process."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from semigpt.corpus.doctor.changes import Change, excerpt, visible
from semigpt.corpus.doctor.findings import FIXES, Finding
from semigpt.corpus.doctor.near_duplicates import minima
from semigpt.corpus.doctor.plan import Plan
from semigpt.corpus.doctor.report import EXAMPLES

__all__ = ["Examined", "Hit", "examine"]


@dataclass(frozen=True)
class Hit:
    """A finding in a document.

    places:        in how many places it is
    repaired:      how many of them were repaired
    found, became: one place, to be shown; "" once enough were shown
    """

    name: str
    places: int
    repaired: int
    found: str
    became: str


@dataclass(frozen=True)
class Examined:
    """What a worker reports about a document.

    text:       the repaired text; None if nothing was changed
    characters: before the repairs
    bytes:      before the repairs, in UTF-8
    length:     in characters after the repairs, without the white space around it
    digest:     64 bits of a hash of the repaired text
    minima:     its MinHash if near duplicates are detected
    hits:       what was found
    """

    text: str | None
    characters: int
    bytes: int
    length: int
    digest: int
    minima: Any
    hits: tuple[Hit, ...]


def examine(texts: list[str], plan: Plan) -> list[Examined]:
    """Examine and repair a chunk of documents."""
    findings = plan.findings()
    shown: Counter[str] = Counter()
    examined = []
    for text in texts:
        kept, hits = _Repair(text, plan, shown).run(findings)
        encoded = kept.encode("utf-8", "surrogatepass")
        size = len(encoded) if kept is text else len(text.encode("utf-8", "surrogatepass"))
        length = len(kept.strip())
        examined.append(
            Examined(
                text=None if kept is text else kept,
                characters=len(text),
                bytes=size,
                length=length,
                digest=int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest()),
                minima=minima(kept) if plan.near_duplicates is not None and length else None,
                hits=hits,
            )
        )
    return examined


class _Repair:
    """The repair of one document.

    Two texts go through the findings. In `ideal` all is repaired, so that each thing is counted
    once; in `kept` what the plan selects. Mostly they are the same object. `shown` counts the
    examples of each finding in the chunk.
    """

    def __init__(self, text: str, plan: Plan, shown: Counter[str]) -> None:
        self.ideal = self.kept = text
        self.plan = plan
        self.shown = shown
        self.prefilters: dict[object, bool] = {}
        self.hits: list[Hit] = []

    def run(self, findings: Iterable[Finding]) -> tuple[str, tuple[Hit, ...]]:
        """The text to keep, and what was found."""
        for finding in findings:
            if finding.detect is None or not self._passes(finding):
                continue
            change = finding.detect(self.ideal)
            own = change if self.kept is self.ideal else finding.detect(self.kept)
            if change is not None or own is not None:
                self._apply(finding, change, own)
        return self.kept, tuple(self.hits)

    def _passes(self, finding: Finding) -> bool:
        """Whether either text passes the prefilter; findings share prefilters, so it is cached."""
        prefilter = finding.prefilter
        if prefilter is None:
            return True
        if prefilter not in self.prefilters:
            self.prefilters[prefilter] = (
                prefilter.search(self.ideal) is not None or prefilter.search(self.kept) is not None
            )
        return self.prefilters[prefilter]

    def _apply(self, finding: Finding, change: Change | None, own: Change | None) -> None:
        """Count and repair: `change` is that of the ideal text, `own` that of the text to keep."""
        self.prefilters.clear()
        selected = finding.name in self.plan.selected
        repaired = own.count if own is not None and selected else 0
        # `kept` can hold what `ideal` does not, if an earlier repair was not selected.
        source, first = (self.ideal, change) if change is not None else (self.kept, own)
        if first is not None and (change is not None or repaired):
            self.shown[finding.name] += 1
            example = ("", "")
            if self.shown[finding.name] <= EXAMPLES:
                example = _example(finding, source, first)
            places = change.count if change is not None else 0
            self.hits.append(Hit(finding.name, places, repaired, *example))
        if change is not None and (selected or finding.private or finding.name in FIXES):
            self.ideal = change.text
        if own is not None and selected:
            self.kept = own.text


def _example(finding: Finding, text: str, change: Change) -> tuple[str, str]:
    """A place and what it would become, without what is private."""
    if not finding.private:
        return excerpt(text, change.start, change.end), visible(change.became)
    masked = excerpt(change.text, change.start, change.start + len(change.became))
    hidden = (
        "*" if character.isascii() and character.isalnum() else character for character in masked
    )
    return "".join(hidden), ""
