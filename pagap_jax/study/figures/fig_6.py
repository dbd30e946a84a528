"""Fig. 6: accuracy of the proxy model and of two policies along D_online."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pagap_jax.study import drawing
from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.task_panels import draw_task_panels
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSIFIERS = ("proxy", "online", "offline")


def accuracy_along(stream: pd.DataFrame) -> pd.DataFrame:
    """What is drawn: classifier, step, mean over seeds, low and high.

    Bounds are the 95 % interval over pairs with one seed, else mean ± standard error over seeds.
    """
    lines = []
    for (classifier, step), rows in stream.groupby(["classifier", "step"], sort=True):
        mean, se = float(rows["accuracy"].mean()), float(rows["accuracy"].sem())
        low, high = mean - se, mean + se
        if len(rows) == 1:
            low, high = (float(rows[f"accuracy_{end}"].iloc[0]) for end in ("low", "high"))
        lines.append((classifier, step, mean, low, high))
    return pd.DataFrame(lines, columns=["classifier", "step", "mean", "low", "high"])


def draw_accuracy_along(rows: Rows) -> "Figure":
    """A panel a task."""

    def draw(axes: "Axes", task: str) -> None:
        axes.axhline(0.5, color=drawing.MUTED, linewidth=1, zorder=1)
        table = accuracy_along(rows.of_task(task).stream)
        for classifier in CLASSIFIERS:
            line = table[table["classifier"] == classifier]
            reach = np.abs(line[["low", "high"]].to_numpy().T - line["mean"].to_numpy())
            axes.errorbar(
                line["step"], line["mean"], yerr=reach, label=_NAMES[classifier], capsize=2.5,
                color=drawing.colour_of(classifier), marker=drawing.marker_of(classifier),
                linewidth=1.6, markersize=5,
            )  # fmt: skip

    labels = "step of the online run that sampled the pairs", "accuracy against the golden model"
    return draw_task_panels(sorted(rows.stream["task"].unique()), *labels, draw)


_NAMES = {
    "proxy": "proxy model",
    "online": "online policy, last step",
    "offline": "offline policy, last step",
}
FIG_6 = StudyFigure(
    name="fig_6",
    title="Accuracy along D_online",
    corresponds_to="Fig. 6",
    caption=(
        "How often the proxy model (the label that online was trained on) and, by the sign of h, "
        "two policies at their last step agree with the golden model, on pairs that the online run "
        "sampled around each step. Bars: 95 % interval over pairs, or standard error over seeds."
    ),
    can_draw=lambda rows: not rows.stream.empty,
    draw=draw_accuracy_along,
)
