"""Rows of a data set are read when they are asked for, and by the process that needs them."""

import json

import numpy as np
import pytest

from pagap_jax.data import stored
from pagap_jax.data.batches import SHUFFLED
from pagap_jax.data.prompts import prompt_id
from pagap_jax.data.reading import columns, open_token_pairs, read_batch, read_token_pairs
from pagap_jax.errors import DataError, StoppedError
from pagap_jax.files import sealed_json
from pagap_jax.jobs.inputs import batch_at
from pagap_jax.mapping.batching import order_by_length
from pagap_jax.model.sharding import make_mesh
from tests.fixtures import toy
from tests.fixtures.stored_pairs import LetterVocabulary, random_pairs

BATCH = 8


@pytest.fixture
def directory(tmp_path):
    stored.write_token_pairs(tmp_path, {"train": random_pairs(40)}, LetterVocabulary(), {})
    return tmp_path


def test_rows_are_read_once_and_in_the_order_asked_for(directory):
    pairs, whole = open_token_pairs(directory, "train"), read_token_pairs(directory, "train")
    rows = np.array([7, 3, 7, 39])
    for _ in range(2):
        for name, column in columns(pairs).items():
            np.testing.assert_array_equal(column[rows], getattr(whole, name)[rows], name)
        pairs.prompt.split._source = None  # and the second time there is nothing to read from
        for file in directory.glob("*train.array_record*"):
            file.unlink(missing_ok=True)
    with pytest.raises(DataError, match="split 'train' can't be read"):
        pairs.prompt[np.array([8])]


def test_what_is_known_of_all_rows_before_any_is_read(directory):
    pairs, whole = open_token_pairs(directory, "train"), read_token_pairs(directory, "train")
    for name, column in columns(pairs).items():
        expected = getattr(whole, name)
        if name in stored.TOKEN_COLUMNS:
            assert column.shape == expected.shape
            column, expected = column.lengths, np.count_nonzero(expected, axis=1)
        np.testing.assert_array_equal(column, expected, name)
    assert not pairs.prompt.split.kept


def test_which_prompt_a_pair_has_is_known_before_any_is_read(tmp_path):
    whole = random_pairs(40)
    whole.prompt[20:] = whole.prompt[:20]
    vocabulary = LetterVocabulary()
    stored.write_token_pairs(tmp_path, {"train": whole}, vocabulary, {})
    pairs = open_token_pairs(tmp_path, "train")
    assert pairs.prompt_id.dtype == np.int64
    texts = [vocabulary.decode(ids) for ids in whole.prompt]
    assert pairs.prompt_id.tolist() == [prompt_id(text) for text in texts]
    assert len(set(pairs.prompt_id.tolist())) == len(set(texts)) == 20
    rows = np.array([30, 4, 12, 10])
    np.testing.assert_array_equal(pairs.view(rows).prompt_id, pairs.prompt_id[rows])
    np.testing.assert_array_equal(pairs.view(slice(3)).prompt_id, pairs.prompt_id[:3])
    assert not pairs.prompt.split.kept
    assert "prompt_id" not in columns(pairs)  # these become batches


def test_views_read_their_own_rows(directory):
    pairs, whole = open_token_pairs(directory, "train"), read_token_pairs(directory, "train")
    some = pairs.view(np.array([30, 4, 12, 5]))
    few = some.response_a[:3]
    assert few.shape == (3, whole.response_a.shape[1])
    np.testing.assert_array_equal(few.lengths, (whole.response_a[[30, 4, 12]] > 0).sum(axis=1))
    assert not pairs.prompt.split.kept
    np.testing.assert_array_equal(few[np.array([2, 0])], whole.response_a[[12, 30]])
    assert sorted(pairs.prompt.split.kept) == [12, 30]
    for name, column in columns(some.whole()).items():
        np.testing.assert_array_equal(column, getattr(whole, name)[[30, 4, 12, 5]], name)


def test_a_batch_is_cut_to_its_longest_prompt_and_holds_what_is_mine():
    prompt = np.zeros((3, 512), np.int32)
    prompt[0, :129], prompt[1, :5], prompt[2] = 3, 4, 5
    whole = {"prompt": prompt, "choice": np.array([1, 0, 1])}
    batch = read_batch(whole, np.array([1, 0]), np.array([True, True]))
    np.testing.assert_array_equal(batch["prompt"], prompt[[1, 0], :256])
    np.testing.assert_array_equal(batch["choice"], [0, 1])
    mine = read_batch(whole, np.array([1, 0]), np.array([True, False]))
    np.testing.assert_array_equal(mine["prompt"], [prompt[1, :256], np.zeros(256)])
    short = read_batch(whole, np.array([1, 1]), np.array([False, True]))
    assert short["prompt"].shape == (2, 128)


def test_a_spoilt_row_is_told_when_it_is_read(directory):
    shard = next(directory.glob("*train.array_record*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:200] + bytes(len(content) - 200))
    metadata = json.loads((directory / "pairs.json").read_text())
    del metadata["checksums"]  # as of data sets from before there were any
    (directory / "pairs.json").write_bytes(sealed_json(metadata))
    pairs = open_token_pairs(directory, "train")
    with pytest.raises(DataError, match="split 'train' can't be read"):
        pairs.response_b[np.array([30])]


def test_being_asked_to_stop_while_reading_is_no_fault_of_the_data(directory, monkeypatch):
    pairs = open_token_pairs(directory, "train")

    def stop():
        raise StoppedError("asked to stop")

    monkeypatch.setattr(pairs.prompt.split, "_opened", stop)
    with pytest.raises(StoppedError):
        pairs.prompt[np.array([3])]


def test_two_processes_read_their_own_halves(tmp_path):
    """Also where the longest prompt, to which all are trimmed, is the other one's."""
    pairs = random_pairs(BATCH, prompt_length=512)
    pairs.prompt[:, 100:] = 0
    longest = SHUFFLED.rows(BATCH, BATCH, step=0, seed=0)[-1]
    pairs.prompt[longest] = 5
    pairs.prompt[longest, 200:] = 0
    stored.write_token_pairs(tmp_path, {"train": pairs}, LetterVocabulary(), {})
    command = ["tests/fixtures/read_batch.py", str(tmp_path), str(BATCH)]
    told = [
        json.loads(text.splitlines()[-1])
        for text in toy.end(toy.launch(command, processes=2, devices=4), 0)
    ]
    order = SHUFFLED.rows(BATCH, BATCH, 0, 0).tolist()
    assert [one["read"] for one in told] == [sorted(order[:4]), sorted(order[4:])]
    by_length = order_by_length(pairs.prompt).tolist()
    assert [one["mapped"] for one in told] == [sorted(by_length[:4]), sorted(by_length[4:])]
    expected = batch_at(open_token_pairs(tmp_path, "train"), BATCH, 0, 0, make_mesh())
    assert expected["prompt"].shape == (BATCH, 256)
    for one in told:
        assert one["sums"] == (pairs.prompt.sum(axis=1) + pairs.choice).tolist()
        for name, column in expected.items():
            np.testing.assert_array_equal(np.float32(one["batch"][name]), np.float32(column), name)
