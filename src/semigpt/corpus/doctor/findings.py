"""What the doctor looks for in a document, in the order it looks.

Each finding is a function from a text to what it would change, None where there is nothing: one search with a compiled
pattern, so that clean text costs 2 to 8 ns a character. The order is part of the outcome: bytes come first
(mojibake), then mark-up (whose entities may hold any character), then single characters, then their composition, and
what is somebody's last, when it stands there as one can read it.

A repair is lossless when the text still says the same to every reader and program that follows Unicode: canonical
equivalence (NFC), a byte order mark at the front, an empty document. All others are made only when asked for.
"""

import html
import html.entities
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from semigpt.corpus.doctor import personal
from semigpt.corpus.doctor.mojibake import repair_mojibake

__all__ = [
    "BY_NAME",
    "DOCUMENT_FINDINGS",
    "TEXT_FINDINGS",
    "Change",
    "Finding",
    "counted_signs",
    "excerpt",
    "repeats",
]

EXCERPT_CHARACTERS = 16
SQUEEZE_DEFAULT = 3  # a fourth ㅋ is reported as one too many


@dataclass(frozen=True)
class Change:
    """What a finding would make of a text.

    text:  the text repaired; the text itself where nothing can be repaired
    count: how many places
    start, end, became: the first place, and what would stand there
    """

    text: str
    count: int
    start: int
    end: int
    became: str


@dataclass(frozen=True)
class Finding:
    """One thing that can be wrong.

    name:     as `--fix` takes it
    meaning:  what was found, for the report
    flag:     what repairs it: "--fix NAME", another flag, "" for what cannot be repaired
    lossless: whether the repair loses nothing, see above
    look:     the detector and repair in one; None for what concerns whole documents, see `run`
    guard:    a search that all text with this finding passes, shared by several; None for none
    private:  whether what was found must not be shown
    """

    name: str
    meaning: str
    flag: str
    lossless: bool = False
    look: Callable[[str], Change | None] | None = None
    guard: re.Pattern[str] | None = None
    private: bool = False


def excerpt(text: str, start: int, end: int) -> str:
    """The place and a little around it, in one line that any terminal can show."""
    end = min(end, start + 2 * EXCERPT_CHARACTERS)
    before, after = max(start - EXCERPT_CHARACTERS, 0), min(end + EXCERPT_CHARACTERS, len(text))
    return (
        ("…" if before else "") + visible(text[before:after]) + ("…" if after < len(text) else "")
    )


def visible(text: str) -> str:
    """`text` with all that has no glyph of its own written out: `\\u200b`."""
    return "".join(
        character
        if character.isprintable()
        and not 0x1100 <= ord(character) <= 0x11FF
        and character not in "\u3164\uffa0"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def _substitution(
    pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str]
) -> Callable[[str], Change | None]:
    """The finding of everything that `pattern` matches and `replacement` changes."""

    def look(text: str) -> Change | None:
        places: list[tuple[int, int, str]] = []
        count = 0

        def put(match: re.Match[str]) -> str:
            nonlocal count
            new = replacement if isinstance(replacement, str) else replacement(match)
            if new != match[0]:
                count += 1
                if not places:
                    places.append((*match.span(), new))
            return new

        repaired = pattern.sub(put, text)
        return Change(repaired, count, *places[0]) if places else None

    return look


def _difference(text: str, repaired: str, count: int) -> Change | None:
    """The change from `text` to `repaired`, its first place found by comparing."""
    if repaired is text:
        return None
    start = next(
        (place for place, (old, new) in enumerate(zip(text, repaired, strict=False)) if old != new),
        min(len(text), len(repaired)),
    )
    size = EXCERPT_CHARACTERS
    return Change(
        repaired, count, start, min(start + size, len(text)), repaired[start : start + size // 2]
    )


# ------------------------------------------------------------------------------------------------- characters


# One search for seven findings, none of which most text has.
_STRANGE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef"
    "\ufeff\uffa0-\uffdc\ufff9-\uffff]"
)
_MARKED = re.compile("\\A\ufeff+")


def _mojibake(text: str) -> Change | None:
    repaired = repair_mojibake(text)
    return None if repaired is text else _difference(text, repaired, _hangul_gained(text, repaired))


