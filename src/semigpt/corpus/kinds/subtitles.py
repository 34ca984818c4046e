"""Subtitles, without their numbers, times and tags: a cue is a paragraph of the text.

.srt   cues under a line of times, `00:01:02,345 --> 00:01:04,000`
.vtt   WebVTT: blocks between blank lines, of which those with such a line are cues
.smi   SAMI: cues behind `<SYNC Start=…>`, in one or more languages, told apart by the class of
       their `<P>`. One language is taken: Korean if it is there
"""

import html
import re
from collections import Counter
from collections.abc import Iterator

from semigpt.language import N_, _

__all__ = ["sami_cues", "srt_cues", "vtt_cues"]

PLAIN = N_("no {times} in it, so read as plain text")
_TIME = r"\d{1,3}:\d{1,2}:\d{1,2}(?:[,.:]\d{1,4})?"
TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
VTT_TIMES = re.compile(r"\s*[\d:.]{5,15}\s+-->\s+[\d:.]{5,15}")
VTT_TAG = re.compile(r"<[/\w][^<>]*>")
NUMBER = re.compile(r"\s*\d+\s*")
STYLE = re.compile(r"</?(?:[bius]|font|c|v|ruby|rt)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)

SYNC = re.compile(r"<sync\b[^<>]*>", re.IGNORECASE)
PARAGRAPH = re.compile(r"<p\b([^<>]*)>", re.IGNORECASE)
CLASS = re.compile(r"""\bclass\s*=\s*["']?([\w-]+)""", re.IGNORECASE)
LANGUAGE = re.compile(r"\.([\w-]+)\s*\{[^{}]*\blang\s*:\s*ko", re.IGNORECASE)
KOREAN = re.compile("KR|KO", re.IGNORECASE)
BREAK = re.compile(r"<br\b[^<>]*>", re.IGNORECASE)
TAG = re.compile(r"<[/!?a-z][^<>]*>", re.IGNORECASE)
SPACE = re.compile(r"[ \t\r\n\xa0]+")


def srt_cues(text: str) -> tuple[list[str], str]:
    """The cues of an .srt file, and a note; without a line of times it is plain text."""
    cues = list(_srt_cues(text))
    return cues, "" if len(cues) > 1 else _(PLAIN).format(times=_("times of subtitles"))


def _srt_cues(text: str) -> Iterator[str]:
    """The cues, the first of them what stands before all times."""
    cue: list[str] = []
    for line in text.split("\n"):
        if not TIMES.match(line):
            cue.append(STYLE.sub("", line).strip())
            continue
        # The lines since the last one of times are its cue, a blank line and this one's number.
        if cue and NUMBER.fullmatch(cue[-1]):
            cue.pop()
        yield "\n".join(filter(None, cue))
        cue = []
    yield "\n".join(filter(None, cue))


def vtt_cues(text: str) -> tuple[list[str], str]:
    """The cues of a .vtt file, and a note; without a line of times it is plain text."""
    cues = []
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.split("\n")
        at = next((n for n, line in enumerate(lines) if VTT_TIMES.match(line)), None)
        if at is not None:
            found = (html.unescape(VTT_TAG.sub("", line)).strip() for line in lines[at + 1 :])
            cues.append("\n".join(filter(None, found)))
    return (
        (cues, "") if cues else (text.split("\n"), _(PLAIN).format(times=_("times of subtitles")))
    )


def sami_cues(text: str) -> tuple[list[str], str]:
    """The cues of an .smi file in one language, and a note where there are more, else "".

    Without a `<SYNC>` it is plain text.
    """
    head, *parts = SYNC.split(text)
    if not parts:
        return text.split("\n"), _(PLAIN).format(times="<SYNC>")
    cues: list[tuple[str, str]] = []
    for part in parts:
        first, *paragraphs = PARAGRAPH.split(part)
        pairs = [("", first), *zip(paragraphs[::2], paragraphs[1::2], strict=True)]
        for attributes, content in pairs:
            name = CLASS.search(attributes)
            if cue := _plain(content):
                cues.append((name[1].upper() if name else "", cue))
    counts = Counter(name for name, _ in cues if name)
    if len(counts) < 2:
        return [cue for _, cue in cues], ""
    declared = {name.upper() for name in LANGUAGE.findall(head)}
    chosen = max(
        counts, key=lambda name: (name in declared, bool(KOREAN.match(name)), counts[name])
    )
    others = ", ".join(sorted(name for name in counts if name != chosen))
    note = _("subtitles in more than one language: {chosen} was read, {others} left out").format(
        chosen=chosen, others=others
    )
    return [cue for name, cue in cues if name in ("", chosen)], note


def _plain(content: str) -> str:
    """A cue without tags, its lines where `<br>` ends them."""
    lines = (TAG.sub("", line) for line in BREAK.split(content))
    cleaned = (SPACE.sub(" ", html.unescape(line)).strip() for line in lines)
    return "\n".join(filter(None, cleaned))
