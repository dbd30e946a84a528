"""Fig. 1: online against offline."""

from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_win_rate_over_kl

ARMS = ("online", "offline")
FIG_1 = StudyFigure(
    name="fig_1",
    title="Win rate over KL",
    corresponds_to="Fig. 1",
    caption=HOW_TO_READ,
    can_draw=has_arm(*ARMS),
    draw=lambda rows: draw_win_rate_over_kl(rows, ARMS),
)
