"""Fig. 5: D_golden against responses of the last online policy."""

from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_win_rate_over_kl

ARMS = ("offline", "late vs late")
FIG_5 = StudyFigure(
    name="fig_5",
    title="Offline on better responses",
    corresponds_to="Fig. 5",
    caption=HOW_TO_READ,
    can_draw=has_arm("late vs late"),
    draw=lambda rows: draw_win_rate_over_kl(rows, ARMS, ("online",)),
)
