"""Rows of a data set are read when they are asked for, and by the process that needs them."""

import json

import numpy as np
import pytest

from pagap_jax.data import stored
from pagap_jax.data.reading import StoredPairs, read_token_pairs
from pagap_jax.errors import DataError
from pagap_jax.jobs.inputs import batch_at, columns
from pagap_jax.model.sharding import make_mesh
from tests.fixtures import toy
from tests.fixtures.stored_pairs import LetterVocabulary, random_pairs

BATCH = 8


@pytest.fixture
def directory(tmp_path):
    stored.write_token_pairs(tmp_path, {"train": random_pairs(40)}, LetterVocabulary(), {})
    return tmp_path


def test_rows_are_read_once_and_in_the_order_asked_for(directory):
    pairs, whole = StoredPairs(directory, "train"), read_token_pairs(directory, "train")
    assert (len(pairs), pairs.num_read) == (40, 0)
    rows = np.array([7, 3, 7, 39])
    for _ in range(2):
        for name, column in columns(pairs.rows(rows)).items():
            np.testing.assert_array_equal(column, getattr(whole, name)[rows], name)
        assert pairs.num_read == 3
    assert pairs.all() is pairs.all()
    assert pairs.num_read == 40


def test_lengths_of_prompts_are_known_before_any_is_read(directory):
    pairs = StoredPairs(directory, "train")
    expected = np.count_nonzero(read_token_pairs(directory, "train").prompt, axis=1)
    np.testing.assert_array_equal(pairs.prompt_lengths, expected)
    assert pairs.num_read == 0


def test_a_spoilt_row_is_told_when_it_is_read(directory):
    shard = next(directory.glob("*train.array_record*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:200] + bytes(len(content) - 200))
    pairs = StoredPairs(directory, "train")
    with pytest.raises(DataError, match="split 'train' can't be read"):
        pairs.rows(np.array([30]))


def test_two_processes_read_their_own_halves(directory):
    command = ["tests/fixtures/read_batch.py", str(directory), str(BATCH)]
    told = [
        json.loads(text.splitlines()[-1])
        for text in toy.end(toy.launch(command, processes=2, devices=4), 0)
    ]
    assert [one["read"] for one in told] == [BATCH // 2] * 2
    expected = batch_at(StoredPairs(directory, "train"), BATCH, 0, 0, make_mesh())
    for one in told:
        for name, column in expected.items():
            np.testing.assert_array_equal(np.float32(one["batch"][name]), np.float32(column), name)
