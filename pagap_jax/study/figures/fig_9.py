"""Fig. 9: another loss than IPO, online, offline and shuffled, with IPO behind."""

from typing import TYPE_CHECKING

from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_panels
from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("online", "shuffled", "offline")


def losses_of(rows: Rows) -> list[str]:
    """Losses of arms such as 'online, bo2'."""
    frame = rows.checkpoints
    pairs = zip(frame["arm"], frame["loss"], strict=True)
    return sorted({loss for arm, loss in pairs if arm in {f"{m}, {loss}" for m in METHODS}})


def draw_losses(rows: Rows) -> "Figure":
    """A panel a task and loss."""
    panels = []
    for task in sorted(rows.checkpoints["task"].unique()):
        of_task = rows.of_task(task)
        for loss in losses_of(of_task):
            arms = [f"{method}, {loss}" for method in METHODS]
            panels.append((f"{task}, {loss}", of_task, arms))
    return draw_panels(panels, METHODS)


FIG_9 = StudyFigure(
    name="fig_9",
    title="Win rate over KL with another loss",
    corresponds_to="Fig. 9",
    caption="Pale lines: the same arms with IPO. " + HOW_TO_READ,
    can_draw=lambda rows: bool(losses_of(rows)),
    draw=draw_losses,
)
