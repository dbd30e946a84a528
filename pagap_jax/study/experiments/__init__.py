"""The experiments by name, one file each: what every hypothesis of the paper needs.

A further experiment is a further file and a line here.
"""

from pagap_jax.study.experiments.comparison import COMPARISON
from pagap_jax.study.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {one.name: one for one in (COMPARISON,)}
