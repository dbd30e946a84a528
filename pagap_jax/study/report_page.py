"""The look of the report: one HTML page without anything from elsewhere, in light and in dark."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #24292f; --muted: #59636e;
  --rule: #d8dee4; --tile: #f6f8fa; --gold: #9a6700; --line-0072b2: #0072b2; --line-d55e00: #c04f00;
  --line-009e73: #007a59; --line-56b4e9: #2f94cf; --line-e69f00: #b87f00; --line-a05195: #a05195;
  --line-cc79a7: #b5588a; --passed: #1a7f37; --missed: #c62828; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0d1117; --ink: #e6edf3; --muted: #9198a1; --rule: #30363d; --tile: #161b22;
    --gold: #d9a441; --line-0072b2: #58b4f0; --line-d55e00: #ff8f4d; --line-009e73: #3fc79a;
    --line-56b4e9: #9bd7ff; --line-e69f00: #f5c04a; --line-a05195: #cf8fc6; --line-cc79a7: #eaa3c9;
    --passed: #3fb950; --missed: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.25rem 4rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--rule); }
p, li { max-width: 46rem; }
.lede { font-size: 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0; }
.tile { background: var(--tile); border: 1px solid var(--rule); border-radius: .5rem;
  padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.9rem; line-height: 1.25; }
.tile span { display: block; color: var(--muted); font-size: .85rem; }
.online b { color: var(--line-0072b2); }
.offline b { color: var(--line-d55e00); }
nav ul { columns: 2; padding-left: 1.1rem; }
@media (max-width: 40rem) { nav ul { columns: 1; } }
a { color: inherit; }
figcaption code { overflow-wrap: anywhere; }
figure { margin: 1.5rem 0 2rem; }
svg { display: block; width: 100%; height: auto; }
.narrow svg { max-width: 58rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption, .about { color: var(--muted); font-size: .88rem; max-width: 58rem; margin: .5rem 0; }
.scroll { overflow-x: auto; margin: .5rem 0 1.75rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums;
  min-width: 36rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child, .text { text-align: left; }
tbody th, td.text { white-space: normal; }
thead th { border-bottom: 2px solid var(--rule); color: var(--muted); font-weight: 600; }
tbody th { font-weight: 500; }
.passed, .missed, .agrees, .disagrees, .undecided { text-align: left; }
.passed, .agrees { color: var(--passed); }
.missed, .disagrees { color: var(--missed); font-weight: 700; }
@media print { .scroll { overflow: visible; } figure { break-inside: avoid; } }
"""
# The browser itself then refuses to fetch anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Tile(NamedTuple):
    """A big number with what it is and how sure it is; `kind` is a CSS class."""

    label: str
    number: str
    detail: str
    kind: str = ""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole HTML document; `title` is text, each part is HTML."""
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def title(text: str) -> str:
    """The page's title, as its reader sees it."""
    return f"<h1>{escape(text)}</h1>"


def heading(text: str) -> str:
    """A section's title, which the contents list can lead to."""
    return f'<h2 id="{_anchor(text)}">{escape(text)}</h2>'


def subheading(text: str) -> str:
    """A title within a section."""
    return f"<h3>{escape(text)}</h3>"


def contents(headings: Sequence[str]) -> str:
    """A list of links to sections by their titles."""
    items = "".join(f'<li><a href="#{_anchor(h)}">{escape(h)}</a></li>' for h in headings)
    return f"<nav><ul>{items}</ul></nav>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text, `kind` its CSS class."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def bullets(texts: Sequence[str]) -> str:
    """A list of texts, nothing for none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if texts else ""


def tiles(entries: Iterable[Tile]) -> str:
    """Big numbers side by side."""
    cells = "".join(
        f"<div{_class(f'tile {tile.kind}'.strip())}><span>{escape(tile.label)}</span>"
        f"<b>{escape(tile.number)}</b><span>{escape(tile.detail)}</span></div>"
        for tile in entries
    )
    return f'<div class="tiles">{cells}</div>'


def figure(svg: str, caption: str, kind: str = "", command: str = "") -> str:
    """A drawing, given as an <svg> element, with its caption and the command behind it, as text."""
    made_by = f"<br>Rows: <code>{escape(command)}</code>" if command else ""
    about = f"<figcaption>{escape(caption)}{made_by}</figcaption>"
    return f"<figure{_class(kind)}>{svg}{about}</figure>"


def table(
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    text_columns: Sequence[int] = (),
    cell_kinds: Sequence[str] = (),
) -> str:
    """A table of texts that scrolls by itself where the page is narrow.

    Args:
        caption: what the table shows; it stands above, so that it stays when the table scrolls.
        headers: one per column; a row's first cell is its header.
        rows: cells as text; without any, the table says so.
        text_columns: columns aligned to the left; the first always is.
        cell_kinds: texts that become the CSS class of a cell that holds exactly them.
    """
    kinds = {column: "text" for column in text_columns}
    head = "".join(
        f'<th scope="col"{_class(kinds.get(column, ""))}>{escape(text)}</th>'
        for column, text in enumerate(headers)
    )
    body = []
    for first, *others in rows:
        cells = "".join(
            f"<td{_class(text if text in cell_kinds else kinds.get(i, ''))}>{escape(text)}</td>"
            for i, text in enumerate(others, start=1)
        )
        body.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    about = paragraph(caption, "about")
    if not body:
        return about + paragraph("None.")
    lines = "\n".join(body)
    return (
        f'{about}<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
