"""Fig. 11 and 14: best possible performance over policy size, relative to online and absolute."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pagap_jax.study import drawing, statistics
from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.over_kl import METHODS
from pagap_jax.study.figures.task_panels import draw_task_panels
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def performance(rows: Rows, column: str) -> pd.DataFrame:
    """What is drawn of one task: method, size (log2 of parameters over the fewest), mean, se.

    Args:
        column: 'quantile' or 'relative', of `statistics.best_possible`.

    Returns:
        Mean over seeds and its standard error (NaN with one), by method and size.
    """
    table = statistics.best_possible(rows.checkpoints)
    table = table[table["method"].isin(METHODS)].dropna(subset=[column])
    if table.empty:
        return pd.DataFrame(columns=["method", "size", "policy_size", "mean", "se"])
    size = np.log2(table["policy_parameters"] / table["policy_parameters"].min())
    grouped = table.assign(size=size).groupby(["method", "size", "policy_size"])[column]
    return grouped.agg(["mean", "sem"]).rename(columns={"sem": "se"}).reset_index()


def has_sizes(rows: Rows) -> bool:
    """Whether online was run at two sizes of one task."""
    frame = rows.checkpoints
    online = frame[statistics.methods(frame) == "online"]
    return bool((online.groupby("task")["policy_size"].nunique() > 1).any())


def draw_performance(rows: Rows, column: str, label: str) -> "Figure":
    """A panel a task."""
    tasks = sorted(rows.checkpoints["task"].unique())
    tasks = [task for task in tasks if has_sizes(rows.of_task(task))]
    x_label = "log2 of the policy's parameters over the smallest's"

    def draw(axes: "Axes", task: str) -> None:
        _draw_panel(axes, performance(rows.of_task(task), column))

    return draw_task_panels(tasks, x_label, label, draw)


def _draw_panel(axes: "Axes", table: pd.DataFrame) -> None:
    for method in METHODS:
        line = table[table["method"] == method].sort_values("size")
        if line.empty:
            continue
        axes.errorbar(
            line["size"], line["mean"], yerr=line["se"].fillna(0.0), label=method, capsize=2.5,
            color=drawing.colour_of(method), marker=drawing.marker_of(method), linewidth=1.8,
        )  # fmt: skip
    ticks = table[["size", "policy_size"]].drop_duplicates()
    axes.set_xticks(
        ticks["size"], [f"{s:.1f}\n{name}" for s, name in ticks.itertuples(index=False)]
    )


_CAPTION = (
    "The 0.9 quantile of the win rates (all prompts) over every checkpoint of a method at a policy "
    "size, of the settings that it was run with at every size; mean over seeds with its standard "
    "error"
)
FIG_11 = StudyFigure(
    name="fig_11",
    title="Best possible performance, relative to online",
    corresponds_to="Fig. 11",
    caption=_CAPTION + ", divided by that of online at the size.",
    can_draw=has_sizes,
    draw=lambda rows: draw_performance(rows, "relative", "0.9 quantile, relative to online"),
)
FIG_14 = StudyFigure(
    name="fig_14",
    title="Best possible performance",
    corresponds_to="Fig. 14",
    caption=_CAPTION + ".",
    can_draw=has_sizes,
    draw=lambda rows: draw_performance(rows, "quantile", "0.9 quantile of win rates"),
)
