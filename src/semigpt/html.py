"""HTML from text of any origin, and the tables by which objects show themselves in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable

from semigpt.controls import pictured

__all__ = ["escape", "table"]


def escape(text: object) -> str:
    """`str(text)` as HTML that shows it and can be encoded: no character of it is markup."""
    return html.escape(pictured(str(text)))


def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A two-column table of (name, value) with inline style, for `_repr_html_`; all is escaped."""
    body = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td>'
        f'<td style="text-align:right;font-variant-numeric:tabular-nums">{escape(value)}</td></tr>'
        for name, value in rows
    )
    caption = f'<caption style="text-align:left;caption-side:top">{escape(title)}</caption>'
    return f'<table style="border-collapse:collapse">{caption}<tbody>{body}</tbody></table>'
