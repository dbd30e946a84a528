"""The policy as a classifier, and the shift of its log-probs."""

import dataclasses

import jax
import numpy as np
import pytest

from pagap_jax.evaluation.classification import PairScores, classify, log_prob_shift, score_pairs
from pagap_jax.intervals import wilson_interval
from tests.fixtures.tiny import CONFIG, POLICY, pair_batch, random_params

# Policy minus reference for a and b: h of (a, b) is 2, -1, 0, 3, 5.
SHIFT = np.array([[1, -1], [0, 1], [4, 4], [-1, -4], [2, -3]], np.float32)
REFERENCE = np.full((5, 2), -10, np.float32)
SCORES = PairScores(policy=REFERENCE + SHIFT, reference=REFERENCE)
IDS = np.arange(5)
CHOICE = np.array([0, 1, 1, 1, -1], np.int8)  # right, right, h = 0, wrong, no label


def test_accuracy_is_the_sign_of_h():
    result = classify(SCORES, CHOICE, IDS)
    assert result.rate == (1 + 1 + 0.5 + 0) / 4
    assert (result.low, result.high) == pytest.approx(wilson_interval(2.5, 4))
    assert result.count == 4


def test_swapping_every_pair_changes_nothing():
    swapped = jax.tree.map(lambda x: x[:, ::-1], SCORES)
    choice = np.where(CHOICE < 0, CHOICE, 1 - CHOICE)
    assert classify(swapped, choice, IDS) == classify(SCORES, CHOICE, IDS)
    assert log_prob_shift(swapped, choice, IDS) == log_prob_shift(SCORES, CHOICE, IDS)


def test_shift_of_chosen_and_rejected():
    chosen, rejected = log_prob_shift(SCORES, CHOICE, IDS)
    assert chosen.mean == pytest.approx((1 + 1 + 4 - 4) / 4)
    assert rejected.mean == pytest.approx((-1 + 0 + 4 - 1) / 4)
    assert chosen.se == pytest.approx(np.std([1, 1, 4, -4], ddof=1) / 2)
    assert chosen.count == rejected.count == 4


def test_policy_equal_to_reference_is_a_coin():
    same = dataclasses.replace(SCORES, policy=SCORES.reference)
    assert classify(same, CHOICE, IDS).rate == 0.5
    assert [shift.mean for shift in log_prob_shift(same, CHOICE, IDS)] == [0.0, 0.0]


def test_no_labels():
    result = classify(SCORES, np.full(5, -1), IDS)
    assert (result.count, result.low, result.high) == (0, 0.0, 1.0)
    assert [shift.count for shift in log_prob_shift(SCORES, np.full(5, -1), IDS)] == [0, 0]


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
