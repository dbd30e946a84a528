"""The experiments by name, one file each: what every hypothesis of the paper needs.

A further experiment is a further file and a line here.
"""

from pagap_jax.study.experiments.classification import CLASSIFICATION
from pagap_jax.study.experiments.comparison import COMPARISON
from pagap_jax.study.experiments.data_coverage import DATA_COVERAGE
from pagap_jax.study.experiments.data_quality import DATA_QUALITY
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.experiments.loss import LOSS
from pagap_jax.study.experiments.on_policy_data import ON_POLICY_DATA
from pagap_jax.study.experiments.policy_size import POLICY_SIZE

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        COMPARISON,
        DATA_COVERAGE,
        DATA_QUALITY,
        CLASSIFICATION,
        LOSS,
        POLICY_SIZE,
        ON_POLICY_DATA,
    )
}
