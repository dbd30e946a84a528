"""Temperature, top-k and top-p against a slow NumPy version."""

import jax
import numpy as np
import pytest

from pagap_jax.errors import ConfigError
from pagap_jax.ranges import check_values
from pagap_jax.sampling.methods import NEVER, SamplingMethod, first_maximum
from tests.reference.sampling import truncated_distribution

SETTINGS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 1},
    {"top_k": 3},
    {"top_p": 0.01},
    {"top_p": 0.6},
    {"temperature": 0.7, "top_k": 4, "top_p": 0.8},
]


def test_only_untempered_and_untruncated_samples_are_the_policy_s_own():
    assert [SamplingMethod(**one).is_policys_own for one in SETTINGS] == [True] + [False] * 7


@pytest.fixture(scope="module")
def logits():
    logits = np.random.default_rng(0).normal(size=(20, 2, 9)).astype(np.float32) * 2
    logits[0, 0, :4] = logits[0, 0].max()  # a tie for the first place
    logits[..., [0, 8]] = NEVER  # banned ids stay so under every setting
    return logits


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_distribution(logits, setting):
    filtered = SamplingMethod(**setting).filter_logits(logits)
    expected = np.apply_along_axis(truncated_distribution, -1, logits.astype(np.float64), **setting)
    np.testing.assert_allclose(jax.nn.softmax(filtered), expected, rtol=0, atol=1e-6)
    assert (expected[..., [0, 8]] == 0).all()


def test_more_than_there_are_keeps_all(logits):
    np.testing.assert_array_equal(SamplingMethod(top_k=9).filter_logits(logits), logits)


def test_draws_follow_the_distribution(logits):
    """Frequencies within 5 standard errors."""
    method, draws, row = SamplingMethod(temperature=1.5, top_k=4), 20_000, logits[3, 1]
    expected = truncated_distribution(row.astype(np.float64), temperature=1.5, top_k=4)
    tokens = method.draw(jax.random.key(0), np.tile(row, (draws, 1)))
    frequencies = np.bincount(tokens, minlength=9) / draws
    assert (frequencies[expected == 0] == 0).all()
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(frequencies - expected) <= 5 * error).all()


def test_temperature_zero_is_greedy(logits):
    tokens = SamplingMethod(temperature=0.0).draw(jax.random.key(0), logits)
    np.testing.assert_array_equal(tokens, logits.argmax(axis=-1))
    assert tokens.dtype == np.int32


def test_unknown_types_are_refused():
    with pytest.raises(
        ConfigError, match="SamplingMethod.dtype: found 'bf16', expected .*'bfloat16'"
    ):
        check_values(SamplingMethod, {"dtype": "bf16"})


def test_draws_are_jax_s(logits):
    """Another arithmetic for the argmax, the same tokens for the same keys."""
    method = SamplingMethod(temperature=0.7, top_k=4)
    drawn = jax.jit(method.draw)(jax.random.key(5), logits)
    expected = jax.random.categorical(jax.random.key(5), method.filter_logits(logits))
    np.testing.assert_array_equal(drawn, expected)


def test_first_maximum():
    x = np.array([[1, 3, 3, 2], [-np.inf] * 4, [5, np.nan, 7, 0]], np.float32)
    # Of a row with a nan any id will do that exists: the loss stops the run.
    np.testing.assert_array_equal(first_maximum(x), [1, 0, 3])


@pytest.mark.parametrize(
    "setting", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}], ids=str
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(
        ConfigError, match=f"SamplingMethod.{next(iter(setting))}: found .*, expected"
    ):
        check_values(SamplingMethod, setting)
