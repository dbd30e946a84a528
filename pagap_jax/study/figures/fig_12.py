"""Fig. 12: offline on data sampled from checkpoints of the online run."""

from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_win_rate_over_kl

ARMS = ("offline", "sft vs early", "early vs late", "late vs late")
FIG_12 = StudyFigure(
    name="fig_12",
    title="Data that are more on-policy",
    corresponds_to="Fig. 12",
    caption=HOW_TO_READ,
    can_draw=has_arm("sft vs early", "early vs late"),
    draw=lambda rows: draw_win_rate_over_kl(rows, ARMS, ("online",)),
)
