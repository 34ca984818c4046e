"""What a run of the doctor does: which findings it repairs, and with which limits."""

from dataclasses import dataclass, replace

from semigpt.corpus.doctor.findings import (
    BY_NAME,
    FIXES,
    LOSSLESS,
    SQUEEZE_DEFAULT,
    TEXT_FINDINGS,
    Finding,
    repeats,
)
from semigpt.errors import SettingsError
from semigpt.language import _

__all__ = ["Plan", "make_plan", "selected_fixes"]

TINY = 10  # characters below which `check` calls a document tiny


def selected_fixes(names: str) -> frozenset[str]:
    """The findings that `--fix NAME,NAME` repairs; "lossless" and "all" stand for several.

    Raises SettingsError for a name that is not one.
    """
    chosen: set[str] = set()
    for name in filter(None, (part.strip() for part in names.split(","))):
        match name:
            case "lossless":
                chosen |= LOSSLESS
            case "all":
                chosen |= FIXES
            case _ if name in FIXES:
                chosen.add(name)
            case _ if name in BY_NAME and BY_NAME[name].flag.startswith("--"):
                raise SettingsError(
                    _("--fix {name}: that is repaired with {flag}").format(
                        name=name, flag=BY_NAME[name].flag
                    )
                )
            case _:
                known = ", ".join(["lossless", "all", *(n for n in BY_NAME if n in FIXES)])
                raise SettingsError(
                    _("--fix {name}: not something to fix; choose from {known}").format(
                        name=name, known=known
                    )
                )
    return frozenset(chosen)


@dataclass(frozen=True)
class Plan:
    """What happens to a document.

    selected:        the names of the findings that are repaired
    squeeze:         how often a character may repeat
    near_duplicates: the similarity from which documents are near duplicates; None: not detected
    min_characters:  a document of fewer characters is tiny
    """

    selected: frozenset[str]
    squeeze: int
    near_duplicates: float | None
    min_characters: int

    def findings(self) -> list[Finding]:
        """The findings in text, with the plan's limit of repetition."""
        return [
            replace(finding, detect=repeats(self.squeeze)) if finding.name == "repeats" else finding
            for finding in TEXT_FINDINGS
        ]


def make_plan(
    selected: frozenset[str],
    squeeze: int | None,
    near_duplicates: float | None,
    min_characters: int | None,
) -> Plan:
    """A plan from the values of the flags, None where one was not given.

    Raises SettingsError for a value that cannot work.
    """
    if squeeze is not None and squeeze < 1:
        raise SettingsError(
            _("--squeeze {squeeze}: how often a character may repeat is at least 1").format(
                squeeze=squeeze
            )
        )
    if min_characters is not None and min_characters < 1:
        raise SettingsError(
            _("--min-characters {min_characters}: give at least 1").format(
                min_characters=min_characters
            )
        )
    if near_duplicates is not None and not 0.0 < near_duplicates <= 1.0:
        raise SettingsError(
            _(
                "--near-duplicates {near_duplicates:g}: a share above 0 and up to 1, such as 0.8"
            ).format(near_duplicates=near_duplicates)
        )
    return Plan(
        selected,
        SQUEEZE_DEFAULT if squeeze is None else squeeze,
        near_duplicates,
        TINY if min_characters is None else min_characters,
    )
