"""Fig. 7: win rate over accuracy as a classifier of D_golden, every checkpoint a point."""

from typing import TYPE_CHECKING

from pagap_jax.study import drawing
from pagap_jax.study.figures.figure import StudyFigure, has_baseline
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("online", "shuffled", "offline")


def draw_win_rate_over_accuracy(rows: Rows) -> "Figure":
    """The baselines of the arms, a panel a task."""
    frame = rows.baseline(ARMS)
    tasks = sorted(frame["task"].unique())
    with drawing.style():
        figure = drawing.new_figure(1.4 + 4.2 * len(tasks), 4.0)
        grid = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axes, task in zip(grid, tasks, strict=True):
            axes.axvline(0.5, color=drawing.MUTED, linewidth=1, zorder=1)
            for arm in ARMS:
                points = frame[(frame["arm"] == arm) & (frame["task"] == task)]
                axes.scatter(
                    points["accuracy"], points["win_rate"], label=arm, s=24, alpha=0.75,
                    color=drawing.colour_of(arm), marker=drawing.marker_of(arm),
                )  # fmt: skip
            axes.set_xlabel("accuracy as a classifier of D_golden")
            if len(tasks) > 1:
                axes.set_title(task)
        grid[0].set_ylabel("win rate against the golden policy")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


FIG_7 = StudyFigure(
    name="fig_7",
    title="Win rate over accuracy",
    corresponds_to="Fig. 7",
    caption=(
        "Every checkpoint of one run an arm (its first setting), all seeds: how often it wins over "
        "how often the sign of its h agrees with the golden label on pairs of D_golden."
    ),
    can_draw=has_baseline(*ARMS),
    draw=draw_win_rate_over_accuracy,
)
