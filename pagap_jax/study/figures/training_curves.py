"""How runs trained: every statistic of metrics.jsonl over steps, small panels side by side."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pagap_jax.study import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "loss": "loss",
    "margin": "margin h, nats",
    "kl": "KL from SFT, nats a response",
    "log_ratio": "log π − log π_SFT, nats",
    "accuracy": "share ranked right",
    "chosen_probability": "judge's P(chosen)",
    "win_probability": "judge's P(win)",
    "response_length": "tokens a response",
    "share_finished": "share finished",
    "share_unique": "share unique",
    "ties": "share of ties",
    "chosen_log_prob": "log π of chosen, nats",
    "rejected_log_prob": "log π of rejected, nats",
    "prompt_truncated": "share of prompts cut",
    "gradient_norm": "gradient norm",
    "update_norm": "norm of the update",
}
# How fast a machine was isn't what came out, and differs from run to run.
NOT_SHOWN = ("step", "tokens_per_second", "pairs_per_second", "seconds", "wall_time", "time")
MOST_POINTS = 200  # of a line: more can't be told apart
_COLUMNS = 3
_OTHER_LINES = ("#a05195", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#0072b2", "#d55e00")


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run's statistics: a column each beside `step`; lines of one group share a colour."""

    group: str
    name: str
    frame: pd.DataFrame


def shown_columns(curves: Sequence[Curve]) -> tuple[list[str], dict[str, float]]:
    """Columns that change, known ones first; and those that don't, with their value."""
    found = dict.fromkeys(name for curve in curves for name in curve.frame.columns)
    known = [name for name in LABELS if name in found]
    names = known + [name for name in found if name not in LABELS and name not in NOT_SHOWN]
    changing, constant = [], {}
    for name in names:
        values = pd.concat([c.frame[name] for c in curves if name in c.frame]).dropna()
        if len(values) and values.nunique() == 1:
            constant[name] = float(values.iloc[0])
        elif len(values):
            changing.append(name)
    return changing, constant


def label_of(name: str) -> str:
    """A column in words."""
    return LABELS.get(name, name.replace("_", " "))


def draw_training(curves: Sequence[Curve]) -> "Figure | None":
    """A panel a statistic, a line a run; None where nothing changes.

    Args:
        curves: of jobs of one kind.
    """
    names, _ = shown_columns(curves)
    if not names:
        return None
    lines = math.ceil(len(names) / _COLUMNS)
    groups = list(dict.fromkeys(curve.group for curve in curves))
    with drawing.style():
        figure = drawing.new_figure(8.6, 0.7 + 1.75 * lines)
        panels = figure.subplots(lines, _COLUMNS, squeeze=False).flatten()
        for axes, name in zip(panels, names, strict=False):
            axes.set_title(label_of(name), loc="left")
            for curve in curves:
                if name in curve.frame:
                    _draw(axes, curve, name, _colour_of(curve.group, groups))
            axes.locator_params(nbins=4)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for axes in panels[max(0, len(names) - _COLUMNS) : len(names)]:
            axes.set_xlabel("step")
        _legend(figure, groups)
    return figure


def thinned(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """step and a column, as means over blocks of steps where there are too many."""
    kept = frame[["step", name]].dropna()
    if len(kept) <= MOST_POINTS:
        return kept
    block = np.arange(len(kept)) * MOST_POINTS // len(kept)
    return kept.groupby(block).agg({"step": "max", name: "mean"})


def _draw(axes: "Axes", curve: Curve, name: str, colour: str) -> None:
    shown = thinned(curve.frame, name)
    dot = "o" if len(shown) == 1 else "-"
    (line,) = axes.plot(shown["step"], shown[name], dot, color=colour, linewidth=1.2, alpha=0.75)
    drawing.name_line(line, curve.name)


def _colour_of(group: str, groups: Sequence[str]) -> str:
    """Arms have their own colour in every figure; other jobs one after another."""
    if drawing.is_known(group):
        return drawing.colour_of(group)
    known = {drawing.colour_of(other) for other in groups if drawing.is_known(other)}
    left = [colour for colour in _OTHER_LINES if colour not in known] or _OTHER_LINES
    others = [other for other in groups if not drawing.is_known(other)]
    return left[others.index(group) % len(left)]


def _legend(figure: "Figure", groups: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=_colour_of(group, groups), label=group) for group in groups]
    figure.legend(handles=lines, loc="outside upper left", ncols=4)