def _hangul_gained(text: str, repaired: str) -> int:
    return max(1, len(_SYLLABLE.findall(repaired)) - len(_SYLLABLE.findall(text)))


_SYLLABLE = re.compile("[가-힣]")

_BLOCKS = "address|article|aside|blockquote|br|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|header|hr|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|tr|ul"
_INLINE = "a|abbr|b|big|body|button|center|cite|code|em|embed|font|head|html|i|iframe|img|input|ins|label|link|mark|meta|noscript|object|option|q|s|select|small|span|strike|strong|sub|sup|svg|textarea|title|tt|u|video"
# No group is possessive: before Python 3.11.5 such repeats go wrong (gh-101955). There is but one way to match each turn.
_ATTRIBUTES = r"""(?:\s++[A-Za-z_:][A-Za-z0-9_:.-]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s"'<>]++))?)*\s*+/?+"""
_HTML = re.compile(
    # Neither goes on past another of its kind, so that a text of a million openings takes no square of that.
    r"(?P<gone><!--(?:[^<-]++|<(?!!--)|-(?!->))*-->|<!DOCTYPE[^<>]*+>"
    r"|<(?P<raw>script|style)\b[^<>]*+>(?:[^<]++|<(?!(?:script|style)\b|/(?P=raw)))*</(?P=raw)\s*+>)"
    rf"|(?P<block></?+(?:{_BLOCKS}){_ATTRIBUTES}>)"
    rf"|</?+(?:{_INLINE}){_ATTRIBUTES}>"
    r"|(?P<entity>&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});)",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_HTML_SIGN = re.compile("<[/!A-Za-z]|&[#A-Za-z]")


def _plain(match: re.Match[str]) -> str:
    if match["gone"] is not None:
        return ""
    if match["block"] is not None:
        return "\n"
    entity = match["entity"]
    if entity is None:
        return ""
    if entity[1] != "#" and entity[1:] not in html.entities.html5:
        return str(entity)  # `AT&T;` is no entity
    return html.unescape(entity).replace("\xa0", " ")


_SURROGATE = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")


def _scalar(match: re.Match[str]) -> str:
    return match[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_REPLACEMENT = re.compile("\ufffd+")


def _lost(text: str) -> Change | None:
    first = _REPLACEMENT.search(text)
    return first and Change(text, text.count("\ufffd"), *first.span(), "")


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_LINE_END = re.compile("\r\n?|[\u2028\u2029]")
_INVISIBLE = (
    "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u3164\ufeff\ufff9-\ufffb"
)
_ZERO_WIDTH = re.compile(f"[{_INVISIBLE}]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# Between these a joiner joins nothing; between emoji, and in scripts that join their letters, it does.
_NOT_JOINED = re.compile(
    f"[\x00-\x7f\u1100-\u11ff\u3000-\u9fff\uac00-\ud7ff\uff00-\uffef{_INVISIBLE}]|\\s"
)


def _unless_it_joins(match: re.Match[str]) -> str:
    text, place, character = match.string, match.start(), match[0]
    if character not in "\u200c\u200d" or not place:
        return ""
    around = text[place - 1], text[place + 1 : place + 2]
    return character if all(side and not _NOT_JOINED.match(side) for side in around) else ""


_without_width = _substitution(_ZERO_WIDTH, _unless_it_joins)
_without_width_but_marks = _substitution(
    re.compile(f"(?![\u200e\u200f\u202a-\u202e\u2066-\u2069])[{_INVISIBLE}]"), _unless_it_joins
)


def _zero_width(text: str) -> Change | None:
    """Marks of direction stay in a text of which some runs from right to left."""
    return (_without_width_but_marks if _RIGHT_TO_LEFT.search(text) else _without_width)(text)


def _decomposed(text: str) -> Change | None:
    if unicodedata.is_normalized("NFC", text):
        return None
    composed = unicodedata.normalize("NFC", text)
    return _difference(text, composed, _hangul_gained(text, composed))


# ----------------------------------------------------------------------------------------------------- jamo

_HALF_WIDTH = re.compile("[\uffa0-\uffbe\uffc2-\uffc7\uffca-\uffcf\uffd2-\uffd7\uffda-\uffdc]+")
_LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_TAILS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_SPELLED = re.compile(f"([{_LEADS}])([{_VOWELS}])([{_TAILS[1:]}]?)(?![{_VOWELS}])")
# KS X 1001 writes a syllable that it has no code for as a filler, a lead, a vowel and a tail or another filler. The
# second form is a word typed jamo by jamo. Its lookbehind stands after the first character, which `re` looks for fast.
_JAMO_RUN = re.compile(
    f"\u3164([{_LEADS}])([{_VOWELS}])([{_TAILS[1:]}\u3164])"
    f"|[{_LEADS}](?<![ㄱ-ㅣ].)[{_VOWELS}](?:[{_TAILS[1:]}](?![{_VOWELS}]))?"
    f"(?:[{_LEADS}][{_VOWELS}](?:[{_TAILS[1:]}](?![{_VOWELS}]))?)+(?![ㄱ-ㅣ])",
    re.DOTALL,
)
_JAMO_SIGN = re.compile("[ㄱ-ㅎ][ㅏ-ㅣ]")


def _syllable(match: re.Match[str]) -> str:
    lead, vowel, tail = (
        _LEADS.index(match[1]),
        _VOWELS.index(match[2]),
        _TAILS.find(match[3] or " "),
    )
    tail = max(tail, 0)  # the filler is no tail
    return chr(0xAC00 + (lead * 21 + vowel) * 28 + tail)


def _full_width(match: re.Match[str]) -> str:
    """Half-width jamo as the full-width ones they stand for, in syllables where they spell them."""
    wide = (
        chr(int(unicodedata.decomposition(character).split()[-1], 16)) for character in match[0]
    )
    return _SPELLED.sub(_syllable, "".join(wide))


def _spelled(match: re.Match[str]) -> str:
    """ㅎㅏㄴㄱㅡㄹ, but not ㅋㅠㅋㅠ: laughing and crying repeat themselves, words mostly do not."""
    if match[1]:
        return _syllable(match)
    syllables = _SPELLED.sub(_syllable, match[0])
    return (
        syllables
        if len(set(syllables)) > 1 and not set(match[0]) <= set("ㅋㅎㅠㅜㅡㅇㅗ")
        else match[0]
    )


# ------------------------------------------------------------------------------------------------ repetition


def repeats(at_most: int) -> Callable[[str], Change | None]:
    """The finding of a character that stands more than `at_most` times in a row; digits and white space may."""
    return _substitution(
        re.compile(rf"([^\s0-9])\1{{{at_most},}}"), lambda match: match[1] * at_most
    )


# -------------------------------------------------------------------------------------------------- personal


def _masked(
    pattern: re.Pattern[str], mask: str, proof: Callable[[re.Match[str]], bool]
) -> Callable[[str], Change | None]:
    return _substitution(pattern, lambda match: mask if proof(match) else match[0])


_account = _substitution(
    personal.ACCOUNT,
    lambda match: f"{match[1]}[계좌번호]" if personal.is_account(match) else match[0],
)


def _always(match: re.Match[str]) -> bool:
    return True


_AT = re.compile("@")
_MASK = "--mask-personal"
_NUMBER = personal.LONG_NUMBER

TEXT_FINDINGS = (
    Finding(
        "byte-order-mark",
        "U+FEFF at the start of a document",
        "--fix byte-order-mark",
        lossless=True,
        look=_substitution(_MARKED, ""),
        guard=_STRANGE,
    ),
    Finding("mojibake", "Korean decoded with the wrong codec", "--fix mojibake", look=_mojibake),
    Finding(
        "replacement", "U+FFFD: characters that were lost before", "", look=_lost, guard=_STRANGE
    ),
    Finding(
        "html",
        "tags and entities",
        "--fix html",
        look=_substitution(_HTML, _plain),
        guard=_HTML_SIGN,
    ),
    Finding(
        "surrogates",
        "halves of UTF-16 pairs, which UTF-8 and Parquet cannot hold",
        "always: U+FFFD",
        look=_substitution(_SURROGATE, _scalar),
        guard=_STRANGE,
    ),
    Finding(
        "control",
        "NULs and control characters",
        "--fix control",
        look=_substitution(_CONTROL, lambda match: "\n" if match[0] in "\x0b\x0c\x85" else ""),
        guard=_STRANGE,
    ),
    Finding(
        "line-ends",
        "line ends other than \\n",
        "--fix line-ends",
        look=_substitution(_LINE_END, "\n"),
        guard=_STRANGE,
    ),
    Finding(
        "half-width-jamo",
        "half-width jamo, for which there are full-width ones",
        "--fix half-width-jamo",
        look=_substitution(_HALF_WIDTH, _full_width),
        guard=_STRANGE,
    ),
    Finding(
        "spelled-jamo",
        "syllables and words spelled in compatibility jamo",
        "--fix spelled-jamo",
        look=_substitution(_JAMO_RUN, _spelled),
        guard=_JAMO_SIGN,
    ),
    Finding(
        "zero-width",
        "characters without width, those inside emoji left alone",
        "--fix zero-width",
        look=_zero_width,
        guard=_STRANGE,
    ),
    Finding(
        "decomposed",
        "characters not composed (NFC): syllables in pieces, as macOS writes them",
        "--fix decomposed",
        lossless=True,
        look=_decomposed,
    ),
    Finding(
        "repeats",
        "a character many times in a row",
        f"--squeeze {SQUEEZE_DEFAULT}",
        look=repeats(SQUEEZE_DEFAULT),
    ),
    Finding(
        "email",
        "e-mail addresses",
        _MASK,
        look=_masked(personal.EMAIL, "[이메일]", _always),
        guard=_AT,
        private=True,
    ),
    Finding(
        "resident-number",
        "resident registration numbers",
        _MASK,
        look=_masked(personal.RESIDENT, "[주민등록번호]", personal.is_resident),
        guard=_NUMBER,
        private=True,
    ),
    Finding(
        "card-number",
        "card numbers",
        _MASK,
        look=_masked(personal.CARD, "[카드번호]", personal.is_card),
        guard=_NUMBER,
        private=True,
    ),
    Finding(
        "phone-number",
        "telephone numbers",
        _MASK,
        look=_masked(personal.PHONE, "[전화번호]", _always),
        guard=_NUMBER,
        private=True,
    ),
    Finding("account-number", "account numbers", _MASK, look=_account, guard=_NUMBER, private=True),
)
DOCUMENT_FINDINGS = (
    Finding("empty", "documents of nothing but white space", "--fix empty", lossless=True),
    Finding("tiny", "documents of a few characters", "--min-characters"),
    Finding("duplicate", "documents that came before, word for word", "--fix duplicate"),
    Finding("near-duplicate", "documents almost the same as one before", "--near-duplicates"),
)
BY_NAME = {finding.name: finding for finding in (*TEXT_FINDINGS, *DOCUMENT_FINDINGS)}

# What the counts of a text's characters tell by themselves. Joiners are left out: they may stand inside emoji.
_SIGNS = {
    "control characters": _CONTROL,
    "characters without width": re.compile(f"(?![\u200c\u200d])[{_INVISIBLE}]"),
    "half-width jamo": _HALF_WIDTH,
    "lone surrogates": re.compile("[\ud800-\udfff]"),
    "lost characters (U+FFFD)": _REPLACEMENT,
}
_MISREAD = re.compile("[\x80-\xff]")
MISREAD_SHARE = (
    0.05  # real text: nsmc 0.0007 %, the news 0.08 %; Korean misread as Latin-1: 60 % and more
)


def counted_signs(counts: Mapping[str, int]) -> list[str]:
    """What a text holds that `text clean` could repair, as far as the counts of its characters tell: "control characters (3)".

    It costs one look at each distinct character, so that staging can do it for every corpus.
    """
    found = []
    for name, pattern in _SIGNS.items():
        if number := sum(count for character, count in counts.items() if pattern.match(character)):
            found.append(f"{name} ({number:,})")
    misread = sum(count for character, count in counts.items() if _MISREAD.match(character))
    if misread > MISREAD_SHARE * sum(counts.values()):
        found.append(f"characters of misread Korean, as it looks ({misread:,})")
    return found
