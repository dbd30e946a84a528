"""Rows of a data set are read when they are asked for, and by the process that needs them."""

import json

import numpy as np
import pytest

from pagap_jax.data import stored
from pagap_jax.data.batches import batch_indices
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
    rows = np.array([7, 3, 7, 39])
    for _ in range(2):
        for name, column in columns(pairs.rows(rows)).items():
            np.testing.assert_array_equal(column, getattr(whole, name)[rows], name)
        pairs._source = None  # and the second time there is nothing to read from
        for file in directory.glob("*train.array_record*"):
            file.unlink(missing_ok=True)
    with pytest.raises(DataError, match="split 'train' can't be read"):
        pairs.rows(np.array([8]))


def test_lengths_of_prompts_are_known_before_any_is_read(directory):
    pairs = StoredPairs(directory, "train")
    expected = np.count_nonzero(read_token_pairs(directory, "train").prompt, axis=1)
    np.testing.assert_array_equal(pairs.prompt_lengths, expected)


def test_a_spoilt_row_is_told_when_it_is_read(directory):
    shard = next(directory.glob("*train.array_record*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:200] + bytes(len(content) - 200))
    pairs = StoredPairs(directory, "train")
    with pytest.raises(DataError, match="split 'train' can't be read"):
        pairs.rows(np.array([30]))


def test_two_processes_read_their_own_halves(tmp_path):
    """Also where the longest prompt, to which all are trimmed, is the other one's."""
    pairs = random_pairs(BATCH, prompt_length=512)
    pairs.prompt[:, 100:] = 0
    longest = batch_indices(BATCH, BATCH, step=0, seed=0)[-1]
    pairs.prompt[longest] = 5
    pairs.prompt[longest, 200:] = 0
    stored.write_token_pairs(tmp_path, {"train": pairs}, LetterVocabulary(), {})
    command = ["tests/fixtures/read_batch.py", str(tmp_path), str(BATCH)]
    told = [
        json.loads(text.splitlines()[-1])
        for text in toy.end(toy.launch(command, processes=2, devices=4), 0)
    ]
    order = batch_indices(BATCH, BATCH, 0, 0).tolist()
    assert [one["read"] for one in told] == [sorted(order[:4]), sorted(order[4:])]
    expected = batch_at(StoredPairs(tmp_path, "train"), BATCH, 0, 0, make_mesh())
    assert expected["prompt"].shape == (BATCH, 256)
    for one in told:
        for name, column in expected.items():
            np.testing.assert_array_equal(np.float32(one["batch"][name]), np.float32(column), name)
