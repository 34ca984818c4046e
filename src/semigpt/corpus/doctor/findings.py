"""What the doctor detects in a document, in the order in which it does.

A finding has a detector, which says what it would change in a text. Each is one search with a
compiled pattern, so clean text costs 2 to 8 ns per character. The order is part of the result:
bytes come first (mojibake), then mark-up (whose entities may hold any character), then single
characters, then their composition, and personal data last, when all of it is readable.

A repair is lossless if the text still says the same to every reader and program that follows
Unicode: canonical equivalence (NFC), a byte order mark at the front, an empty document. All others
are made only when asked for.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from semigpt.corpus.doctor import personal
from semigpt.corpus.doctor.changes import Detector, substitution
from semigpt.corpus.doctor.characters import (
    BYTE_ORDER_MARK,
    CONTROL,
    INVISIBLE,
    LINE_END,
    REPLACEMENT,
    STRANGE,
    SURROGATE,
    decomposed,
    lost,
    mojibake,
    scalar,
    without_control,
    zero_width,
)
from semigpt.corpus.doctor.jamo import HALF_WIDTH, JAMO_RUN, JAMO_SIGN, full_width, spelled
from semigpt.corpus.doctor.markup import HTML, HTML_SIGN, plain
from semigpt.language import N_, _

__all__ = [
    "BY_NAME",
    "DOCUMENT_FINDINGS",
    "FIXES",
    "LOSSLESS",
    "PERSONAL",
    "TEXT_FINDINGS",
    "Finding",
    "counted_signs",
    "repeats",
]

SQUEEZE_DEFAULT = 3  # a fourth ㅋ is reported


@dataclass(frozen=True)
class Finding:
    """One thing that can be wrong.

    name:      as `--fix` takes it
    meaning:   what it is, for the report
    flag:      what repairs it: "--fix NAME", another flag, "" for what cannot be repaired
    lossless:  whether the repair loses nothing; see the module's docstring
    detect:    detector and repair in one; None for a finding about whole documents, see `run`
    prefilter: a pattern in all text with this finding, which several findings share; None for none
    private:   whether what was found must not be shown
    """

    name: str
    meaning: str
    flag: str
    lossless: bool = False
    detect: Detector | None = None
    prefilter: re.Pattern[str] | None = None
    private: bool = False


def repeats(at_most: int) -> Detector:
    """The detector of a character more than `at_most` times in a row; digits and spaces may be."""
    pattern = re.compile(rf"([^\s0-9])\1{{{at_most},}}")
    return substitution(pattern, lambda match: match[1] * at_most)


def _masked(
    pattern: re.Pattern[str], mask: str, proof: Callable[[re.Match[str]], bool] | None = None
) -> Detector:
    """The detector that puts `mask` in place of every match for which `proof` is true."""
    if proof is None:
        return substitution(pattern, mask)
    return substitution(pattern, lambda match: mask if proof(match) else match[0])


def _masked_account(match: re.Match[str]) -> str:
    return f"{match[1]}[계좌번호]" if personal.is_account(match) else match[0]


_ACCOUNT = substitution(personal.ACCOUNT, _masked_account)
_AT = re.compile("@")
_MASK = "--mask-personal"

FILE_FINDINGS = (
    Finding(
        "encoding",
        N_(
            "files in no encoding that is read: bytes that fit none, "
            "encodings mixed, UTF-16 without "
            "a mark, Johab, ISO-2022-KR"
        ),
        "--fix encoding",
    ),
)
TEXT_FINDINGS = (
    Finding(
        "byte-order-mark",
        N_("U+FEFF at the start of a document"),
        "--fix byte-order-mark",
        lossless=True,
        detect=substitution(BYTE_ORDER_MARK, ""),
        prefilter=STRANGE,
    ),
    Finding(
        "mojibake", N_("Korean decoded with the wrong codec"), "--fix mojibake", detect=mojibake
    ),
    Finding(
        "replacement",
        N_("U+FFFD: characters that were lost before"),
        "",
        detect=lost,
        prefilter=STRANGE,
    ),
    Finding(
        "html",
        N_("tags and entities"),
        "--fix html",
        detect=substitution(HTML, plain),
        prefilter=HTML_SIGN,
    ),
    Finding(
        "surrogates",
        N_("halves of UTF-16 pairs, which UTF-8 and Parquet cannot hold"),
        "always: U+FFFD",
        detect=substitution(SURROGATE, scalar),
        prefilter=STRANGE,
    ),
    Finding(
        "control",
        N_("NULs and control characters"),
        "--fix control",
        detect=substitution(CONTROL, without_control),
        prefilter=STRANGE,
    ),
    Finding(
        "line-ends",
        N_("line ends other than \\n"),
        "--fix line-ends",
        detect=substitution(LINE_END, "\n"),
        prefilter=STRANGE,
    ),
    Finding(
        "half-width-jamo",
        N_("half-width jamo, for which there are full-width ones"),
        "--fix half-width-jamo",
        detect=substitution(HALF_WIDTH, full_width),
        prefilter=STRANGE,
    ),
    Finding(
        "spelled-jamo",
        N_("syllables and words spelled in compatibility jamo"),
        "--fix spelled-jamo",
        detect=substitution(JAMO_RUN, spelled),
        prefilter=JAMO_SIGN,
    ),
    Finding(
        "zero-width",
        N_("characters without width, those inside emoji left alone"),
        "--fix zero-width",
        detect=zero_width,
        prefilter=STRANGE,
    ),
    Finding(
        "decomposed",
        N_("characters that are not composed (NFC), as macOS writes syllables"),
        "--fix decomposed",
        lossless=True,
        detect=decomposed,
    ),
    Finding(
        "repeats",
        N_("a character many times in a row"),
        f"--squeeze {SQUEEZE_DEFAULT}",
        detect=repeats(SQUEEZE_DEFAULT),
    ),
    Finding(
        "email",
        N_("e-mail addresses"),
        _MASK,
        detect=_masked(personal.EMAIL, "[이메일]"),
        prefilter=_AT,
        private=True,
    ),
    Finding(
        "resident-number",
        N_("resident registration numbers"),
        _MASK,
        detect=_masked(personal.RESIDENT, "[주민등록번호]", personal.is_resident),
        prefilter=personal.LONG_NUMBER,
        private=True,
    ),
    Finding(
        "card-number",
        N_("card numbers"),
        _MASK,
        detect=_masked(personal.CARD, "[카드번호]", personal.is_card),
        prefilter=personal.LONG_NUMBER,
        private=True,
    ),
    Finding(
        "phone-number",
        N_("telephone numbers"),
        _MASK,
        detect=_masked(personal.PHONE, "[전화번호]"),
        prefilter=personal.LONG_NUMBER,
        private=True,
    ),
    Finding(
        "account-number",
        N_("account numbers"),
        _MASK,
        detect=_ACCOUNT,
        prefilter=personal.LONG_NUMBER,
        private=True,
    ),
)
DOCUMENT_FINDINGS = (
    Finding("empty", N_("documents of nothing but white space"), "--fix empty", lossless=True),
    Finding("tiny", N_("documents of a few characters"), "--min-characters"),
    Finding("duplicate", N_("documents that came before, word for word"), "--fix duplicate"),
    Finding("near-duplicate", N_("documents almost the same as one before"), "--near-duplicates"),
)
BY_NAME = {
    finding.name: finding for finding in (*FILE_FINDINGS, *TEXT_FINDINGS, *DOCUMENT_FINDINGS)
}

LOSSLESS = frozenset(name for name, finding in BY_NAME.items() if finding.lossless)
FIXES = frozenset(name for name, finding in BY_NAME.items() if finding.flag == f"--fix {name}")
PERSONAL = frozenset(finding.name for finding in TEXT_FINDINGS if finding.private)

# What the counts of characters show. Joiners are left out because they may be inside emoji.
_SIGNS = {
    N_("control characters"): CONTROL,
    N_("characters without width"): re.compile(f"(?![\u200c\u200d])[{INVISIBLE}]"),
    N_("half-width jamo"): HALF_WIDTH,
    N_("line ends other than \\n"): re.compile("[\r\u2028\u2029]"),
    N_("lone surrogates"): re.compile("[\ud800-\udfff]"),
    N_("lost characters (U+FFFD)"): REPLACEMENT,
}
# Not the next line (U+0085), no-break space and middle dot, which Korean text has of its own.
_MISREAD = re.compile("[\x80-\x84\x86-\x9f\xa1-\xb6\xb8-\xff]")
# Real text has fewer: nsmc 0.0007 %, the news 0.08 %. Korean misread as Latin-1 has 60 % and more.
MISREAD_FRACTION = 0.05


def counted_signs(counts: Mapping[str, int]) -> list[str]:
    """What `text clean` could repair, from the counts of characters: "control characters (3)".

    It costs one match per distinct character, so staging can afford it for every corpus.
    """
    found = []
    for name, pattern in _SIGNS.items():
        if number := sum(count for character, count in counts.items() if pattern.match(character)):
            found.append(f"{_(name)} ({number:,})")
    misread = sum(count for character, count in counts.items() if _MISREAD.match(character))
    if misread > MISREAD_FRACTION * sum(counts.values()):
        found.append(
            _("characters of misread Korean, as it looks ({misread:,})").format(misread=misread)
        )
    return found
