"""Token pairs on disk: what comes back, and what a killed, cut or wrong data set says."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pagap_jax.data import stored, stored_metadata
from pagap_jax.data.reading import read_token_pairs
from pagap_jax.errors import DataError, NoRoomError
from pagap_jax.files import sealed_json
from tests.fixtures.room import files_end_at
from tests.fixtures.stored_pairs import LetterVocabulary, random_pairs


def assert_same(found, expected):
    for field in dataclasses.fields(stored.TokenPairs):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(a, b, field.name)
        assert a.dtype == b.dtype


def write(directory, splits=None, report=None):
    splits = splits or {"train": random_pairs(40), "validation": random_pairs(7, seed=1)}
    stored.write_token_pairs(directory, splits, LetterVocabulary(), report or {})
    return splits


def test_reads_back_every_column_of_every_split_in_order(tmp_path):
    splits = write(tmp_path / "pairs", report={"read": 47})
    for name, pairs in splits.items():
        assert_same(read_token_pairs(tmp_path / "pairs", name), pairs)
    metadata = stored_metadata.read_metadata(tmp_path / "pairs")
    assert metadata["report"] == {"read": 47}
    assert metadata["vocabulary"] == {"class": "LetterVocabulary", "size": 30, "sha256": None}
    assert metadata["splits"] == {"train": 40, "validation": 7}


def test_empty_rows_and_missing_probability_survive(tmp_path):
    pairs = random_pairs(3)
    pairs.prompt[1] = 0
    pairs.response_b[2] = 0
    pairs.probability[0] = np.nan
    write(tmp_path, {"train": pairs})
    assert_same(read_token_pairs(tmp_path, "train"), pairs)


@pytest.mark.parametrize("limit", [200, 4000])  # in the first file, in the rows' own
def test_a_full_disk_leaves_nothing_that_reads_as_complete(limit, tmp_path):
    with files_end_at(limit), pytest.raises(NoRoomError, match="bytes were needed") as raised:
        write(tmp_path / "pairs")
    assert str(raised.value).startswith(f"{tmp_path}/pairs: File too large")
    assert not stored_metadata.is_complete(tmp_path / "pairs")
    splits = write(tmp_path / "pairs")  # with room
    assert_same(read_token_pairs(tmp_path / "pairs", "train"), splits["train"])


def test_reading_needs_no_tensorflow(tmp_path):
    write(tmp_path)
    program = (
        "import sys\n"
        "from pagap_jax.data.reading import read_token_pairs\n"
        f"print(len(read_token_pairs({str(tmp_path)!r}, 'train')), 'tensorflow' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "40 False\n", result.stderr


def test_is_a_tfds_data_set_with_text(tmp_path):
    import tensorflow_datasets as tfds

    pairs = random_pairs(5)
    write(tmp_path, {"train": pairs})
    builder = tfds.builder_from_directory(str(tmp_path))
    assert builder.info.file_format.value == "array_record"
    example = builder.as_data_source("train")[3]
    row = pairs.response_a[3]
    assert example["response_a"].tolist() == row[row > 0].tolist()
    assert example["response_a_text"].decode() == LetterVocabulary().decode(row)


def test_each_different_prompt_is_decoded_once(tmp_path):
    pairs = random_pairs(12)
    pairs.prompt[:] = pairs.prompt[np.arange(12) % 3]
    pairs.prompt[:, 0], pairs.response_a[:], pairs.response_b[:] = 9, 8, 7
    asked = []

    class Vocabulary(LetterVocabulary):
        def decode(self, ids):
            asked.append(ids)
            return super().decode(ids)

    stored.write_token_pairs(tmp_path, {"train": pairs}, Vocabulary(), {})
    assert sum(ids[0] == 9 for ids in asked) == 3


def test_killed_write_reads_as_incomplete_and_can_be_repeated(tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    moved = []

    def move_two_files(source, target):
        if len(moved) == 2:
            raise KilledError
        moved.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(stored.os, "replace", move_two_files)
        with pytest.raises(KilledError):
            write(tmp_path, {"train": random_pairs(9, seed=5)})
    assert not stored_metadata.is_complete(tmp_path)
    with pytest.raises(DataError, match=r"found no pairs\.json"):
        read_token_pairs(tmp_path, "train")

    splits = write(tmp_path)
    assert_same(read_token_pairs(tmp_path, "train"), splits["train"])
    assert not (tmp_path / ".writing").exists()


def test_complete_data_set_is_not_overwritten(tmp_path):
    splits = write(tmp_path)
    with pytest.raises(DataError, match="found a complete data set"):
        write(tmp_path, {"train": random_pairs(3, seed=9)})
    assert_same(read_token_pairs(tmp_path, "train"), splits["train"])


def test_other_files_of_the_directory_stay(tmp_path):
    (tmp_path / "config.gin").write_text("x = 1\n")
    write(tmp_path)
    assert (tmp_path / "config.gin").read_text() == "x = 1\n"


def test_missing_cut_and_spoilt_files_are_named(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match=r"found splits \['train', 'validation'\], expected 'test'"):
        read_token_pairs(tmp_path, "test")

    shard = next(tmp_path.glob("*train.array_record*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-100])
    with pytest.raises(DataError, match=rf"{shard.name}: found {len(content) - 100} bytes"):
        read_token_pairs(tmp_path, "train")

    shard.write_bytes(content[:200] + b"?" + content[201:])
    with pytest.raises(DataError, match=rf"{shard.name}: found .*CRC32C"):
        read_token_pairs(tmp_path, "train")

    shard.write_bytes(content)
    rows = tmp_path / stored.ROWS_FILE
    known = rows.read_bytes()
    for spoilt in (known[:100] + b"?" + known[101:], bytes(len(known))):
        rows.write_bytes(spoilt)
        with pytest.raises(DataError, match=rf"{rows.name}: found .*CRC32C"):
            read_token_pairs(tmp_path, "train")
    rows.write_bytes(known)

    shard.unlink()
    with pytest.raises(DataError, match=rf"{shard.name}: found no such file"):
        read_token_pairs(tmp_path, "train")


def test_without_checksums_records_own_sums_tell(tmp_path):
    """Of data sets from before there were any."""
    write(tmp_path)
    metadata = json.loads((tmp_path / stored_metadata.METADATA_FILE).read_text())
    del metadata["checksums"]
    (tmp_path / stored_metadata.METADATA_FILE).write_bytes(sealed_json(metadata))
    shard = next(tmp_path.glob("*train.array_record*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:200] + bytes(len(content) - 200))
    with pytest.raises(DataError, match="split 'train' can't be read"):
        read_token_pairs(tmp_path, "train")


def test_another_schema_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / stored_metadata.METADATA_FILE
    path.write_bytes(sealed_json(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(DataError, match="'schema_version': found 99, expected 4: prepare again"):
        read_token_pairs(tmp_path, "train")


@pytest.mark.parametrize("ids, expected", [([5, 30, 0, 0], "ids in"), ([5, 0, 6, 1], "pads last")])
def test_ids_that_do_not_fit_name_the_example(tmp_path, ids, expected):
    pairs = random_pairs(4)
    pairs.response_b[2] = ids
    with pytest.raises(DataError, match=rf"'train': example 2, column 'response_b'.*{expected}"):
        write(tmp_path, {"train": pairs})
    assert not stored_metadata.is_complete(tmp_path)


def test_empty_split_and_wrong_columns_are_refused(tmp_path):
    with pytest.raises(DataError, match="found no pairs"):
        write(tmp_path, {"train": random_pairs(0)})
    pairs = random_pairs(4)
    with pytest.raises(DataError, match="'choice': found int64 of shape"):
        dataclasses.replace(pairs, choice=pairs.choice.astype(np.int64))
    with pytest.raises(DataError, match="'step': .* with 4 rows"):
        dataclasses.replace(pairs, step=pairs.step[:3])
