"""The figures of a study: win rate over KL, and every measure over training."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pagap_jax.study import drawing, statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Finer than the tables' beyond KL 8, so that a fall after the peak shows.
_LINE_BINS = (*statistics.KL_BINS[:-1], 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, math.inf)
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (5, 2, 1, 2)))


@dataclasses.dataclass(frozen=True)
class Measure:
    """One row of panels over steps: a column of the rows and how to draw it."""

    column: str
    label: str
    kl_scale: bool = False
    line_at: float | None = None
    line_colour: str = drawing.MUTED


TRAINING = (
    Measure("win_rate", "win rate", line_at=0.5, line_colour=drawing.GOLD),
    Measure("kl", "KL, nats a response", kl_scale=True),
    Measure("accuracy", "accuracy on D_golden", line_at=0.5),
)
LOG_PROBS = (
    Measure("chosen_log_prob_shift", "chosen: log π/π_SFT", line_at=0.0),
    Measure("rejected_log_prob_shift", "rejected: log π/π_SFT", line_at=0.0),
)


def figure_1(
    frame: pd.DataFrame, path_stem: str | Path, methods: Sequence[str] = ("online", "offline")
) -> tuple[Path, Path]:
    """Writes Fig. 1, win rate against KL, as path_stem.png and .svg; returns both paths."""
    return drawing.save_figure(draw_figure_1(frame, methods), path_stem)


def draw_figure_1(frame: pd.DataFrame, methods: Sequence[str] = ("online", "offline")) -> "Figure":
    """Win rate against the golden policy over KL from the SFT policy (Fig. 1).

    A faint point is one checkpoint, over all its prompts. Lines join the means over seeds of
    `statistics.best_by_kl_bin`; their bars are a standard error over seeds, or the 95 % interval
    over prompts where there is one seed.
    """
    with drawing.style():
        figure = drawing.new_figure(7.4, 4.7)
        axes = figure.add_subplot()
        shown = frame[frame["method"].isin([*methods, "sft"])]
        drawing.set_kl_axis(axes, shown["kl"], "x")
        _draw_golden_line(axes)
        for method in methods:
            _draw_checkpoints(axes, frame[frame["method"] == method], method)
        _draw_sft(axes, frame[frame["method"] == "sft"])
        highest = max([0.55, *(shown["win_rate"].dropna() * 1.06)])
        axes.set_ylim(-0.015, min(1.02, highest))
        axes.set_xlabel("KL(policy ‖ SFT), nats a response (log scale, linear next to 0)")
        axes.set_ylabel("win rate against the golden policy")
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper left", ncols=2, handletextpad=0.6)
    return figure


def draw_over_steps(
    frame: pd.DataFrame,
    measures: Sequence[Measure] = TRAINING,
    methods: Sequence[str] = ("online", "offline"),
) -> "Figure":
    """Measures over training steps: a row of panels per measure, a column per loss and β.

    Colour and marker tell the method, the line's dashes the learning rate; thin lines are seeds,
    thick ones their mean. Accuracy and the shift of the chosen response are those of Fig. 8.
    """
    shown = frame[frame["method"].isin(list(methods))]
    losses = ["loss", "reduction", "beta"]
    columns = [*shown.groupby(losses)] or [(("", "", math.nan), shown)]
    rates = sorted(shown["learning_rate"].unique())
    dashes = dict(zip(rates, itertools.cycle(_DASHES), strict=False))
    with drawing.style():
        size = 1.4 + 1.9 * max(3, len(columns)), 0.9 + 1.75 * len(measures)
        figure = drawing.new_figure(*size)
        shape = len(measures), len(columns)
        grid = figure.subplots(*shape, sharex="all", sharey="row", squeeze=False)
        for row, measure in zip(grid, measures, strict=True):
            if measure.kl_scale:
                drawing.set_kl_axis(row[0], shown["kl"], "y")
            for axes, (_, panel) in zip(row, columns, strict=True):
                _draw_runs(axes, panel, measure, dashes)
            row[0].set_ylabel(measure.label)
        one_loss = len({(loss, reduction) for (loss, reduction, _), _ in columns}) == 1
        for top, bottom, (key, panel) in zip(grid[0], grid[-1], columns, strict=True):
            loss, reduction, beta = key
            if not panel.empty:
                top.set_title(("" if one_loss else f"{loss}, {reduction}\n") + f"β = {beta:g}")
            bottom.set_xlabel("step")
        _legend_of_runs(figure, [m for m in methods if (shown["method"] == m).any()], dashes)
    return figure


def _draw_golden_line(axes: "Axes") -> None:
    axes.axhline(0.5, color=drawing.GOLD, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
    axes.annotate(
        "golden policy",
        (0, 0.5),
        (6, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=drawing.GOLD,
    )


def _draw_checkpoints(axes: "Axes", rows: pd.DataFrame, method: str) -> None:
    if rows.empty:
        return
    colour, marker = drawing.colour_of(method), drawing.marker_of(method)
    axes.scatter(
        rows["kl"],
        rows["win_rate"],
        s=13,
        marker=marker,
        color=colour,
        alpha=0.38,
        linewidths=0,
        zorder=2,
    )
    best = statistics.best_by_kl_bin(rows, _LINE_BINS)
    over_seeds = best["se"].notna()
    down = best["se"].where(over_seeds, best["win_rate"] - best["low"])
    up = best["se"].where(over_seeds, best["high"] - best["win_rate"])
    runs, seeds = rows["run"].nunique(), rows["seed"].nunique()
    counts = _count(runs, "run"), _count(seeds, "seed"), _count(len(rows), "checkpoint")
    axes.errorbar(
        best["kl"],
        best["win_rate"],
        yerr=np.stack([down, up]),
        color=colour,
        marker=marker,
        markersize=6,
        markeredgecolor=drawing.PAGE,
        markeredgewidth=0.8,
        linewidth=2,
        elinewidth=1.2,
        capsize=2.5,
        zorder=4,
        label=f"{method}: {', '.join(counts)}",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _draw_sft(axes: "Axes", sft: pd.DataFrame) -> None:
    if sft.empty:
        return
    rate = float(sft["win_rate"].mean())
    (star,) = axes.plot(0, rate, "*", markersize=13, color=drawing.INK, zorder=5)
    star.set_clip_on(False)
    axes.annotate("SFT", (0, rate), (8, 5), textcoords="offset points")


def _draw_runs(axes: "Axes", panel: pd.DataFrame, measure: Measure, dashes: dict) -> None:
    if measure.line_at is not None:
        axes.axhline(measure.line_at, color=measure.line_colour, linewidth=1, zorder=1)
    for (method, _), run in panel.groupby(["method", "run"]):
        colour = drawing.colour_of(method)
        for _, seed in run.sort_values("step").groupby("seed"):
            axes.plot(seed["step"], seed[measure.column], color=colour, linewidth=0.7, alpha=0.3)
        by_step = run.groupby("step")[measure.column].agg(["mean", "count"])
        mean = by_step.loc[by_step["count"] == run["seed"].nunique(), "mean"]
        axes.plot(
            mean.index,
            mean,
            color=colour,
            linewidth=1.5,
            linestyle=dashes[run["learning_rate"].iloc[0]],
            marker=drawing.marker_of(method),
            markersize=2.8,
            zorder=3,
        )


def _legend_of_runs(figure: "Figure", methods: Sequence[str], dashes: dict) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=drawing.colour_of(m), marker=drawing.marker_of(m), label=m)
        for m in methods
    ]
    marks += [
        Line2D([], [], color=drawing.INK, linestyle=style, label=f"learning rate {rate:g}")
        for rate, style in dashes.items()
    ]
    if marks:
        figure.legend(handles=marks, loc="outside upper center", ncols=min(5, len(marks)))
