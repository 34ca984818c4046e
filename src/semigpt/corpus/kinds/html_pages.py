"""Web pages as the text that a browser shows.

Read by lxml, event by event: memory is that of the text, and its time is linear in the page. (The
standard library's parser took 98 s for 60 kB of `<a `, and those that build HTML 5's tree take
quadratic time for nested tags.) Each block of a page (a paragraph, heading, list item, table cell)
is a paragraph of the text, `<br>` a line end in it. Not shown: the head, scripts, styles,
navigation, forms' controls, what is hidden.
"""

import re
from collections.abc import Mapping

from semigpt.corpus.kinds.extra import needs_extra

__all__ = ["DECLARED_CHARSET", "html_paragraphs"]

HIDDEN = frozenset(
    """
    head script style nav template noscript svg math iframe object audio video canvas select button
    textarea datalist
    """.split()  # noqa: SIM905
)
BLOCKS = frozenset(
    """
    address article aside blockquote body caption center dd details dialog dir div dl dt fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu ol
    option p pre search section summary table tbody td tfoot th thead tr ul
    """.split()  # noqa: SIM905
)
NOT_SHOWN = re.compile(r"\b(display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
SPACE = re.compile("[ \t\n\r\f\xa0]+")
FED_AT_ONCE = 1 << 16
# What a page says of its own encoding, in its first kilobytes.
DECLARED_CHARSET = re.compile(
    rb"""<meta\b[^>]*?\bcharset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)


def html_paragraphs(text: str) -> list[str]:
    """The paragraphs that a browser would show of a page or of a part of one.

    Raises CorpusError where lxml is not installed.
    """
    with needs_extra("HTML"):
        from lxml import etree

    visible = _Visible()
    parser = etree.HTMLParser(target=visible, recover=True, no_network=True)
    text = text.replace("\0", "")
    if not text or text.isspace():
        return []
    for start in range(0, len(text), FED_AT_ONCE):
        parser.feed(text[start : start + FED_AT_ONCE])
    parser.close()
    return visible.paragraphs


class _Visible:
    """Collects what is shown; lxml calls its methods."""

    def __init__(self) -> None:
        self.paragraphs: list[str] = []
        self._parts: list[str] = []
        self._hidden = 0  # tags that are open inside the outermost one that is not shown
        self._pre = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not self._hidden and tag in BLOCKS:
            self._end_paragraph()
        unseen = "hidden" in attributes or NOT_SHOWN.search(attributes.get("style") or "")
        if self._hidden or tag in HIDDEN or unseen:
            self._hidden += 1
        elif tag == "br":
            self._parts.append("\n")
        else:
            self._pre += tag == "pre"

    def end(self, tag: str) -> None:
        if self._hidden:
            self._hidden -= 1
        elif tag in BLOCKS:
            self._end_paragraph()
            self._pre -= tag == "pre"

    def data(self, text: str) -> None:
        if not self._hidden:
            self._parts.append(text if self._pre else SPACE.sub(" ", text))

    def close(self) -> None:
        self._end_paragraph()

    def _end_paragraph(self) -> None:
        text = "".join(self._parts)
        self._parts.clear()
        if not self._pre:
            lines = (SPACE.sub(" ", line).strip() for line in text.split("\n"))
            text = "\n".join(filter(None, lines))
        if text and not text.isspace():
            self.paragraphs.append(text.strip("\n"))
