"""Online pairs: fresh samples of the policy, labelled by the sign of the judge."""

import jax
import numpy as np

from pagap_jax.align.online import OnlinePairs
from pagap_jax.sampling.methods import SamplingMethod
from tests.fixtures.tiny import CONFIG, JUDGE, POLICY, pair_batch, random_params

PARAMS, JUDGE_PARAMS = random_params(CONFIG, 0), random_params(CONFIG, 2)


def test_pairs_are_two_samples_and_their_judgement():
    source, batch = OnlinePairs(POLICY, JUDGE, SamplingMethod()), pair_batch()
    wrong = {**batch, "choice": 1 - batch["choice"], "response_a": batch["response_a"][::-1]}

    @jax.jit
    def make(batch, key):
        encoded = POLICY.encode(PARAMS, batch["prompt"])
        pairs = source(PARAMS, JUDGE_PARAMS, lambda: encoded, batch, key)
        samples = POLICY.sample(PARAMS, encoded, key, 2, SamplingMethod())
        judged = JUDGE.judge(JUDGE_PARAMS, batch["prompt"], pairs.response_a, pairs.response_b)
        return pairs, samples.tokens, judged.probability

    pairs, samples, probability = make(batch, jax.random.key(0))
    np.testing.assert_array_equal(pairs.response_a, samples[:, 0])
    np.testing.assert_array_equal(pairs.response_b, samples[:, 1])
    np.testing.assert_array_equal(pairs.probability, probability)
    same = (samples[:, 0] == samples[:, 1]).all(axis=1)
    np.testing.assert_array_equal(pairs.choice, np.where(same, -1, probability < 0.5))
    # The data set's own responses and labels have no part.
    again, _, _ = make(wrong, jax.random.key(0))
    for ours, others in zip(jax.tree.leaves(again), jax.tree.leaves(pairs), strict=True):
        np.testing.assert_array_equal(ours, others)
    assert (make(batch, jax.random.key(1))[0].response_a != pairs.response_a).any()
