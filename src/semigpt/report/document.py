"""The shell of every HTML page: it opens with no network, and runs and loads nothing."""

from __future__ import annotations

from semigpt.html import escape
from semigpt.report.charts import CHART_STYLE

__all__ = ["page"]

# Nothing may be loaded or run, whatever text is on the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

STYLE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 3rem 1.25rem 5rem; max-width: 47.5rem; background: var(--paper);
  color: var(--ink); font: 400 1rem/1.6 system-ui, -apple-system, "Segoe UI", "Apple SD Gothic Neo",
  "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", sans-serif; }
h1 { margin: .3rem 0 .8rem; font-size: clamp(1.55rem, 5vw, 2.2rem); font-weight: 400;
  line-height: 1.25; letter-spacing: -.015em; text-wrap: balance; }
h1 strong { font-weight: 650; white-space: nowrap; }
h2 { margin: 3.2rem 0 .4rem; font-size: 1.1rem; font-weight: 650; }
h3 { margin: 0 0 .3rem; font-size: .8rem; font-weight: 500; color: var(--soft); }
p { margin: .4rem 0; max-width: 41rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "D2Coding",
  "Noto Sans Mono CJK KR", monospace; font-size: .85em; }
pre { margin: .6rem 0; padding: .8rem 1rem; border: 1px solid var(--rule); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.7; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
td, th { padding: .22rem 0; border-bottom: 1px solid var(--rule); text-align: left;
  font-weight: 400; vertical-align: top; }
th { color: var(--soft); padding-right: 1.2rem; }
td { overflow-wrap: anywhere; }
body [lang=ko] { white-space: pre-wrap; word-break: keep-all; overflow-wrap: anywhere; }
html[lang=ko] { word-break: keep-all; }
.soft, figcaption, .missing { color: var(--soft); font-size: .88rem; }
.missing { font-style: italic; }
figure { margin: 1.2rem 0; }
figcaption { margin-bottom: .5rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr));
  gap: 0 2rem; }
.chart > svg { display: block; width: 100%; height: auto; overflow: visible; }
.chart .narrow { display: none; }
@media (max-width: 34rem) { .chart .wide { display: none; } .chart .narrow { display: block; } }
@media print {
  body { padding: 0; max-width: none; }
  h1, h2, h3 { break-after: avoid; }
  figure, table, pre { break-inside: avoid; }
}
"""


def page(title: str, body: str, style: str = "", *, lang: str = "en") -> str:
    """A whole HTML document.

    body:  HTML; Korean text in an English one has lang="ko"
    style: more CSS
    lang:  its language
    """
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CHART_STYLE}{STYLE}\n{style}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
