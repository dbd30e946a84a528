"""Fig. 13: the order of D_online kept, and lost more and more."""

from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_win_rate_over_kl

ARMS = ("replayed", "lightly shuffled", "heavily shuffled", "shuffled")
FIG_13 = StudyFigure(
    name="fig_13",
    title="D_online shuffled in blocks",
    corresponds_to="Fig. 13",
    caption=HOW_TO_READ,
    can_draw=has_arm("lightly shuffled", "heavily shuffled"),
    draw=lambda rows: draw_win_rate_over_kl(rows, ARMS, ("online",)),
)
