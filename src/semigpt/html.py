"""HTML from text of any origin, and the tables by which objects show themselves in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["escape", "table"]

# Characters that HTML forbids or UTF-8 cannot hold. Controls become their pictures (␀, ␛); the rest
# U+FFFD.
_FORBIDDEN = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD),
}


def escape(text: object) -> str:
    """`str(text)` as HTML that shows it and can be encoded: no character of it is markup."""
    return html.escape(str(text).translate(_FORBIDDEN))


def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A two-column table of (name, value) with inline style, for `_repr_html_`; all is escaped."""
    body = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td>'
        f'<td style="text-align:right;font-variant-numeric:tabular-nums">{escape(value)}</td></tr>'
        for name, value in rows
    )
    caption = f'<caption style="text-align:left;caption-side:top">{escape(title)}</caption>'
    return f'<table style="border-collapse:collapse">{caption}<tbody>{body}</tbody></table>'
