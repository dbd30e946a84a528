"""Batch order: a function of (seed, step), each epoch a permutation."""

import numpy as np
import pytest

from pagap_jax.data import batches
from pagap_jax.errors import DataError


def stream(num_examples, batch_size, steps, seed, shuffle=True):
    return np.concatenate(
        [batches.batch_indices(num_examples, batch_size, s, seed, shuffle) for s in range(steps)]
    )


@pytest.mark.parametrize("num_examples, batch_size", [(12, 4), (13, 4), (7, 7), (7, 5)])
def test_each_epoch_is_a_permutation_also_across_borders(num_examples, batch_size):
    epochs = 3
    order = stream(num_examples, batch_size, epochs * num_examples // batch_size + 1, seed=3)
    order = order[: epochs * num_examples].reshape(epochs, num_examples)
    np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(num_examples), (epochs, 1)))
    assert not np.array_equal(order[0], order[1])
    assert order.dtype == np.int64


def test_resumed_at_any_step_goes_on_as_before():
    whole = stream(13, 4, steps=20, seed=5).reshape(20, 4)
    for step in (19, 0, 7, 3):
        batches._permutation.cache_clear()  # as a new process has it
        np.testing.assert_array_equal(batches.batch_indices(13, 4, step, 5), whole[step])


def test_seed_decides():
    assert not np.array_equal(stream(100, 10, 10, seed=0), stream(100, 10, 10, seed=1))
    np.testing.assert_array_equal(stream(100, 10, 10, seed=1), stream(100, 10, 10, seed=1))


def test_recorded_order_wraps():
    assert stream(5, 3, 4, seed=0, shuffle=False).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_late_step_costs_no_more():
    # An epoch index of a trillion would never end if earlier epochs were walked through.
    assert len(set(batches.batch_indices(10, 10, step=10**12, seed=0).tolist())) == 10


def test_a_data_set_smaller_than_a_batch_is_refused():
    with pytest.raises(DataError, match="found 3 examples, expected at least one batch of 4"):
        batches.batch_indices(3, 4, step=0, seed=0)


def test_a_caller_cannot_spoil_the_next_batch():
    first = batches.batch_indices(8, 8, step=0, seed=0)
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(batches.batch_indices(8, 8, step=0, seed=0), kept)


@pytest.mark.parametrize(
    "maximum, buckets", [(1024, [256, 512, 768, 1024]), (512, [128, 256, 384, 512]),
                         (192, [128, 192]), (300, [128, 256, 300]), (21, [21])]
)  # fmt: skip
def test_length_buckets(maximum, buckets):
    found = [batches.length_bucket(length, maximum) for length in range(1, maximum + 1)]
    assert sorted(set(found)) == buckets
    assert all(length <= bucket for length, bucket in enumerate(found, start=1))
    assert found == sorted(found)
