"""Accuracy along D_online: which pairs, and how often a classifier is right, the slow way."""

import numpy as np
import pytest

from pagap_jax.evaluation.stream import even_steps, label_accuracy, rows_around


def test_even_steps_end_with_the_last():
    assert even_steps(800, 10) == [80, 160, 240, 320, 400, 480, 560, 640, 720, 800]
    assert even_steps(12, 3) == [4, 8, 12]


def slow_candidates(step, around, pairs):
    """Whole batches, the nearest to the checkpoint first, until there are enough pairs."""
    batches = sorted(set(step.tolist()), key=lambda s: (abs(s + 0.5 - around), s))
    chosen = set()
    nearest = None
    for batch in batches:
        distance = abs(batch + 0.5 - around)
        if sum(int(np.sum(step == b)) for b in chosen) >= pairs and distance != nearest:
            break
        chosen.add(batch)
        nearest = distance
    return {row for row, s in enumerate(step.tolist()) if s in chosen}


@pytest.mark.parametrize("batch", [8, 32, 100])
@pytest.mark.parametrize("around", [1, 7, 20, 40])
def test_pairs_are_those_next_to_the_step(batch, around):
    step = np.repeat(np.arange(40, dtype=np.int32), batch)
    step = step[np.random.default_rng(0).permutation(len(step))]  # the order of rows is no matter
    rows = rows_around(step, around, 64, seed=3)
    assert len(rows) == len(set(rows.tolist())) == 64
    assert set(rows.tolist()) <= slow_candidates(step, around, 64)
    if batch == 32:  # 64 pairs are the batches before and after
        assert set(step[rows].tolist()) == {min(around - 1, 38), min(around, 39)}
    again, other = (rows_around(step, around, 64, seed) for seed in (3, 4))
    np.testing.assert_array_equal(rows, again)
    assert batch != 100 or not np.array_equal(rows, other)


def test_a_stream_shorter_than_asked_for_gives_all():
    step = np.repeat(np.arange(2, dtype=np.int32), 4)
    np.testing.assert_array_equal(rows_around(step, 1, 64, 0), np.arange(8))


def test_accuracy_of_labels_the_slow_way():
    rng = np.random.default_rng(1)
    choice, truth = rng.integers(-1, 2, 200), rng.integers(-1, 2, 200)
    right, count = 0.0, 0
    for said, true in zip(choice.tolist(), truth.tolist(), strict=True):
        if true < 0:
            continue
        count += 1
        right += 0.5 if said < 0 else float(said == true)
    found = label_accuracy(choice, truth, np.arange(200))
    assert found.count == count and found.rate == pytest.approx(right / count)
    assert found.low < found.rate < found.high
