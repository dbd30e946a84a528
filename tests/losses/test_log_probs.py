"""Log-probs of targets: against a NumPy loop, and 0 at padding in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax.losses.log_probs import (
    mean_log_prob,
    sequence_log_prob,
    shift_right,
    token_log_probs,
)

TARGETS = np.array([[3, 4, 1], [2, 1, 0], [1, 0, 0], [0, 0, 0]], np.int32)


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32) * 3


def slow_log_probs(logits, targets):
    log_probs = np.zeros(targets.shape)
    for index in np.ndindex(targets.shape):
        if targets[index] > 0:
            exp = np.exp(logits[index].astype(np.float64))
            log_probs[index] = np.log(exp[targets[index]] / exp.sum())
    return log_probs


def test_shift_right_starts_from_padding():
    np.testing.assert_array_equal(
        shift_right(TARGETS), [[0, 3, 4], [0, 2, 1], [0, 1, 0], [0, 0, 0]]
    )
    np.testing.assert_array_equal(shift_right(TARGETS[:, None])[:, 0], shift_right(TARGETS))


def test_token_log_probs(logits):
    expected = slow_log_probs(logits, TARGETS)
    np.testing.assert_allclose(token_log_probs(logits, TARGETS), expected, rtol=1e-5, atol=1e-6)


def test_log_probs_survive_large_logits():
    logits = np.array([[[0.0, 1e4, -1e4]]], np.float32)
    np.testing.assert_allclose(token_log_probs(logits, np.array([[1]])), [[0.0]])
    np.testing.assert_allclose(token_log_probs(logits, np.array([[2]])), [[-2e4]])


def test_sequences_are_summed_with_their_end_token(logits):
    log_probs = token_log_probs(logits, TARGETS)
    expected = slow_log_probs(logits, TARGETS).sum(axis=1)
    np.testing.assert_allclose(sequence_log_prob(log_probs), expected, rtol=1e-5)


def test_mean_divides_by_the_length_without_padding(logits):
    log_probs = token_log_probs(logits, TARGETS)
    expected = slow_log_probs(logits, TARGETS).sum(axis=1) / [3, 2, 1, 1]
    np.testing.assert_allclose(
        mean_log_prob(sequence_log_prob(log_probs), TARGETS > 0), expected, rtol=1e-5
    )


def test_gradient_of_a_log_prob(logits):
    """d/dlogits of -log softmax(logits)[target] is softmax(logits) - onehot(target)."""
    gradient = jax.grad(lambda x: -jnp.sum(token_log_probs(x, TARGETS)))(logits)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = (softmax - np.eye(6)[TARGETS]) * (TARGETS > 0)[..., None]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)
