"""Fig. 10: policies of other sizes, over those of the study's own size."""

from typing import TYPE_CHECKING

from pagap_jax.study import statistics
from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_panels
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("online", "shuffled", "offline")


def sizes_of(rows: Rows) -> list[str]:
    """Sizes of arms such as 'online, xl', from small to large."""
    frame = rows.checkpoints
    other = frame[(statistics.methods(frame) != frame["arm"]) & ~frame["arm"].str.startswith("sft")]
    return list(other.sort_values("policy_parameters")["policy_size"].unique())


def draw_sizes(rows: Rows) -> "Figure":
    """A panel a task and size."""
    panels = []
    for task in sorted(rows.checkpoints["task"].unique()):
        of_task = rows.of_task(task)
        for size in sizes_of(of_task):
            arms = [f"{method}, {size}" for method in METHODS]
            panels.append((f"{task}, {size}", of_task, arms))
    return draw_panels(panels, METHODS)


FIG_10 = StudyFigure(
    name="fig_10",
    title="Win rate over KL of other policy sizes",
    corresponds_to="Fig. 10",
    caption="Pale lines: the same arms at the study's own policy size. " + HOW_TO_READ,
    can_draw=lambda rows: bool(sizes_of(rows)),
    draw=draw_sizes,
)
