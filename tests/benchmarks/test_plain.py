"""The plain reference and the fast program are one mathematics: else their ratio says nothing."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import plain
from pagap_jax import policies
from pagap_jax.evaluation.kl import response_kl
from pagap_jax.losses.log_probs import sequence_log_prob
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.sampling.methods import SamplingMethod
from tests.fixtures.tiny import CONFIG, JUDGE, random_params, random_tokens

CONFIGS = {
    "t5_1_0": dataclasses.replace(CONFIG, mlp_activations=("relu",), logits_via_embedding=True),
    "t5_1_1": CONFIG,
}


@pytest.fixture(autouse=True)
def _plain_broadcasting():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module", params=CONFIGS)
def policy(request):
    return Policy(Transformer(CONFIGS[request.param]), sampleable_size=16, response_length=4)


@pytest.fixture(scope="module")
def params(policy):
    return random_params(policy.transformer.config)


@pytest.fixture(scope="module")
def prompt():
    return random_tokens(np.random.default_rng(0), np.array([5, 3, 1, 4]), 5)


@pytest.fixture(scope="module")
def responses():
    lengths = np.array([4, 2, 1, 3, 3, 4, 2, 1])
    return random_tokens(np.random.default_rng(1), lengths, 4).reshape(4, 2, 4)


@pytest.mark.parametrize("partitions", [None, 4], ids=["one_device", "mesh_2x4"])
def test_same_tokens_for_the_same_keys(policy, params, prompt, partitions):
    config, key = policy.transformer.config, jax.random.key(0)

    @jax.jit
    def fast(params, prompt):
        return policy.sample(params, policy.encode(params, prompt), key, 2, SamplingMethod()).tokens

    slow = jax.jit(lambda params, prompt: plain.sample(params, config, prompt, key, 2, 4, 16))
    expected = slow(params, prompt)
    assert len(np.unique(expected)) > 4
    with jax.set_mesh(make_mesh(partitions)) if partitions else contextlib.nullcontext():
        np.testing.assert_array_equal(fast(params, prompt), expected)


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_same_scores_and_gradients(policy, params, prompt, responses, chunks, monkeypatch):
    """All logits at once, and some tokens' at a time."""
    config = policy.transformer.config
    monkeypatch.setattr(policies, "LOGITS_AT_ONCE", 4 * 2 * 24 * 4 // chunks)

    def fast(params):
        log_probs = policy.log_probs(params, policy.encode(params, prompt), responses)
        scores = sequence_log_prob(log_probs)
        return jnp.sum(jnp.square(scores)), scores

    def slow(params):
        flat = responses.reshape(8, 4)
        scores = plain.score(params, config, np.repeat(prompt, 2, axis=0), flat)
        return jnp.sum(jnp.square(scores)), scores.reshape(4, 2)

    gradient, scores = jax.jit(jax.grad(fast, has_aux=True))(params)
    expected_gradient, expected = jax.jit(jax.grad(slow, has_aux=True))(params)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    for got, wanted in zip(*map(jax.tree.leaves, (gradient, expected_gradient)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("chunks", [1, 4])
def test_same_kl(policy, params, prompt, responses, chunks, monkeypatch):
    config, first = policy.transformer.config, responses[:, :1]
    monkeypatch.setattr(policies, "LOGITS_AT_ONCE", 4 * 24 * 4 // chunks)
    other = random_params(config, seed=1)
    fast = response_kl(policy, params, other, prompt, first)[:, 0]
    slow = plain.next_token_kl(params, other, config, prompt, responses[:, 0])
    np.testing.assert_allclose(fast, slow, rtol=1e-5)


def test_same_judgement(prompt, responses):
    params = random_params(CONFIG)
    a, b = responses[:, 0], responses[:, 1]
    judged = JUDGE.judge(params, prompt, a, b)
    np.testing.assert_allclose(
        judged.log_odds_ab, plain.judge(JUDGE, params, prompt, a, b), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        judged.log_odds_ba, plain.judge(JUDGE, params, prompt, b, a), rtol=1e-4, atol=1e-5
    )
