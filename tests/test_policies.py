"""The policy: T5X's greedy answers, one encoding for all, dropout by key alone."""

import dataclasses

import jax
import numpy as np
import pytest

from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.sampling.methods import SamplingMethod
from tests.fixtures import t5x
from tests.fixtures.tiny import CONFIG, logits_of, pair_batch, random_params


@pytest.mark.parametrize("name", t5x.NAMES)
def test_greedy_tokens_are_t5x_s(name):
    example = t5x.t5x_example(name)
    golden = example.golden["greedy_tokens"]
    policy = Policy(example.transformer, example.config.vocab_size, golden.shape[1])
    prompt = example.golden["encoder_input_tokens"]

    @jax.jit
    def answer(params):
        encoded = policy.encode(params, prompt)
        method = SamplingMethod(temperature=0.0)
        samples = policy.sample(params, encoded, jax.random.key(0), 1, method, True)
        return samples, policy.log_probs(params, encoded, samples.tokens)

    samples, log_probs = jax.device_get(answer(example.params))
    ours = samples.tokens[:, 0]
    pads = np.cumsum(golden == 0, axis=1) > 0  # T5X samples padding, which ours may not
    np.testing.assert_array_equal(ours[~pads], golden[~pads])
    assert not pads[[0, 1, 3]].any()
    np.testing.assert_allclose(samples.log_probs, log_probs, rtol=0, atol=2e-5)


def test_dropout_is_a_function_of_its_key():
    config = dataclasses.replace(CONFIG, dropout_rate=0.5)
    policy = Policy(Transformer(config), sampleable_size=16, response_length=4)
    params, batch = random_params(config), pair_batch()
    responses = np.stack([batch["response_a"], batch["response_b"]], axis=1)

    @jax.jit
    def both(key):
        encoded = policy.encode(params, batch["prompt"], key)
        return encoded.hidden, logits_of(policy, params, encoded, responses, key)

    first, again, other = (both(jax.random.key(seed)) for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.1
    # Half of the encoder's output is dropped, the rest doubled.
    assert 0.4 < np.mean(first[0][0] == 0) < 0.6


def test_bfloat16_samples_what_it_scores():
    """As on TPU: bfloat16 activations and cache, attention logits in float32, log-probs float32."""
    config = dataclasses.replace(CONFIG, dtype="bfloat16", float32_attention_logits=True)
    policy = Policy(Transformer(config), sampleable_size=16, response_length=4)
    params, batch = random_params(config), pair_batch()

    @jax.jit
    def sample(key):
        encoded = policy.encode(params, batch["prompt"])
        samples = policy.sample(params, encoded, key, 2, SamplingMethod(), True)
        return samples, policy.log_probs(params, encoded, samples.tokens)

    samples, log_probs = sample(jax.random.key(0))
    assert samples.log_probs.dtype == log_probs.dtype == np.float32
    np.testing.assert_allclose(samples.log_probs, log_probs, rtol=0, atol=0.1)
