"""Over-optimisation: the proxy's opinion rises on while the golden model's falls (§3)."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from pagap_jax.study import drawing
from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARMS = ("online", "offline")
_JUDGES: tuple[tuple[str, str, Any], ...] = (
    ("win_rate", "golden model", "-"),
    ("proxy_win_rate", "proxy model", (0, (4, 2))),
)


def draw_over_optimisation(rows: Rows) -> "Figure":
    """Win rate as both preference models see it, over KL, along each run; a panel an arm."""
    frame = rows.checkpoints
    arms = [arm for arm in ARMS if (frame["arm"] == arm).any()]
    with drawing.style():
        figure = drawing.new_figure(1.2 + 4.2 * len(arms), 4.2)
        panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms, strict=True):
            shown = frame[frame["arm"] == arm]
            drawing.set_kl_axis(axes, shown["kl"], "x")
            drawing.draw_golden_line(axes)
            for _, run in shown.groupby(["study", "run", "seed"]):
                _draw_run(axes, run.sort_values("step"), arm)
            axes.set_title(arm)
            axes.set_xlabel("KL(policy ‖ SFT), nats a response")
            axes.set_ylim(-0.015, 1.02)
        panels[0].set_ylabel("win rate against the golden policy's responses")
        _legend(figure)
    return figure


def _draw_run(axes: "Axes", run: pd.DataFrame, arm: str) -> None:
    colour = drawing.colour_of(arm)
    for column, _, dashes in _JUDGES:
        axes.plot(
            run["kl"], run[column], color=colour, linestyle=dashes, linewidth=1.1, alpha=0.75,
            marker=drawing.marker_of(arm), markersize=2.6,
        )  # fmt: skip
        drawing.name_places(axes, run["kl"], run[column], drawing.checkpoint_names(run))


def _legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=drawing.INK, linestyle=dashes, label=f"judged by the {judge}")
        for _, judge, dashes in _JUDGES
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=2)


OVER_OPTIMISATION = StudyFigure(
    name="over_optimisation",
    title="What the proxy model sees",
    corresponds_to="",
    caption=(
        "Win rate over KL along each run, in the order of training, as the golden model and as the "
        "proxy model see it. Where the proxy's goes on rising and the golden model's falls, the "
        "policy has learnt what the proxy model gets wrong: over-optimisation (§3)."
    ),
    can_draw=has_arm(*ARMS),
    draw=draw_over_optimisation,
)
