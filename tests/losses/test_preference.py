"""Likelihood of a preference, and the judgement from both orders."""

import jax
import numpy as np

from pagap_jax.losses.preference import preference_loss, symmetric_probability

LOG_ODDS = np.array([0.0, 2.0, -1.0, 50.0, -50.0], np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_loss_is_the_log_likelihood_of_the_choice():
    first, second = np.ones(5, np.float32), np.zeros(5, np.float32)
    np.testing.assert_allclose(
        preference_loss(LOG_ODDS, first), -np.log(sigmoid(LOG_ODDS)), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        preference_loss(LOG_ODDS, second), -np.log(sigmoid(-LOG_ODDS)), rtol=1e-5, atol=1e-7
    )


def test_gradient_is_the_surprise():
    """d/dx of -log sigmoid(x) is -(1 - sigmoid(x))."""
    chosen = np.array([1, 0, 1, 0, 1], np.float32)
    gradient = jax.grad(lambda x: preference_loss(x, chosen).sum())(LOG_ODDS)
    np.testing.assert_allclose(gradient, sigmoid(LOG_ODDS) - chosen, rtol=0, atol=1e-6)


def test_both_orders_decide():
    ab = np.array([1.0, 3.0, -2.0, 0.5], np.float32)
    ba = np.array([2.0, 1.0, -2.0, -7.0], np.float32)
    probability = symmetric_probability(ab, ba)
    expected = (sigmoid(ab) + 1 - sigmoid(ba)) / 2
    np.testing.assert_allclose(probability, expected, rtol=1e-6)
    # App. A: by the sign of r(x, a, b) - r(x, b, a). Whose answer depends on
    # the position alone (row 2) is undecided.
    np.testing.assert_array_equal(np.sign(probability - 0.5), [-1, 1, 0, 1])


def test_swapping_maps_p_to_one_minus_p():
    ab, ba = np.random.default_rng(0).normal(size=(2, 100)).astype(np.float32) * 4
    np.testing.assert_allclose(
        symmetric_probability(ab, ba), 1 - symmetric_probability(ba, ab), rtol=0, atol=1e-7
    )
