"""How every figure looks, and how it becomes bytes: the same bytes for the same rows.

matplotlib is imported only where something is drawn. No figure goes through pyplot: nothing is
shared between figures, and no screen is needed.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pagap_jax.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INK = "#24292f"
MUTED = "#6e7781"
RULE = "#d8dee4"
GOLD = "#b7791f"
PAGE = "#ffffff"
# Okabe and Ito's palette, told apart with any colour vision; markers tell apart without colour.
_METHODS = {
    "online": ("#0072b2", "o"),
    "offline": ("#d55e00", "^"),
    "shuffled": ("#009e73", "D"),
    "lightly shuffled": ("#56b4e9", "v"),
    "heavily shuffled": ("#e69f00", "P"),
    "replayed": ("#a05195", "x"),
    "sft vs early": ("#56b4e9", "v"),
    "early vs late": ("#e69f00", "P"),
    "late vs late": ("#cc79a7", "s"),
    "proxy": ("#6e7781", "X"),
}
_OTHER = ("#cc79a7", "s")
_CSS_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", GOLD: "gold", PAGE: "page"} | {
    colour: f"line-{colour[1:]}" for colour, _ in (*_METHODS.values(), _OTHER) if colour != MUTED
}

_TOOLTIP = "tooltip:"
_LINKED = re.compile(rf"<a xlink:href=([\"']){_TOOLTIP}(.*?)\1[^>]*>(.*?)</a>", re.DOTALL)
_SCALES = 0.85, 1.25  # least and most of a figure on a page: 9 points become 10 to 15 pixels

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",  # the page's shows, and where a figure scrolls its shadow
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.titlesize": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.hashsalt": "pagap",  # else ids in the SVG are random
}


def colour_of(arm: str) -> str:
    """The arm's colour, the same in every figure; 'online, bo2' has that of 'online'."""
    return _METHODS.get(arm.split(", ")[0], _OTHER)[0]


def is_known(arm: str) -> bool:
    """Whether the arm has a colour of its own; 'online, bo2' has online's, and so hasn't."""
    return arm in _METHODS


def marker_of(arm: str) -> str:
    """The arm's marker, the same in every figure."""
    return _METHODS.get(arm.split(", ")[0], _OTHER)[1]


def checkpoint_names(frame: pd.DataFrame) -> list[str]:
    """What a point says when it's pointed at: its run and step, and where it lies."""
    return [
        f"{row.run}, seed {row.seed}, step {row.step}: KL {row.kl:.2f}, win rate {row.win_rate:.3f}"
        for row in frame.itertuples()
    ]


def name_points(points: "PathCollection", names: Sequence[str]) -> None:
    """Gives each point of a scatter plot a tooltip, in what is written as SVG."""
    points.set_urls([_TOOLTIP + name for name in names])


def name_line(line: "Line2D", name: str) -> None:
    """Gives a whole line a tooltip."""
    line.set_url(_TOOLTIP + name)


def name_places(axes: "Axes", x: pd.Series, y: pd.Series, names: Sequence[str]) -> None:
    """The same for points of a line, which matplotlib draws as one: unseen points over them."""
    name_points(axes.scatter(x, y, s=60, alpha=0, linewidths=0, zorder=6), names)


@contextmanager
def style(text_as_text: bool = False) -> Iterator[None]:
    """What figures are drawn and written under, so that a user's matplotlibrc can't change them.

    Text in an SVG becomes outlines, which look the same everywhere, unless `text_as_text`.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        matplotlib.rcParams["svg.fonttype"] = "none" if text_as_text else "path"
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def set_kl_axis(axes: "Axes", kl: pd.Series, which: str) -> None:
    """Makes axis 'x' or 'y' logarithmic, but linear near 0: the SFT policy has KL 0."""
    kl = kl[np.isfinite(kl) & (kl > 0)]
    ordinary = float(kl.quantile(0.05)) if len(kl) else 0.1
    power = math.floor(math.log10(max(ordinary, 1e-3)))
    linear_below = 10.0**power * (3 if ordinary >= 3 * 10.0**power else 1)
    highest = max(float(kl.max()) if len(kl) else 1.0, 10 * linear_below) * 1.15
    powers = range(power, math.ceil(math.log10(highest)) + 1)
    round_numbers = [digit * 10.0**power for power in powers for digit in (1, 3)]
    ticks = [0.0, *(tick for tick in round_numbers if linear_below <= tick <= highest)]
    axis = axes.xaxis if which == "x" else axes.yaxis
    scale, limit = getattr(axes, f"set_{which}scale"), getattr(axes, f"set_{which}lim")
    scale("symlog", linthresh=linear_below, linscale=0.35)
    limit(-0.15 * linear_below, highest)
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def save_figure(figure: "Figure", path_stem: str | Path) -> tuple[Path, Path]:
    """Writes path_stem.png (200 dots an inch) and path_stem.svg; returns both paths."""
    png, svg = (Path(f"{path_stem}.{kind}") for kind in ("png", "svg"))
    with style():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=200, facecolor=PAGE, metadata={"Software": None})
        write_atomically(png, content.getvalue())
        write_atomically(svg, _svg(figure, facecolor=PAGE).encode())
    return png, svg


def inline_svg(figure: "Figure", prefix: str, description: str) -> str:
    """The figure as an <svg> element for an HTML page.

    Its text is text, its colours are the page's CSS variables (so that dark mode reaches it), and
    its ids start with `prefix` (so that two figures on a page don't clash). It gets no narrower
    than its text can be read: what holds it has to scroll.
    """
    with style(text_as_text=True):
        text = _svg(figure, facecolor="none")
    text = text[text.index("<svg") :]
    # A style element would reach the whole page; the page's own style holds these two rules.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for colour, variable in _CSS_VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    head, tail = text.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    width = figure.get_figwidth() * 96  # CSS pixels
    least, most = (f"{width * scale:.0f}px" for scale in _SCALES)
    size = f"min-width: {least}; max-width: {most}"
    return f'{head} style="{size}" role="img" aria-label="{escape(description)}">{tail}'


def _svg(figure: "Figure", facecolor: str) -> str:
    content = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(content, format="svg", facecolor=facecolor, metadata=nothing)
    # matplotlib can link a point, and not name it: the link becomes a name.
    return _LINKED.sub(r"<g><title>\2</title>\3</g>", content.getvalue())


def draw_golden_line(axes: "Axes") -> None:
    """Where a policy wins as often as the golden policy."""
    axes.axhline(0.5, color=GOLD, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
    axes.annotate(
        "golden policy",
        (0, 0.5),
        (6, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=GOLD,
    )
