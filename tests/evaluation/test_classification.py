"""The policy as a classifier, and the shift of its log-probs."""

import dataclasses

import jax
import numpy as np
import pytest

from pagap_jax.evaluation.classification import PairScores, classify, log_prob_shift, score_pairs
from pagap_jax.evaluation.intervals import wilson_interval
from tests.fixtures.tiny import CONFIG, POLICY, pair_batch, random_params

# Policy minus reference for a and b: h of (a, b) is 2, -1, 0, 3, 5.
SHIFT = np.array([[1, -1], [0, 1], [4, 4], [-1, -4], [2, -3]], np.float32)
REFERENCE = np.full((5, 2), -10, np.float32)
SCORES = PairScores(policy=REFERENCE + SHIFT, reference=REFERENCE)
CHOICE = np.array([0, 1, 1, 1, -1], np.int8)  # right, right, h = 0, wrong, no label


def test_accuracy_is_the_sign_of_h():
    result = classify(SCORES, CHOICE)
    assert result.accuracy == (1 + 1 + 0.5 + 0) / 4
    assert (result.low, result.high) == wilson_interval(2.5, 4)
    assert result.pairs == 4


def test_swapping_every_pair_changes_nothing():
    swapped = jax.tree.map(lambda x: x[:, ::-1], SCORES)
    choice = np.where(CHOICE < 0, CHOICE, 1 - CHOICE)
    assert classify(swapped, choice) == classify(SCORES, CHOICE)
    assert log_prob_shift(swapped, choice) == log_prob_shift(SCORES, CHOICE)


def test_shift_of_chosen_and_rejected():
    chosen, rejected = log_prob_shift(SCORES, CHOICE)
    assert chosen == pytest.approx((1 + 1 + 4 - 4) / 4)
    assert rejected == pytest.approx((-1 + 0 + 4 - 1) / 4)


def test_policy_equal_to_reference_is_a_coin():
    same = dataclasses.replace(SCORES, policy=SCORES.reference)
    assert classify(same, CHOICE).accuracy == 0.5
    assert log_prob_shift(same, CHOICE) == (0.0, 0.0)


def test_no_labels():
    result = classify(SCORES, np.full(5, -1))
    assert (result.pairs, result.low, result.high) == (0, 0.0, 1.0)
    assert log_prob_shift(SCORES, np.full(5, -1)) == (0.0, 0.0)


def test_scores_are_summed_log_probs():
    batch = pair_batch()
    columns = [batch[name] for name in ("prompt", "response_a", "response_b")]
    policy, reference = random_params(CONFIG, 0), random_params(CONFIG, 1)

    @jax.jit
    def both(policy, reference):
        encoded = POLICY.encode(policy, columns[0])
        alone = POLICY.log_probs(policy, encoded, columns[2][:, None])
        return score_pairs(POLICY, policy, reference, *columns), alone

    scores, alone = both(policy, reference)
    swapped, _ = both(reference, policy)
    np.testing.assert_allclose(scores.policy[:, 1], alone[:, 0].sum(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(scores.policy, swapped.reference, rtol=1e-5)
    assert np.abs(scores.policy - scores.reference).max() > 0.1
