"""App. F: training statistics of the replayed D_online against the online run's."""

from typing import TYPE_CHECKING

import pandas as pd

from pagap_jax.study import drawing
from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATISTICS = (("loss", "loss"), ("margin", "h, nats"), ("gradient_norm", "norm of the gradient"))


def replay_differences(training: pd.DataFrame) -> pd.DataFrame:
    """What is drawn below: relative difference of replay and online, by study, seed and step.

    A row of metrics is a mean over the steps since the row before, and each run writes one at its
    own checkpoints too: rows are compared that are means over the same steps.

    Returns:
        study, seed, step and a column a statistic: |replayed − online| / |online|.
    """
    columns = [name for name, _ in STATISTICS]
    keys = ["study", "seed", "step", "since"]
    since = training.groupby(["study", "seed", "arm"])["step"].shift(fill_value=0)
    known = training.assign(since=since)
    online, replayed = (
        known[known["arm"] == arm].set_index(keys)[columns] for arm in ("online", "replayed")
    )
    apart = (replayed - online).abs() / online.abs()
    return apart.dropna().reset_index().drop(columns="since")


def draw_replay(rows: Rows) -> "Figure":
    """A column a statistic: both runs above, how far they are apart below."""
    training = rows.training
    apart = replay_differences(training)
    with drawing.style():
        figure = drawing.new_figure(3.4 * len(STATISTICS), 4.6)
        grid = figure.subplots(2, len(STATISTICS), sharex=True, height_ratios=(2, 1))
        for column, (name, label) in enumerate(STATISTICS):
            above, below = grid[0][column], grid[1][column]
            for arm, width in (("online", 3.0), ("replayed", 1.0)):
                runs = training[training["arm"] == arm].groupby(["study", "seed"])
                for i, (_, run) in enumerate(runs):
                    above.plot(
                        run["step"], run[name], color=drawing.colour_of(arm), linewidth=width,
                        alpha=0.6, label=arm if i == 0 else None,
                    )  # fmt: skip
            for _, run in apart.groupby(["study", "seed"]):
                below.plot(run["step"], 100 * run[name], color=drawing.INK, linewidth=1)
            above.set_title(label)
            below.set_xlabel("step")
        grid[1][0].set_ylabel("apart, %")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure


APP_F = StudyFigure(
    name="app_f",
    title="Replay of D_online in its order",
    corresponds_to="App. F",
    caption=(
        "Statistics of the online run, and of offline learning on what it recorded, in its "
        "order; below, their relative difference. The paper has about 0.1 %."
    ),
    can_draw=lambda rows: bool((rows.training["arm"] == "replayed").any()),
    draw=draw_replay,
)
