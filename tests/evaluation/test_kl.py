"""The KL estimator against the KL of the two distributions over all responses."""

import dataclasses

import jax
import numpy as np

from pagap_jax.evaluation.kl import response_kl
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy, next_token_kl
from tests.fixtures.tiny import CONFIG, random_params
from tests.reference.sampling import all_responses

LENGTH, SAMPLEABLE, VOCABULARY = 3, 5, 8
POLICY = Policy(Transformer(dataclasses.replace(CONFIG, vocab_size=VOCABULARY)), SAMPLEABLE, LENGTH)
PROMPT = np.array([[3, 4, 2, 1], [2, 1, 0, 0]], np.int32)
RESPONSES = np.stack([all_responses(SAMPLEABLE, LENGTH)] * 2)


def trained_params(seed):
    """Parameters that give ids which can't be sampled no probability, as training does."""
    params = random_params(POLICY.transformer.config, seed)
    embedding = params["token_embedder"]["embedding"].copy()
    kernel = params["decoder"]["logits_dense"]["kernel"].copy()
    scale = np.abs(params["decoder"]["decoder_norm"]["scale"])
    embedding[:, 0] = 12.0  # so that the first feature is large whatever was read
    kernel[0] = 0.0
    kernel[0, [0, *range(SAMPLEABLE, VOCABULARY)]] = -100.0
    decoder = {
        **params["decoder"], "logits_dense": {"kernel": kernel}, "decoder_norm": {"scale": scale}
    }  # fmt: skip
    return {**params, "token_embedder": {"embedding": embedding}, "decoder": decoder}


@jax.jit
def estimate(params, reference, responses):
    """The estimator, and the log-probs of whole responses under both."""

    def score(of):
        return POLICY.log_probs(of, POLICY.encode(of, PROMPT), responses).sum(axis=-1)

    kl = response_kl(POLICY, params, reference, PROMPT, responses)
    return kl, score(params), score(reference)


def test_its_expectation_is_the_kl_over_all_responses():
    """sum_y p(y) log(p(y) / q(y)) over all 40 responses y equals sum_y p(y) estimator(y)."""
    kl, log_p, log_q = jax.device_get(estimate(trained_params(1), trained_params(2), RESPONSES))
    p, q = np.exp(log_p.astype(np.float64)), np.exp(log_q.astype(np.float64))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-5)
    brute_force = np.sum(p * np.log(p / q), axis=1)
    assert (brute_force > 0.1).all()
    np.testing.assert_allclose(np.sum(p * kl, axis=1), brute_force, rtol=1e-4)
    # It isn't the log-ratio of the sample, whose expectation is the same and variance larger.
    assert (np.sum(p * (kl - brute_force[:, None]) ** 2, axis=1)
            < np.sum(p * (log_p - log_q - brute_force[:, None]) ** 2, axis=1)).all()  # fmt: skip


def test_policy_equal_to_reference_gives_exactly_zero():
    params = random_params(POLICY.transformer.config)
    kl, _, _ = estimate(params, jax.tree.map(np.copy, params), RESPONSES)
    np.testing.assert_array_equal(kl, 0)


def test_next_token_kl():
    """The whole distributions, over every id; nothing where masked."""
    logits, reference = np.random.default_rng(0).normal(size=(2, 2, 1, 3, 7)).astype(np.float32) * 2
    p, q = (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in (logits, reference))
    mask = np.array([[[True, True, False]], [[True, False, False]]])
    expected = np.where(mask, (p * np.log(p / q)).sum(axis=-1), 0)
    kl = next_token_kl(logits, reference, mask)
    np.testing.assert_allclose(kl, expected, rtol=1e-4)
    assert (kl[mask] > 0).all()


def test_next_token_kl_of_impossible_tokens():
    """An id that both exclude adds nothing; probabilities of 0 don't make it a NaN."""
    banned = np.array([[[[0.0, 1.0, -1e30]]]], np.float32)
    other = np.array([[[[1.0, 0.0, -1e30]]]], np.float32)
    mask = np.ones((1, 1, 1), bool)
    p = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    kl = next_token_kl(banned, other, mask)
    np.testing.assert_allclose(kl[0, 0, 0], p[0] * -1 + p[1] * 1, rtol=1e-5)


def test_padding_adds_nothing():
    params, reference = random_params(POLICY.transformer.config), trained_params(1)
    kl, _, _ = estimate(params, reference, RESPONSES)
    padded, _, _ = estimate(params, reference, np.pad(RESPONSES, [(0, 0), (0, 0), (0, 2)]))
    np.testing.assert_allclose(padded, kl, rtol=1e-4, atol=1e-5)
