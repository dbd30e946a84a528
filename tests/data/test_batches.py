"""Order of the batches: a function of (seed, step), against a slow version of each order."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pagap_jax.data import batches
from pagap_jax.data.batches import SHUFFLED, DataOrder
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.streams import Purpose, choose_rows

RECORDED = DataOrder("recorded")


def stream(num_examples, batch_size, steps, seed, order=SHUFFLED):
    return np.concatenate(
        [order.rows(num_examples, batch_size, step, seed) for step in range(steps)]
    )


@pytest.mark.parametrize("num_examples, batch_size", [(12, 4), (13, 4), (7, 7), (7, 5)])
@pytest.mark.parametrize("block", [None, 1, 2, 100])
def test_each_epoch_is_a_permutation_also_across_borders(num_examples, batch_size, block):
    epochs, order = 3, DataOrder("shuffled", block)
    rows = stream(num_examples, batch_size, epochs * num_examples // batch_size + 1, 3, order)
    rows = rows[: epochs * num_examples].reshape(epochs, num_examples)
    np.testing.assert_array_equal(np.sort(rows), np.tile(np.arange(num_examples), (epochs, 1)))
    assert not np.array_equal(rows[0], rows[1])
    assert rows.dtype == np.int64


@pytest.mark.parametrize("block", [1, 2, 3])
def test_pairs_stay_in_their_block(block):
    """App. G: blocks of so many batches keep their place, the last one may be shorter."""
    rows = stream(22, 4, 5, seed=1, order=DataOrder("shuffled", block))
    size = 4 * block
    np.testing.assert_array_equal(rows // size, np.arange(20) // size)
    assert not np.array_equal(rows, np.arange(20))


def test_a_block_as_large_as_the_data_set_is_no_block():
    whole = stream(22, 4, 9, seed=1)
    np.testing.assert_array_equal(stream(22, 4, 9, 1, DataOrder("shuffled", 6)), whole)
    assert not np.array_equal(stream(22, 4, 9, 1, DataOrder("shuffled", 5)), whole)


@pytest.mark.parametrize("block", [None, 2])
def test_whole_batches_are_those_of_the_recorded_order(block):
    """Fig. 3's reading: batches change places, their pairs stay together."""
    order = DataOrder("shuffled", block, "batches")
    for size in (20, 22):  # with 22 the last batch of an epoch runs into the next
        number = -(-size // 4)
        recorded = stream(size, 4, 2 * number, 0, RECORDED).reshape(2, number, 4)
        found = stream(size, 4, 2 * number, 5, order).reshape(2, number, 4)
        for epoch in range(2):
            for step, batch in enumerate(found[epoch]):
                (place,) = np.flatnonzero((recorded[epoch] == batch).all(axis=1))
                if block:
                    assert place // block == step // block
            np.testing.assert_array_equal(np.sort(found[epoch], 0), np.sort(recorded[epoch], 0))
        assert not np.array_equal(found, recorded)


def test_resumed_at_any_step_goes_on_as_before():
    for order in (SHUFFLED, DataOrder("shuffled", 2), DataOrder("shuffled", 2, "batches")):
        whole = stream(13, 4, 20, 5, order).reshape(20, 4)
        for step in (19, 0, 7, 3):
            batches._permutation.cache_clear()  # as a new process has it
            np.testing.assert_array_equal(order.rows(13, 4, step, 5), whole[step])


def test_seed_decides():
    assert not np.array_equal(stream(100, 10, 10, seed=0), stream(100, 10, 10, seed=1))
    np.testing.assert_array_equal(stream(100, 10, 10, seed=1), stream(100, 10, 10, seed=1))


def test_recorded_order_wraps():
    assert stream(5, 3, 4, 0, RECORDED).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_late_step_costs_no_more():
    # An epoch index of a trillion would never end if earlier epochs were walked through.
    assert len(set(SHUFFLED.rows(10, 10, step=10**12, seed=0).tolist())) == 10


def test_a_data_set_smaller_than_a_batch_is_refused():
    for order in (SHUFFLED, RECORDED):
        with pytest.raises(DataError, match="BATCH_SIZE: found 4, expected 3 at most"):
            order.rows(3, 4, step=0, seed=0)


def test_a_caller_cannot_spoil_the_next_batch():
    first = SHUFFLED.rows(8, 8, step=0, seed=0)
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(SHUFFLED.rows(8, 8, step=0, seed=0), kept)


def test_a_block_that_cannot_be():
    message = "SHUFFLE_BLOCK: found 4 with DATA_ORDER 'recorded', expected None, or 'shuffled'"
    with pytest.raises(ConfigError, match=message):
        DataOrder("recorded", 4)


def test_orders_in_words():
    assert RECORDED.text == "recorded" and SHUFFLED.text == "shuffled"
    assert DataOrder("shuffled", 4).text == "shuffled in blocks of 4 batches"
    assert DataOrder("shuffled", None, "batches").text == "whole batches shuffled"


CHOICES = (Purpose.WIN_RATE_PROMPTS, Purpose.KL_PROMPTS, Purpose.CLASSIFICATION_PAIRS)


@pytest.mark.parametrize("purpose", CHOICES, ids=lambda purpose: purpose.name)
def test_rows_to_measure_on_are_not_those_of_the_first_batches(purpose):
    """An evaluation on the first training batches tells of what was just learnt.

    Of 64 chosen rows among 1,000 the first k batches hold hypergeometrically many, over 40 seeds
    together; with one permutation for both it was all of them.
    """
    size, chosen, batch, seeds = 1000, 64, 8, 40
    for k in (1, 8, 32):
        shared = 0
        for seed in range(seeds):
            first = stream(size, batch, k, seed)
            shared += np.isin(choose_rows(size, chosen, seed, purpose), first).sum()
        one = stats.hypergeom(size, chosen, batch * k)
        spread = 4.5 * np.sqrt(seeds) * one.std()
        assert abs(shared - seeds * one.mean()) < spread


def test_rows_of_two_purposes_are_no_more_alike_than_chance_says():
    size, chosen, seeds = 1000, 64, 40
    one = stats.hypergeom(size, chosen, chosen)
    for ours, theirs in itertools.combinations(CHOICES, 2):
        shared = sum(
            np.isin(
                choose_rows(size, chosen, seed, ours), choose_rows(size, chosen, seed, theirs)
            ).sum()
            for seed in range(seeds)
        )
        assert abs(shared - seeds * one.mean()) < 4.5 * np.sqrt(seeds) * one.std()


@pytest.mark.parametrize(
    "maximum, buckets", [(1024, [256, 512, 768, 1024]), (512, [128, 256, 384, 512]),
                         (192, [128, 192]), (300, [128, 256, 300]), (21, [21])]
)  # fmt: skip
def test_length_buckets(maximum, buckets):
    found = [batches.length_bucket(length, maximum) for length in range(1, maximum + 1)]
    assert sorted(set(found)) == buckets
    assert all(length <= bucket for length, bucket in enumerate(found, start=1))
    assert found == sorted(found)
