"""Fig. 10: policies of other sizes, over those of the study's own size."""

from pagap_jax.study import statistics
from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.over_kl import HOW_TO_READ, draw_variants
from pagap_jax.study.rows import Rows


def sizes_of(rows: Rows) -> list[str]:
    """Sizes of arms such as 'online, xl', from small to large."""
    frame = rows.checkpoints
    other = frame[(statistics.methods(frame) != frame["arm"]) & ~frame["arm"].str.startswith("sft")]
    return list(other.sort_values("policy_parameters")["policy_size"].unique())


FIG_10 = StudyFigure(
    name="fig_10",
    title="Win rate over KL of other policy sizes",
    corresponds_to="Fig. 10",
    caption="Pale lines: the same arms at the study's own policy size. " + HOW_TO_READ,
    can_draw=lambda rows: bool(sizes_of(rows)),
    draw=lambda rows: draw_variants(rows, sizes_of),
)
