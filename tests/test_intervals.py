"""Wilson's interval against SciPy's; errors and intervals where prompts occur more than once."""

import numpy as np
import pytest
from scipy import stats

from pagap_jax.intervals import Mean, Rate, mean_of, rate_of, wilson_interval


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


def test_a_prompt_each_gives_the_textbooks_error_and_interval():
    values = np.random.default_rng(0).normal(2.0, 3.0, size=50)
    found = mean_of(values, np.arange(50))
    assert (found.mean, found.count) == (pytest.approx(values.mean()), 50)
    assert found.se == pytest.approx(stats.sem(values))
    outcomes = np.array([1.0, 0.5, 0.0, 1.0, 1.0, 0.0, 0.0])
    rate = rate_of(outcomes, np.arange(7))
    assert (rate.rate, rate.count) == (0.5, 7)
    assert (rate.low, rate.high) == pytest.approx(wilson_interval(3.5, 7))


def test_values_said_twice_tell_no_more_than_once():
    """Every prompt measured k times with one result: the error is that of single prompts."""
    once = np.random.default_rng(1).normal(size=40)
    single = mean_of(once, np.arange(40))
    for k in (2, 5):
        again = mean_of(np.repeat(once, k), np.repeat(np.arange(40), k))
        assert again.se == pytest.approx(single.se) and again.count == 40 * k
    wins = (once > 0).astype(float)
    narrow, wide = (
        rate_of(np.repeat(wins, 4), clusters)
        for clusters in (np.arange(160), np.repeat(np.arange(40), 4))
    )
    single_rate = rate_of(wins, np.arange(40))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.high - wide.low == pytest.approx(single_rate.high - single_rate.low, rel=0.02)


def test_clustered_error_is_that_of_a_bootstrap_over_prompts():
    generator = np.random.default_rng(2)
    sizes = generator.integers(1, 6, size=200)
    cluster = np.repeat(np.arange(200), sizes)
    values = generator.normal(size=200)[cluster] + 0.5 * generator.normal(size=len(cluster))
    members = [values[cluster == i] for i in range(200)]
    means = []
    for _ in range(2000):
        drawn = generator.integers(0, 200, size=200)
        means.append(np.mean(np.concatenate([members[i] for i in drawn])))
    found = mean_of(values, cluster)
    assert found.se == pytest.approx(np.std(means), rel=0.08)
    assert found.se > 1.3 * mean_of(values, np.arange(len(values))).se


def test_clusters_never_make_an_interval_narrower():
    """Prompts on which a policy wins and loses once each: no reason to be surer."""
    values = np.tile([1.0, 0.0], 30)
    paired = rate_of(values, np.repeat(np.arange(30), 2))
    assert (paired.low, paired.high) == wilson_interval(30, 60)


def test_all_equal_counts_prompts():
    found = rate_of(np.ones(12), np.repeat(np.arange(3), 4))
    assert (found.low, found.high) == wilson_interval(3, 3)


def test_one_prompt_is_one_value():
    found = rate_of(np.array([1.0, 0.0, 1.0, 1.0]), np.zeros(4, int))
    assert (found.low, found.high) == wilson_interval(0.75, 1)


def test_nothing_and_one():
    none = np.zeros(0)
    assert mean_of(none, np.zeros(0, int)) == Mean(0.0, 0.0, 0)
    assert rate_of(none, np.zeros(0, int)) == Rate(0.0, 0.0, 1.0, 0)
    assert mean_of(np.array([7.0]), np.array([3])) == Mean(7.0, 0.0, 1)
