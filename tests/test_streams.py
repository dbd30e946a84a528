"""Every use of randomness has a stream of its own."""

import itertools

import jax
import numpy as np
import pytest

from pagap_jax.streams import Purpose, choose_rows, generator_for, key_for


def draws(seed, purpose, step=0):
    return generator_for(seed, purpose, step).integers(2**63, size=4).tolist()


def test_no_two_purposes_share_a_stream():
    numbers = [purpose.number for purpose in Purpose]
    assert len(set(numbers)) == len(numbers) > 10
    keys = [tuple(jax.random.key_data(key_for(s, p)).tolist()) for s in (0, 1) for p in Purpose]
    assert len(set(keys)) == len(keys)
    # Nor does a step of one purpose draw what a step of another does, or of another seed.
    streams = itertools.product((0, 1), Purpose, (0, 1, 2))
    found = [number for stream in streams for number in draws(*stream)]
    assert len(set(found)) == len(found)


def test_a_stream_is_a_function_of_seed_purpose_and_step():
    assert draws(3, Purpose.BATCH_ORDER, 5) == draws(3, Purpose.BATCH_ORDER, 5)
    # Names stand for their streams: whoever renames a purpose makes other runs of every seed.
    assert Purpose.BATCH_ORDER.number == 4254051821


@pytest.mark.parametrize("number", [0, 1, 99, 100, 101, None])
def test_rows_are_chosen_once_each(number):
    rows = choose_rows(100, number, 0, Purpose.KL_PROMPTS)
    assert len(rows) == min(100, 100 if number is None else number)
    assert (np.diff(rows) > 0).all()
