"""Rows on disk: gathered in one order, kept without loss, refused when damaged."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from pagap_jax.errors import DataError
from pagap_jax.records import CheckpointRow, StreamRow, row_to_dict
from pagap_jax.study import rows as rows_

COLUMNS = rows_.columns_of(CheckpointRow)


def _write(folder, *rows):
    folder.mkdir(parents=True)
    lines = [json.dumps(row_to_dict(row)) + "\n" for row in rows]
    (folder / rows_.ROWS_FILE).write_text("".join(lines))
    _write_outcomes(folder, [row.step for row in rows])
    return folder


def _write_outcomes(folder, steps):
    np.savez(
        folder / "outcomes.npz", step=np.array(steps), win=np.ones((len(steps), 4)),
        prompt_id=np.arange(4), select=np.arange(4) % 2 == 0,
    )  # fmt: skip


def test_order_does_not_depend_on_the_order_of_the_files(tmp_path, make_row):
    one = _write(
        tmp_path / "one",
        make_row(seed=1, arm="online", run="b", step=50),
        make_row(seed=0, arm="online", run="b", step=100),
        make_row(seed=0, arm="online", run="b", step=50),
    )
    two = _write(
        tmp_path / "two",
        make_row(seed=0, arm="online", run="a", step=200),
        make_row(seed=0, arm="offline", run="c", step=7),
    )
    frame = rows_.collect_rows([one, two]).checkpoints
    order = list(zip(frame["seed"], frame["arm"], frame["run"], frame["step"], strict=True))
    assert order == [
        (0, "offline", "c", 7),
        (0, "online", "a", 200),
        (0, "online", "b", 50),
        (0, "online", "b", 100),
        (1, "online", "b", 50),
    ]
    pd.testing.assert_frame_equal(frame, rows_.collect_rows([two, one]).checkpoints)
    assert list(frame.columns) == list(COLUMNS)


def test_csv_keeps_every_float_and_every_text(tmp_path, make_row):
    numbers = [0.1 + 0.2, 1e-300, -0.0, math.nan, math.inf, 1 / 3, 3.0]
    rows = [make_row(step=i, kl=v, run='a "b", c\nd é') for i, v in enumerate(numbers)]
    frame = rows_.collect_rows([_write(tmp_path / "rows", *rows)]).checkpoints
    rows_.write_csv(frame, CheckpointRow, tmp_path / "out" / "rows.csv")
    again = rows_.read_csv(tmp_path / "out" / "rows.csv")
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert again["run"][0] == 'a "b", c\nd é'


def test_csv_bytes_are_the_same_and_lie_alone_in_their_folder(tmp_path, study_frame):
    order = ["seed", "arm", "run", "step"]
    study_frame = study_frame.sort_values(order, ignore_index=True)
    rows_.write_csv(study_frame, CheckpointRow, tmp_path / "rows.csv")
    first = (tmp_path / "rows.csv").read_bytes()
    rows_.write_csv(study_frame.copy(), CheckpointRow, tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == first
    rows_.write_csv(rows_.read_csv(tmp_path / "rows.csv"), CheckpointRow, tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert b"np." not in first and b"\r" not in first


def _damaged(make_row, **changes):
    fields = row_to_dict(make_row())
    return json.dumps({k: v for k, v in (fields | changes).items() if v != "drop"}).encode()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: b'{"study": "ti', "expected JSON"),
        (lambda row: b"", "expected JSON"),
        (lambda row: b"[1, 2]", "expected a JSON object"),
        (lambda row: b"\xff\xfe", "UTF-8"),
        (lambda row: _damaged(row, kl="low"), "'kl': found 'low', expected a number"),
        (lambda row: _damaged(row, kl=None), "'kl': found None, expected a number"),
        (lambda row: _damaged(row, seed=1.0), "'seed': found 1.0, expected a whole number"),
        (lambda row: _damaged(row, seed=True), "'seed': found True, expected a whole number"),
        (lambda row: _damaged(row, run=3), "'run': found 3, expected text"),
        (lambda row: _damaged(row, win_rate="drop"), "expected field 'win_rate'"),
        (lambda row: _damaged(row, extra=1), "'extra'"),
        (lambda row: _damaged(row, schema_version=99), "schema version 99"),
        (lambda row: _damaged(row), "a second time"),
    ],
)
def test_damage_names_file_and_line(tmp_path, make_row, damage, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(_damaged(make_row) + b"\n" + damage(make_row) + b"\n")
    _write_outcomes(tmp_path, [100])
    with pytest.raises(DataError, match=message) as caught:
        rows_.collect_rows([tmp_path])
    assert str(caught.value).startswith(f"{path}:2: ")


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        rows_.collect_rows([tmp_path])
    (tmp_path / "rows.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match="rows.jsonl:1: found an empty file"):
        rows_.collect_rows([tmp_path])


def test_whole_numbers_are_read_into_float_columns(tmp_path, make_row):
    (tmp_path / "rows.jsonl").write_bytes(_damaged(make_row, beta=1))
    _write_outcomes(tmp_path, [100])
    frame = rows_.collect_rows([tmp_path]).checkpoints
    assert frame["beta"].dtype == float and frame["beta"][0] == 1.0


def test_no_rows_give_an_empty_frame_with_all_columns():
    frame = rows_.collect_rows([]).checkpoints
    assert frame.empty and list(frame.columns) == list(COLUMNS)


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (1, "kl_se", "error", r"differs in \['error', 'kl_se'\]"),
        (2, "0.75", "high", "'accuracy': found 'high', expected a number"),
        (2, "tiny,", "tiny,1,", "found 56 values, expected 55"),
    ],
)
def test_a_damaged_csv_names_file_and_line(tmp_path, make_frame, line, old, new, message):
    path = tmp_path / "rows.csv"
    rows_.write_csv(make_frame({}), CheckpointRow, path)
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=message) as caught:
        rows_.read_csv(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_outcomes_are_those_of_the_rows(tmp_path, make_row):
    folder = _write(tmp_path / "rows", make_row(step=5), make_row(step=7))
    rows = rows_.collect_rows([folder])
    assert set(rows.outcomes) == {("tiny", 0, "run", 5), ("tiny", 0, "run", 7)}
    _write_outcomes(folder, [5, 8])
    with pytest.raises(DataError, match=r"outcomes.npz: found steps \[5, 8\], expected those"):
        rows_.collect_rows([folder])
    (folder / "outcomes.npz").write_bytes(b"cut")
    with pytest.raises(DataError, match="outcomes.npz: expected the outcomes of each prompt"):
        rows_.collect_rows([folder])


def test_stream_rows_are_rows_of_their_own(tmp_path, make_row):
    """Accuracy along D_online (Fig. 6): the same identity, other measures."""
    identity = {k: getattr(make_row(), k) for k in rows_.columns_of(rows_.RowIdentity)}
    measured = dict(classifier_checkpoint="", pairs_first_step=79, pairs_last_step=80,
                    accuracy=0.7, accuracy_low=0.6, accuracy_high=0.8,
                    accuracy_pairs=64)  # fmt: skip
    of_each = [StreamRow(**identity, **measured, classifier=c) for c in ("proxy", "offline")]
    lines = "".join(json.dumps(row_to_dict(row)) + "\n" for row in of_each)
    (tmp_path / rows_.STREAM_ROWS_FILE).write_text(lines)
    rows = rows_.collect_rows([tmp_path])
    assert rows.checkpoints.empty and rows.outcomes == {}
    rows_.write_csv(rows.stream, StreamRow, tmp_path / "stream.csv")
    again = rows_.read_csv(tmp_path / "stream.csv", StreamRow)
    pd.testing.assert_frame_equal(again, rows.stream)
    assert list(again["classifier"]) == ["proxy", "offline"] and again["accuracy_pairs"][0] == 64
    (tmp_path / rows_.STREAM_ROWS_FILE).write_text(lines + lines)
    with pytest.raises(DataError, match="classifier 'proxy' a second time"):
        rows_.collect_rows([tmp_path])
