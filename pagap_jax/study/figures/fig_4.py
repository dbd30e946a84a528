"""Fig. 4: offline on the shuffled D_online beside both."""

from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_win_rate_over_kl

ARMS = ("online", "shuffled", "offline")
FIG_4 = StudyFigure(
    name="fig_4",
    title="Win rate over KL with the shuffled D_online",
    corresponds_to="Fig. 4",
    caption=HOW_TO_READ,
    can_draw=has_arm("shuffled"),
    draw=lambda rows: draw_win_rate_over_kl(rows, ARMS),
)
