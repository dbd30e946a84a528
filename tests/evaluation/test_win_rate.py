"""Win rates from judged pairs."""

import numpy as np

from pagap_jax.evaluation.intervals import wilson_interval
from pagap_jax.evaluation.win_rate import win_rate


def test_wins_count_one_and_ties_half():
    result = win_rate(np.array([0, 0, -1, -1, -1, 1, 1]))
    assert result.rate == (2 + 1.5) / 7
    assert (result.low, result.high) == wilson_interval(3.5, 7)
    assert (result.prompts, result.ties) == (7, 3)


def test_swapped_pairs_have_one_minus_the_rate():
    choice = np.random.default_rng(0).integers(-1, 2, size=99)
    shown, swapped = win_rate(choice), win_rate(np.where(choice < 0, -1, 1 - choice))
    np.testing.assert_allclose(
        [swapped.rate, swapped.low, swapped.high], [1 - shown.rate, 1 - shown.high, 1 - shown.low]
    )


def test_no_prompts():
    result = win_rate(np.array([]))
    assert (result.prompts, result.low, result.high) == (0, 0.0, 1.0)
