"""Wilson's interval against SciPy's, and the standard error of a mean."""

import numpy as np
import pytest
from scipy import stats

from pagap_jax.evaluation.intervals import mean_and_standard_error, wilson_interval


@pytest.mark.parametrize("wins, n", [(0, 10), (10, 10), (1, 3), (700, 2048), (1024, 2048)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_wilson_equals_scipy(wins, n, confidence):
    expected = stats.binomtest(wins, n).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(wilson_interval(wins, n, confidence), expected, atol=1e-12)


def test_wilson_of_half_wins_lies_between():
    below, between, above = (wilson_interval(wins, 9) for wins in (4, 4.5, 5))
    assert below < between < above
    np.testing.assert_allclose(sum(between), 1)  # symmetric around one half


def test_wilson_covers():
    """Of 95 % intervals around draws of a known rate, about 95 % hold it."""
    n, rate = 200, 0.3
    wins = np.arange(n + 1)
    probability = stats.binom.pmf(wins, n, rate)
    holds = [low <= rate <= high for low, high in (wilson_interval(int(w), n) for w in wins)]
    assert 0.93 < probability[holds].sum() < 0.97


def test_wilson_knows_nothing_of_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("wins, n", [(-1, 5), (6, 5), (0.5, 0)])
def test_wilson_refuses_impossible_counts(wins, n):
    with pytest.raises(ValueError, match="wins of"):
        wilson_interval(wins, n)


def test_mean_and_standard_error():
    values = np.random.default_rng(0).normal(2.0, 3.0, size=50)
    mean, error = mean_and_standard_error(values)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(stats.sem(values))
    assert mean_and_standard_error(np.array([7.0])) == (7.0, 0.0)
