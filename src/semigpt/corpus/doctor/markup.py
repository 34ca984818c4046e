"""HTML in a text: tags, comments, scripts and entities."""

import html
import html.entities
import re

__all__ = ["HTML", "HTML_SIGN", "plain"]

_BLOCKS = (
    "address|article|aside|blockquote|br|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|header"
    "|hr|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|tr|ul"
)
_INLINE = (
    "a|abbr|b|big|body|button|center|cite|code|em|embed|font|head|html|i|iframe|img|input|ins|label"
    "|link|mark|meta|noscript|object|option|q|s|select|small|span|strike|strong|sub|sup|svg"
    "|textarea|title|tt|u|video"
)
# No repeated group is possessive: before Python 3.11.5 these match wrongly (gh-101955). Each turn
# has only one way to match anyway.
_ATTRIBUTES = (
    r"(?:\s++[A-Za-z_:][A-Za-z0-9_:.-]*+"
    r"""(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s"'<>]++))?)*\s*+/?+"""
)
HTML = re.compile(
    # Comments and scripts do not match past another of their kind: a million openings stay fast.
    r"(?P<gone><!--(?:[^<-]++|<(?!!--)|-(?!->))*-->|<!DOCTYPE[^<>]*+>"
    r"|<(?P<raw>script|style)\b[^<>]*+>"
    r"(?:[^<]++|<(?!(?:script|style)\b|/(?P=raw)))*</(?P=raw)\s*+>)"
    rf"|(?P<block></?+(?:{_BLOCKS}){_ATTRIBUTES}>)"
    rf"|</?+(?:{_INLINE}){_ATTRIBUTES}>"
    r"|(?P<entity>&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});)",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
HTML_SIGN = re.compile("<[/!A-Za-z]|&[#A-Za-z]")


def plain(match: re.Match[str]) -> str:
    """The text of a match of HTML: block tags become a line end, other tags nothing."""
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
