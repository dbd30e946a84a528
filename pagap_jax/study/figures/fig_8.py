"""Fig. 8: accuracy as a classifier of D_golden and shift of log-probs, over training steps."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from pagap_jax.study import drawing
from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARMS = ("online", "offline", "shuffled")
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
    Measure("self_accuracy", "accuracy on own samples", line_at=0.5),
)
LOG_PROBS = (
    Measure("chosen_log_prob_shift", "chosen: log π/π_SFT", line_at=0.0),
    Measure("rejected_log_prob_shift", "rejected: log π/π_SFT", line_at=0.0),
)


def draw_over_steps(rows: Rows, measures: Sequence[Measure]) -> "Figure":
    """Measures over training steps: a row of panels per measure, a column per loss and β.

    Colour and marker tell the arm, the line's dashes the learning rate; thin lines are seeds,
    thick ones their mean.
    """
    frame = rows.checkpoints
    shown = frame[frame["arm"].isin(ARMS)]
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
        _legend_of_runs(figure, [a for a in ARMS if (shown["arm"] == a).any()], dashes)
    return figure


def _draw_runs(axes: "Axes", panel: pd.DataFrame, measure: Measure, dashes: dict) -> None:
    if measure.line_at is not None:
        axes.axhline(measure.line_at, color=measure.line_colour, linewidth=1, zorder=1)
    for (arm, _), run in panel.groupby(["arm", "run"]):
        colour = drawing.colour_of(arm)
        for _, seed in run.sort_values("step").groupby(["study", "seed"]):
            axes.plot(seed["step"], seed[measure.column], color=colour, linewidth=0.7, alpha=0.3)
        by_step = run.groupby("step")[measure.column].agg(["mean", "count"])
        mean = by_step.loc[by_step["count"] == run["seed"].nunique(), "mean"]
        axes.plot(
            mean.index,
            mean,
            color=colour,
            linewidth=1.5,
            linestyle=dashes[run["learning_rate"].iloc[0]],
            marker=drawing.marker_of(arm),
            markersize=2.8,
            zorder=3,
        )


def _legend_of_runs(figure: "Figure", arms: Sequence[str], dashes: dict) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=drawing.colour_of(arm), marker=drawing.marker_of(arm), label=arm)
        for arm in arms
    ]
    marks += [
        Line2D([], [], color=drawing.INK, linestyle=style, label=f"learning rate {rate:g}")
        for rate, style in dashes.items()
    ]
    if marks:
        figure.legend(handles=marks, loc="outside upper center", ncols=min(5, len(marks)))


_HOW_TO_READ = (
    " A column of panels per β. Colour and marker tell the arm, dashes the learning rate; thin "
    "lines are seeds, thick ones their mean."
)
FIG_8_ACCURACY = StudyFigure(
    name="fig_8_accuracy",
    title="Over training",
    corresponds_to="Fig. 8, top",
    caption=(
        "Win rate, KL, accuracy as a classifier of D_golden and of the policy's own samples (App. "
        "E.1) over training." + _HOW_TO_READ
    ),
    can_draw=has_arm(*ARMS),
    draw=lambda rows: draw_over_steps(rows, TRAINING),
)
FIG_8_LOG_PROBS = StudyFigure(
    name="fig_8_log_probs",
    title="Log-probabilities of D_golden's responses",
    corresponds_to="Fig. 8, bottom",
    caption=(
        "Mean of log π − log π_SFT of chosen and of rejected responses of D_golden, in nats a "
        "response, over training." + _HOW_TO_READ
    ),
    can_draw=has_arm(*ARMS),
    draw=lambda rows: draw_over_steps(rows, LOG_PROBS),
)
