"""Fig. 9: another loss than IPO, online, offline and shuffled, with IPO behind."""

from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.over_kl import HOW_TO_READ, METHODS, draw_variants
from pagap_jax.study.rows import Rows


def losses_of(rows: Rows) -> list[str]:
    """Losses of arms such as 'online, bo2'."""
    frame = rows.checkpoints
    pairs = zip(frame["arm"], frame["loss"], strict=True)
    return sorted({loss for arm, loss in pairs if arm in {f"{m}, {loss}" for m in METHODS}})


FIG_9 = StudyFigure(
    name="fig_9",
    title="Win rate over KL with another loss",
    corresponds_to="Fig. 9",
    caption="Pale lines: the same arms with IPO. " + HOW_TO_READ,
    can_draw=lambda rows: bool(losses_of(rows)),
    draw=lambda rows: draw_variants(rows, losses_of),
)
