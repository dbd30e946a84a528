"""The parts of the report: one HTML page without anything from elsewhere."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from pagap_jax.study.report_style import STYLE

# The browser itself then refuses to fetch anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Tile(NamedTuple):
    """A big number with what it is and how sure it is; `kind` is a CSS class."""

    label: str
    number: str
    detail: str
    kind: str = ""


class Link(NamedTuple):
    """A text that leads to a place relative to the page."""

    text: str
    href: str


class Card(NamedTuple):
    """A text with who wrote it; `kind` and `verdict_kind` are CSS classes."""

    title: str
    about: str
    text: str
    verdict: str
    kind: str = ""
    verdict_kind: str = ""


Cell = str | Link
_LONG = 40  # characters of a cell that aren't to be squeezed into a word a line


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
<style>{STYLE}</style>
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


def contents(parts: Iterable[str]) -> str:
    """A list of links to the sections whose `heading` is among the parts."""
    titles = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', "\n".join(parts))
    items = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title in titles)
    return f'<nav aria-label="contents"><ul>{items}</ul></nav>'


def links(entries: Iterable[Link]) -> str:
    """Links in one line."""
    return f'<p class="about">{" · ".join(_cell(entry) for entry in entries)}</p>'


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Words with what they mean, one after another in a paragraph."""
    items = " ".join(f"<b>{escape(word)}</b>: {escape(meaning)}" for word, meaning in entries)
    return f'<p class="about">{items}</p>'


def words(text: str) -> str:
    """A text with its line breaks."""
    return f'<div class="words">{escape(text)}</div>'


def folded(text: str, shown: int = 240) -> str:
    """The same; of a long text the beginning, all of it on demand."""
    if len(text) <= shown * 1.25:
        return words(text)
    begin = text[:shown].rstrip()
    return (
        f'<details class="words"><summary>{escape(begin)} …</summary>'
        f"<div>{escape(text)}</div></details>"
    )


def disclosure(title: str, content: str, is_open: bool = False) -> str:
    """Content that a title opens; `content` is HTML."""
    state = " open" if is_open else ""
    return f'<details class="block"{state}><summary>{escape(title)}</summary>{content}</details>'


def cards(entries: Iterable[Card]) -> str:
    """Texts side by side, each with who wrote it and what is said of it."""
    cells = "".join(
        f'<div class="card"><b{_class(card.kind)}>{escape(card.title)}</b>'
        f'<span class="about">{escape(card.about)}</span>{folded(card.text)}'
        f"<span{_class(card.verdict_kind)}>{escape(card.verdict)}</span></div>"
        for card in entries
    )
    return f'<div class="cards">{cells}</div>'


def alert(content: str) -> str:
    """What a reader must see first; `content` is HTML."""
    return f'<div class="alert">{content}</div>'


def notes(entries: Iterable[tuple[Cell, Sequence[str]]]) -> str:
    """A list of what each of some things has to say."""
    items = "".join(
        f"<li>{_cell(about)}<ul>{''.join(f'<li>{escape(text)}</li>' for text in said)}</ul></li>"
        for about, said in entries
    )
    return f"<ul>{items}</ul>"


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
    return f'<figure{_class(kind)}><div class="scroll" tabindex="0">{svg}</div>{about}</figure>'


def table(
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    text_columns: Sequence[int] = (),
    cell_kinds: Sequence[str] = (),
) -> str:
    """A table of texts that scrolls by itself where the page is narrow.

    Args:
        caption: what the table shows; it stands above, so that it stays when the table scrolls.
        headers: one per column; a row's first cell is its header.
        rows: cells, text or links; without any, the table says so.
        text_columns: columns aligned to the left; the first always is.
        cell_kinds: texts that become the CSS class of a cell that holds exactly them.
    """
    rows = [tuple(row) for row in rows]
    kinds = {column: "text" for column in text_columns}
    for column in (0, *text_columns):
        if any(len(row[column]) > _LONG for row in rows if isinstance(row[column], str)):
            kinds[column] = "text long"
    head = "".join(
        f'<th scope="col"{_class(kinds.get(column, ""))}>{escape(text)}</th>'
        for column, text in enumerate(headers)
    )
    body = []
    for first, *others in rows:
        cells = "".join(
            f"<td{_class(_kind(cell, cell_kinds) or kinds.get(i, ''))}>{_cell(cell)}</td>"
            for i, cell in enumerate(others, start=1)
        )
        kind = _class(kinds.get(0, ""))
        body.append(f'<tr><th scope="row"{kind}>{_cell(first)}</th>{cells}</tr>')
    about = paragraph(caption, "about")
    if not body:
        return about + paragraph("None.")
    lines = "\n".join(body)
    return (
        f'{about}<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f'<a href="{escape(cell.href)}">{escape(cell.text)}</a>'
    return escape(cell)


def _kind(cell: Cell, kinds: Sequence[str]) -> str:
    return cell if isinstance(cell, str) and cell in kinds else ""


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
