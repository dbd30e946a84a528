"""Win rates from judged pairs."""

import numpy as np

from pagap_jax.evaluation.intervals import wilson_interval
from pagap_jax.evaluation.win_rate import win_rate


def test_wins_count_one_and_ties_half():
    result = win_rate(np.array([0.9, 0.51, 0.5, 0.5, 0.5, 0.1, 0.499], np.float32))
    assert result.rate == (2 + 1.5) / 7
    assert (result.low, result.high) == wilson_interval(3.5, 7)
    assert (result.prompts, result.ties) == (7, 3)


def test_only_the_sign_counts():
    """App. A: which of the two orders says more, not by how much."""
    assert win_rate(np.array([0.500001, 0.0])).rate == win_rate(np.array([1.0, 0.49])).rate == 0.5


def test_swapped_pairs_have_one_minus_the_rate():
    p = np.random.default_rng(0).integers(0, 5, size=99) / 4
    shown, swapped = win_rate(p), win_rate(1 - p)
    np.testing.assert_allclose(
        [swapped.rate, swapped.low, swapped.high], [1 - shown.rate, 1 - shown.high, 1 - shown.low]
    )


def test_no_prompts():
    result = win_rate(np.array([]))
    assert (result.prompts, result.low, result.high) == (0, 0.0, 1.0)
