"""Text whose bytes fit no encoding that is read: what it most likely is, and its repair to UTF-8.

    UTF-16 without a mark, ISO-2022-KR, Johab   the whole file decoded as that
    UTF-8 and CP949 mixed                       each line decoded as the one that it is in
    single bytes                                U+FFFD

Reading never does this by itself, because it is a judgement; the doctor does when asked. What it
did is counted.
"""

import io
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from semigpt.corpus.byte_stream import stream_of

__all__ = ["ISO_2022_KR", "EncodingRepairs", "RepairedFile", "is_utf_16", "whole_encoding"]

SAMPLE_BYTES = 1 << 20
LINE_BYTES = 1 << 24  # a longer line is repaired in parts
ISO_2022_KR = b"\x1b$)C"  # what a file in it begins with
# Real text has 97 % and more; other encodings of Korean read as one of these have half as many.
PLAUSIBLE_FRACTION = 0.9
PLAUSIBLE = re.compile(
    "[\t\n\r -~가-힣ㄱ-ㅣ‘’“”…·—–「」『』《》〈〉※→、。\u00a0\u3000\uff01-\uff5e]"
)
SHOWN = 3


@dataclass
class EncodingRepairs:
    """What was repaired.

    files:    how many files
    lines:    decoded in another encoding than most of their file
    lost:     bytes in no encoding, now U+FFFD
    whole:    files decoded as a whole
    examples: a file with its first line that was repaired, as it became
    """

    files: int = 0
    lines: int = 0
    lost: int = 0
    whole: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def places(self) -> int:
        return self.lines + self.lost + self.whole

    def add(self, name: str, file: "RepairedFile") -> None:
        """Count a file that was read to its end."""
        self.files += 1
        self.whole += file.whole is not None
        self.lines += min(file.lines.values())
        self.lost += file.lost
        if len(self.examples) < SHOWN:
            self.examples.append((name, file.example))


class RepairedFile:
    """A file's text, line by line, and what was done to it. `file` is at its first byte."""

    def __init__(self, file: BinaryIO) -> None:
        self.lines = {"utf-8": 0, "cp949": 0}
        self.lost = 0
        self.example = ""
        self._file = file
        self._sample = file.read(SAMPLE_BYTES)
        self.whole = whole_encoding(self._sample)

    def stream(self) -> BinaryIO:
        """The text in UTF-8; once it is read, all is counted."""
        return stream_of(self._chunks())

    def _chunks(self) -> Generator[bytes, None, None]:
        if self.whole is None:
            for line in self._raw_lines():
                yield self._line(line).encode()
            return
        self.example = self.whole
        file = _joined(self._sample, self._file)
        reader = io.TextIOWrapper(file, self.whole, "replace", newline="")
        while text := reader.read(SAMPLE_BYTES):
            self.lost += text.count("\ufffd")
            yield text.encode("utf-8", "replace")

    def _raw_lines(self) -> Iterator[bytes]:
        file = _joined(self._sample, self._file)
        while line := file.readline(LINE_BYTES):
            yield line

    def _line(self, line: bytes) -> str:
        if line.isascii():
            return line.decode("ascii")
        readings = {}
        for encoding in self.lines:
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError:
                text = line.decode(encoding, "replace")
            readings[encoding] = text
        # UTF-8 that is valid is no accident; CP949 often is.
        if "\ufffd" not in readings["utf-8"]:
            self.lines["utf-8"] += 1
            return readings["utf-8"]
        encoding = max(readings, key=lambda name: _plausible(readings[name]))
        text = readings[encoding]
        self.lines[encoding] += 1
        self.lost += text.count("\ufffd")
        if not self.example or "\ufffd" in text:
            self.example = self.example if "\ufffd" in self.example else text.strip()[:80]
        return text


def whole_encoding(sample: bytes) -> str | None:
    """Python's name of the encoding that all of a file is most likely in; None where it is mixed.

    sample: the file's first bytes
    """
    if ISO_2022_KR in sample:
        return "iso2022_kr"
    candidates = [name for name in ("utf-16-le", "utf-16-be", "johab") if _fits(sample, name)]
    return candidates[0] if candidates else None


def is_utf_16(sample: bytes) -> bool:
    """Whether bytes without a mark are UTF-16, which can be valid UTF-8 full of NULs."""
    few = sample.count(0) * 20 < len(sample)
    return not few and any(_fits(sample, name) for name in ("utf-16-le", "utf-16-be"))


def _fits(sample: bytes, encoding: str) -> bool:
    try:
        text = sample[: len(sample) // 2 * 2].decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4:
            return False
        text = sample[: error.start].decode(encoding)
    wide = [character for character in text if not character.isascii()]
    return (
        bool(text)
        and _plausible(text) >= PLAUSIBLE_FRACTION
        and (encoding != "johab" or _plausible("".join(wide)) >= PLAUSIBLE_FRACTION)
    )


def _plausible(text: str) -> float:
    return len(PLAUSIBLE.findall(text)) / max(len(text), 1)


def _joined(head: bytes, file: BinaryIO) -> BinaryIO:
    def chunks() -> Generator[bytes, None, None]:
        yield head
        while chunk := file.read(SAMPLE_BYTES):
            yield chunk

    return stream_of(chunks())
