"""Win rate over KL, every checkpoint a point: what most of the paper's figures are."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pagap_jax.study import drawing, statistics
from pagap_jax.study.rows import Rows
from pagap_jax.study.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METHODS = ("online", "shuffled", "offline")
# Finer than the tables' beyond KL 8, so that a fall after the peak shows.
_LINE_BINS = (*statistics.KL_BINS[:-1], 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, math.inf)


def draw_win_rate_over_kl(rows: Rows, arms: Sequence[str], behind: Sequence[str] = ()) -> "Figure":
    """Win rate against the golden policy over KL from the SFT policy, a panel a task.

    Args:
        arms: in the order of the legend.
        behind: arms drawn pale, as lines alone, to compare with.
    """
    tasks = sorted(rows.checkpoints["task"].unique())
    return draw_panels([(task, rows.of_task(task), arms) for task in tasks], behind)


def draw_variants(rows: Rows, variants_of: Callable[[Rows], Sequence[str]]) -> "Figure":
    """The three methods with something else in them ('online, xl'), a panel a task and variant.

    The methods themselves are behind, to compare with.
    """
    panels = []
    for task in sorted(rows.checkpoints["task"].unique()):
        of_task = rows.of_task(task)
        for variant in variants_of(of_task):
            arms = [f"{method}, {variant}" for method in METHODS]
            panels.append((f"{task}, {variant}", of_task, arms))
    return draw_panels(panels, METHODS)


def draw_panels(
    panels: Sequence[tuple[str, Rows, Sequence[str]]], behind: Sequence[str] = ()
) -> "Figure":
    """The same, one panel for each (title, rows, arms)."""
    shown = pd.concat(
        [
            rows.checkpoints[rows.checkpoints["arm"].isin([*arms, *behind, "sft"])]
            for _, rows, arms in panels
        ]
    )
    highest = max([0.55, *(shown["win_rate"].dropna() * 1.06)])
    lowest = -0.015
    with drawing.style():
        figure = drawing.new_figure(1.4 + 6.0 * len(panels) ** 0.75, 4.7)
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, rows, arms) in zip(grid, panels, strict=True):
            _draw_panel(axes, rows.checkpoints, arms, behind)
            # Bars reach further than points, most where there are few prompts.
            lowest = min(lowest, axes.dataLim.y0 - 0.015)
            highest = max(highest, axes.dataLim.y1 + 0.015)
            axes.set_xlabel("KL(policy ‖ SFT), nats a response (log scale, linear next to 0)")
            if len(panels) > 1:
                axes.set_title(title)
        grid[0].set_ylim(lowest, min(1.02, highest))
        grid[0].set_ylabel("win rate against the golden policy")
        named = {
            label: handle
            for axes in grid
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if named:
            figure.legend(
                [*named.values()], [*named], loc="outside upper left", ncols=2, handletextpad=0.6
            )
    return figure


def _draw_panel(
    axes: "Axes", frame: pd.DataFrame, arms: Sequence[str], behind: Sequence[str]
) -> None:
    drawn = frame[frame["arm"].isin([*arms, *behind, "sft"])]
    drawing.set_kl_axis(axes, drawn["kl"], "x")
    drawing.draw_golden_line(axes)
    for arm in arms:
        _draw_checkpoints(axes, frame[frame["arm"] == arm], arm)
    for arm in behind:
        _draw_behind(axes, frame[frame["arm"] == arm], arm)
    sft = frame[frame["arm"] == "sft"]
    if not sft.empty:
        rate = float(sft["win_rate"].mean())
        (star,) = axes.plot(0, rate, "*", markersize=13, color=drawing.INK, zorder=5)
        star.set_clip_on(False)
        axes.annotate("SFT", (0, rate), (8, 5), textcoords="offset points")


def _draw_behind(axes: "Axes", frame: pd.DataFrame, arm: str) -> None:
    if frame.empty:
        return
    best = statistics.best_by_kl_bin(frame, _LINE_BINS)
    axes.plot(
        best["kl"], best["win_rate"], color=drawing.colour_of(arm), linewidth=5, alpha=0.22,
        zorder=1, label=f"{arm}, to compare", solid_capstyle="round",
    )  # fmt: skip


def _draw_checkpoints(axes: "Axes", frame: pd.DataFrame, arm: str) -> None:
    if frame.empty:
        return
    colour, marker = drawing.colour_of(arm), drawing.marker_of(arm)
    points = axes.scatter(
        frame["kl"], frame["win_rate"], s=13, marker=marker, color=colour, alpha=0.38,
        linewidths=0, zorder=2,
    )  # fmt: skip
    drawing.name_points(points, drawing.checkpoint_names(frame))
    best = statistics.best_by_kl_bin(frame, _LINE_BINS)
    over_seeds = best["se"].notna()
    down = best["se"].where(over_seeds, best["win_rate"] - best["low"])
    up = best["se"].where(over_seeds, best["high"] - best["win_rate"])
    runs, seeds = frame["run"].nunique(), frame["seed"].nunique()
    counts = counted(runs, "run"), counted(seeds, "seed"), counted(len(frame), "checkpoint")
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
        label=f"{arm}: {', '.join(counts)}",
    )


HOW_TO_READ = (
    "Win rate against the golden policy over KL from the SFT policy. Each faint point is one "
    "checkpoint of one run, over all prompts. Lines join the best checkpoints in bins of KL, "
    "each chosen on one half of the prompts and reported on the other, averaged over seeds; "
    "choosing by halves is ours. Bars: standard error over seeds, or the 95 % interval over "
    "prompts where a bin has one seed."
)
