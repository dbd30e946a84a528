"""The composer: the same on host and device as a slow version, and no response ever cut."""

import jax
import numpy as np
import pytest

from pagap_jax.data.composer import compose_preference_input
from tests.fixtures.tiny import random_tokens
from tests.reference import composer as reference

PROMPT_WIDTH, WIDTH = 9, 4
MARKERS = {"marker_a": 31, "marker_b": 30}
TIGHTEST = 2 * WIDTH + 3  # both responses, both markers, one token of the prompt


@pytest.fixture(scope="module")
def columns():
    """200 examples of all lengths: empty, ended, and cut off at their full width."""
    generator = np.random.default_rng(0)
    widths = (PROMPT_WIDTH, WIDTH, WIDTH)
    return [
        random_tokens(generator, generator.integers(0, width + 2, 200), width) for width in widths
    ]


@pytest.mark.parametrize("length", [TIGHTEST, TIGHTEST + 4, 30])
def test_numpy_equals_jax_equals_the_slow_version(columns, length):
    host = compose_preference_input(*columns, length=length, **MARKERS)
    device = compose_preference_input(
        *[jax.numpy.asarray(x) for x in columns], length=length, **MARKERS
    )
    for name in ("tokens", "segments", "prompt_truncated"):
        ours = getattr(host, name)
        assert isinstance(ours, np.ndarray) and isinstance(getattr(device, name), jax.Array)
        assert ours.dtype == getattr(device, name).dtype
        np.testing.assert_array_equal(ours, getattr(device, name))
    for i, example in enumerate(zip(*columns, strict=True)):
        tokens, segments, truncated = reference.compose(*example, length=length, **MARKERS)
        np.testing.assert_array_equal(host.tokens[i], tokens)
        np.testing.assert_array_equal(host.segments[i], segments)
        assert host.prompt_truncated[i] == truncated


def test_the_prompt_loses_its_beginning_and_responses_nothing():
    prompt = np.array([[2, 3, 4, 5, 6, 1]], np.int32)
    full_a, full_b = np.array([[7, 8, 9, 1]], np.int32), np.array([[10, 11, 12, 13]], np.int32)
    made = compose_preference_input(prompt, full_a, full_b, length=TIGHTEST + 1, **MARKERS)
    np.testing.assert_array_equal(made.tokens, [[6, 1, 31, 7, 8, 9, 1, 30, 10, 11, 12, 13]])
    np.testing.assert_array_equal(made.segments, [[0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]])
    assert made.prompt_truncated.tolist() == [True]


def test_the_room_of_short_responses_goes_to_the_prompt():
    prompt = np.array([[2, 3, 4, 5, 6, 1]], np.int32)
    short_a, short_b = np.array([[7, 1, 0, 0]], np.int32), np.array([[1, 0, 0, 0]], np.int32)
    made = compose_preference_input(prompt, short_a, short_b, length=TIGHTEST + 1, **MARKERS)
    np.testing.assert_array_equal(made.tokens, [[2, 3, 4, 5, 6, 1, 31, 7, 1, 30, 1, 0]])
    assert made.prompt_truncated.tolist() == [False]


def test_no_room_for_a_prompt_is_refused(columns):
    with pytest.raises(ValueError, match="can't hold responses of 4 and 4 tokens"):
        compose_preference_input(*columns, length=TIGHTEST - 1, **MARKERS)
