"""Losses of the stand-in for T5's pretraining, against NumPy."""

import jax
import numpy as np

from pagap_jax.losses.pretraining import tag_loss, verdict_loss


def test_tag_loss_is_the_mean_over_masked_words():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    tags = np.array([[0, 3, 1], [2, 2, 0]], np.int32)
    mask = np.array([[True, False, True], [False, True, False]])
    log_probs = np.log(np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -(log_probs[0, 0, 0] + log_probs[0, 2, 1] + log_probs[1, 1, 2]) / 3
    np.testing.assert_allclose(tag_loss(logits, tags, mask), expected, rtol=1e-5)
    assert tag_loss(logits, tags, np.zeros_like(mask)) == 0


def test_verdict_prefers_fewer_replaced_words_and_skips_ties():
    log_odds = np.array([1.0, 2.0, -3.0], np.float32)
    replaced_a, replaced_b = np.array([0, 2, 4], np.float32), np.array([3, 2, 1], np.float32)
    # Row 0: a is better. Row 1: a tie. Row 2: b is better.
    expected = (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-3.0))) / 2
    loss, gradient = jax.value_and_grad(verdict_loss)(log_odds, replaced_a, replaced_b)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert gradient[0] < 0 == gradient[1] < gradient[2]
