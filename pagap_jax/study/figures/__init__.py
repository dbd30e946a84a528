"""The figures by name, one file a figure or a pair of them. A further one is a file and a line."""

from pagap_jax.study.figures.app_f import APP_F
from pagap_jax.study.figures.fig_1 import FIG_1
from pagap_jax.study.figures.fig_4 import FIG_4
from pagap_jax.study.figures.fig_5 import FIG_5
from pagap_jax.study.figures.fig_6 import FIG_6
from pagap_jax.study.figures.fig_7 import FIG_7
from pagap_jax.study.figures.fig_8 import FIG_8
from pagap_jax.study.figures.fig_9 import FIG_9
from pagap_jax.study.figures.fig_10 import FIG_10
from pagap_jax.study.figures.fig_11 import FIG_11, FIG_14
from pagap_jax.study.figures.fig_12 import FIG_12
from pagap_jax.study.figures.fig_13 import FIG_13
from pagap_jax.study.figures.figure import StudyFigure
from pagap_jax.study.figures.over_optimisation import OVER_OPTIMISATION

FIGURES: dict[str, StudyFigure] = {
    figure.name: figure
    for figure in (
        *(FIG_1, OVER_OPTIMISATION, FIG_4, FIG_13, APP_F, FIG_5, FIG_6, FIG_7, FIG_8, FIG_9),
        *(FIG_10, FIG_11, FIG_14, FIG_12),
    )
}
