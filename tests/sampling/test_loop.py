"""The sampling loop: frequencies, log-probs, ends and bans."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from pagap_jax.model.cached_attention import VectorLayout
from pagap_jax.model.transformer import DecodeCache, Transformer
from pagap_jax.policies import Policy
from pagap_jax.sampling.loop import ban_ids, sample_responses
from pagap_jax.sampling.methods import NEVER, SamplingMethod
from tests.fixtures.tiny import CONFIG, logits_of, random_params
from tests.reference.sampling import (
    all_responses,
    response_probabilities,
    truncated_distribution,
)

LENGTH, SAMPLEABLE = 3, 5  # of ids 0 to 7: 1 ends, 2 to 4 are words, 5 to 7 must not be sampled
POLICY = Policy(Transformer(dataclasses.replace(CONFIG, vocab_size=8)), SAMPLEABLE, LENGTH)
PROMPT = np.array([[3, 4, 2, 1], [2, 1, 0, 0]], np.int32)
SAMPLES = 4000


@pytest.fixture(scope="module")
def params():
    return random_params(POLICY.transformer.config)


@functools.cache
def sampler(method):
    @jax.jit
    def sample(params, key):
        return POLICY.sample(params, POLICY.encode(params, PROMPT), key, SAMPLES, method, True)

    return sample


@jax.jit
def score(params, responses):
    encoded = POLICY.encode(params, PROMPT)
    return (
        logits_of(POLICY, params, encoded, responses),
        POLICY.log_probs(params, encoded, responses),
    )


def exact_probabilities(params, responses, setting):
    """P of each of `responses` [N, R] for each prompt under a method, id bans included. [B, N]."""
    logits, _ = score(params, np.stack([responses] * len(PROMPT)))
    logits = np.array(logits, np.float64)
    logits[..., [0, *range(SAMPLEABLE, 8)]] = -1e30
    distributions = np.apply_along_axis(truncated_distribution, -1, logits, **setting)
    return np.stack([response_probabilities(row, responses) for row in distributions])


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.7, "top_k": 3}], ids=str)
def test_frequencies_are_the_probabilities(params, setting):
    """Chi-squared over all 40 responses of up to 3 tokens."""
    responses = all_responses(SAMPLEABLE, LENGTH)
    assert len(responses) == 1 + 3 + 9 + 27
    probabilities = exact_probabilities(params, responses, setting)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    tokens = np.asarray(sampler(SamplingMethod(**setting))(params, jax.random.key(7)).tokens)
    powers = 8 ** np.arange(LENGTH)
    for sampled, expected in zip(tokens, SAMPLES * probabilities, strict=True):
        kinds, counts = np.unique(sampled @ powers, return_counts=True)
        observed = dict(zip(kinds, counts, strict=True))
        counts = np.array([observed.pop(kind, 0) for kind in responses @ powers])
        assert not observed  # nothing but those responses
        assert (counts[expected == 0] == 0).all()
        rare = expected < 5  # too few to follow the distribution of chi-squared: one cell
        cells = [(counts[~rare], expected[~rare]), ([counts[rare].sum()], [expected[rare].sum()])]
        counts, expected = (np.concatenate(x) for x in zip(*cells, strict=True))
        kept = expected > 0
        assert stats.chisquare(counts[kept], expected[kept]).pvalue > 1e-3


def test_log_probs_equal_teacher_forcing(params):
    """Of the whole distribution at temperature 1, also where another one was drawn from."""
    for method in (SamplingMethod(), SamplingMethod(temperature=0.7, top_k=3)):
        samples = sampler(method)(params, jax.random.key(1))
        _, log_probs = score(params, samples.tokens)
        np.testing.assert_allclose(samples.log_probs, log_probs, rtol=0, atol=1e-5)


def test_nothing_after_the_end_and_no_padding_before_it(params):
    tokens = np.asarray(sampler(SamplingMethod())(params, jax.random.key(2)).tokens)
    ended = np.cumsum(tokens == 1, axis=-1) - (tokens == 1) > 0  # an end token came before
    np.testing.assert_array_equal(tokens == 0, ended)
    assert tokens.max() == SAMPLEABLE - 1


def test_key_decides(params):
    sample = sampler(SamplingMethod())
    first, again = (sample(params, jax.random.key(3)).tokens for _ in range(2))
    other = sample(params, jax.random.key(4)).tokens
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=-1).mean() > 0.5
    assert (first[0] != first[1]).any(axis=-1).mean() > 0.5  # prompts get draws of their own


def test_bfloat16_where_asked(params):
    """Weights and caches as well; the samples follow nearly the same distribution."""
    exact, rounded = SamplingMethod(), SamplingMethod(dtype="bfloat16")
    program = str(jax.make_jaxpr(sampler(rounded))(params, jax.random.key(3)))
    assert "bf16[8,16]" in program  # the embedding
    tokens = sampler(rounded)(params, jax.random.key(3)).tokens
    unchanged = (tokens == sampler(exact)(params, jax.random.key(3)).tokens).mean()
    assert 0.95 < unchanged < 1


def test_ban_ids_leaves_words_and_the_end():
    logits = np.arange(7, dtype=np.float32)[None, None]
    expected = np.array([NEVER, 1, 2, 3, NEVER, NEVER, NEVER], np.float32)
    np.testing.assert_array_equal(ban_ids(logits, 4)[0, 0], expected)


def script(ends):
    """A decode_step that says 2 until position `ends` [B, N], where it says 1, and its calls."""
    calls = []

    def decode_step(tokens, cache, position):
        calls.append((int(position), np.array(tokens)))
        wanted = jnp.where(position == ends, 1, 2)
        # Padding and id 3, which isn't sampleable, look best all the time.
        return 10 * jax.nn.one_hot(wanted, 4) + jnp.array([[[20.0, 0, 0, 20]]]), cache

    return decode_step, calls


def run_script(ends, length):
    decode_step, calls = script(ends)
    batch = ends.shape[0]
    bias = np.zeros((1, length, length), np.float32)
    cache = DecodeCache((), np.ones((batch, 1), bool), bias, VectorLayout())
    with jax.disable_jit():  # so that each turn of the loop is a call
        samples = sample_responses(
            decode_step,
            cache,
            jax.random.key(0),
            num_samples=ends.shape[1],
            length=length,
            method=SamplingMethod(temperature=0.0),
            sampleable_size=3,
            with_log_probs=True,
        )
    return samples, calls


def test_stops_when_all_rows_have_ended():
    ends = np.array([[0, 2], [1, 1]])
    samples, calls = run_script(ends, length=6)
    assert [position for position, _ in calls] == [0, 1, 2]
    expected = [
        [[1, 0, 0, 0, 0, 0], [2, 2, 1, 0, 0, 0]],
        [[2, 1, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0]],
    ]
    np.testing.assert_array_equal(samples.tokens, expected)
    np.testing.assert_array_equal(samples.log_probs != 0, samples.tokens > 0)
    # Each step is given what the step before put out, and the first one T5's start, padding.
    inputs = np.stack([tokens for _, tokens in calls], axis=2)
    np.testing.assert_array_equal(inputs, np.pad(expected, [(0, 0), (0, 0), (1, 0)])[..., :3])


def test_stops_at_the_length():
    samples, calls = run_script(np.array([[1, 9]]), length=4)
    assert len(calls) == 4
    np.testing.assert_array_equal(samples.tokens, [[[2, 1, 0, 0], [2, 2, 2, 2]]])
