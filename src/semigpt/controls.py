"""Control characters as pictures: text of any origin that no terminal and no page acts on."""

from __future__ import annotations

__all__ = ["pictured"]

# Controls below U+0080 have pictures (␀, ␛). The others, lone surrogates and what is no character
# have none.
_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD),
}
_IN_LINES = {code: to for code, to in _PICTURES.items() if chr(code) not in "\t\n"}


def pictured(text: str, *, one_line: bool = False) -> str:
    """`text` with its control characters as pictures, and lone surrogates as U+FFFD.

    Tabs and line ends stay, except with `one_line`.
    """
    return text.translate(_PICTURES if one_line else _IN_LINES)
