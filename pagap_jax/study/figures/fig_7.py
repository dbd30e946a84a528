"""Fig. 7: win rate over accuracy as a classifier of D_golden, every checkpoint a point."""

from typing import TYPE_CHECKING

from pagap_jax.study import drawing
from pagap_jax.study.figures.figure import StudyFigure, has_baseline
from pagap_jax.study.figures.task_panels import draw_task_panels
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARMS = ("online", "shuffled", "offline")


def draw_win_rate_over_accuracy(rows: Rows) -> "Figure":
    """The baselines of the arms, a panel a task."""
    frame = rows.baseline(ARMS)

    def draw(axes: "Axes", task: str) -> None:
        axes.axvline(0.5, color=drawing.MUTED, linewidth=1, zorder=1)
        for arm in ARMS:
            points = frame[(frame["arm"] == arm) & (frame["task"] == task)]
            if points.empty:
                continue
            drawn = axes.scatter(
                points["accuracy"], points["win_rate"], label=arm, s=24, alpha=0.75,
                color=drawing.colour_of(arm), marker=drawing.marker_of(arm),
            )  # fmt: skip
            drawing.name_points(drawn, drawing.checkpoint_names(points))

    labels = "accuracy as a classifier of D_golden", "win rate against the golden policy"
    return draw_task_panels(sorted(frame["task"].unique()), *labels, draw)


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
