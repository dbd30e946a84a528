"""The figures by name, one file a figure or a pair of them. A further one is a file and a line."""

from pagap_jax.study.figures.fig_1 import FIG_1
from pagap_jax.study.figures.fig_8 import FIG_8_ACCURACY, FIG_8_LOG_PROBS
from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.over_optimisation import OVER_OPTIMISATION

FIGURES: dict[str, StudyFigure] = {
    figure.name: figure for figure in (FIG_1, OVER_OPTIMISATION, FIG_8_ACCURACY, FIG_8_LOG_PROBS)
}
