"""Fig. 8: accuracy as a classifier of D_golden and shift of log-probs, over training steps."""

import dataclasses
from typing import TYPE_CHECKING

import pandas as pd

from pagap_jax.study import drawing
from pagap_jax.study.figures.figure import StudyFigure, has_baseline
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARMS = ("online", "shuffled", "offline")


@dataclasses.dataclass(frozen=True)
class Measure:
    """One row of panels: a column of the rows, and where its line lies that means nothing moved."""

    column: str
    label: str
    line_at: float


MEASURES = (
    Measure("accuracy", "accuracy on D_golden", 0.5),
    Measure("self_accuracy", "accuracy on own samples", 0.5),
    Measure("chosen_log_prob_shift", "chosen: log π − log π_SFT", 0.0),
    Measure("rejected_log_prob_shift", "rejected: log π − log π_SFT", 0.0),
)


def over_steps(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """What is drawn: arm, step, mean over seeds; steps that not every seed has are left out."""
    grouped = frame.groupby(["arm", "step"])[column].agg(["mean", "count"]).reset_index()
    seeds = frame.groupby("arm")["seed"].nunique()
    complete = grouped["count"].to_numpy() == grouped["arm"].map(seeds).to_numpy()
    return grouped[complete][["arm", "step", "mean"]]


def draw_over_steps(rows: Rows) -> "Figure":
    """Measures over training steps of the baselines: a row a measure, a column a task."""
    frame = rows.baseline(ARMS)
    tasks = sorted(frame["task"].unique())
    with drawing.style():
        figure = drawing.new_figure(1.4 + 4.6 * len(tasks), 0.9 + 2.0 * len(MEASURES))
        shape = len(MEASURES), len(tasks)
        grid = figure.subplots(*shape, sharex="col", sharey="row", squeeze=False)
        for line, measure in zip(grid, MEASURES, strict=True):
            for axes, task in zip(line, tasks, strict=True):
                _draw(axes, frame[frame["task"] == task], measure)
            line[0].set_ylabel(measure.label)
        for axes, task in zip(grid[0], tasks, strict=True):
            if len(tasks) > 1:
                axes.set_title(task)
        for axes in grid[-1]:
            axes.set_xlabel("step")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _draw(axes: "Axes", frame: pd.DataFrame, measure: Measure) -> None:
    axes.axhline(measure.line_at, color=drawing.MUTED, linewidth=1, zorder=1)
    means = over_steps(frame, measure.column)
    for arm in ARMS:
        colour, of_arm = drawing.colour_of(arm), frame[frame["arm"] == arm]
        if of_arm.empty:
            continue
        for _, seed in of_arm.sort_values("step").groupby(["study", "seed"]):
            axes.plot(seed["step"], seed[measure.column], color=colour, linewidth=0.7, alpha=0.3)
            names = drawing.checkpoint_names(seed)
            drawing.name_places(axes, seed["step"], seed[measure.column], names)
        mean = means[means["arm"] == arm]
        axes.plot(
            mean["step"], mean["mean"], color=colour, linewidth=1.6, markersize=3, label=arm,
            marker=drawing.marker_of(arm), zorder=3,
        )  # fmt: skip


FIG_8 = StudyFigure(
    name="fig_8",
    title="Accuracy and log-probabilities over training",
    corresponds_to="Fig. 8 and App. E.1",
    caption=(
        "One run an arm (its first setting): accuracy as a classifier of D_golden and of the "
        "policy's own samples, and the mean of log π − log π_SFT of chosen and of rejected "
        "responses of D_golden, in nats a response. Thin lines are seeds, thick ones their mean."
    ),
    can_draw=has_baseline(*ARMS),
    draw=draw_over_steps,
)
