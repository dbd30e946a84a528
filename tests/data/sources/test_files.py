"""From files to rows: every container, and what is said about a broken one."""

import csv
import gzip
import json
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from pagap_jax.data.sources import files, json_rows
from pagap_jax.data.sources.rows import BadRowError
from pagap_jax.errors import DataError

ROWS = [{"prompt": f"p {i} é", "chosen": "a\nb", "rejected": f"{i}"} for i in range(5)]


def fields(path):
    return [row.fields() for row in files.rows_of(path)]


def write(path, rows=ROWS):
    """In the format that the name says."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".zst":
        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(lines)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        path.write_bytes(lines)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.gz", "a.jsonl.zst"])
def test_every_container_gives_the_same_rows(tmp_path, name):
    assert fields(write(tmp_path / name)) == ROWS


def test_what_is_packed_is_told_by_its_bytes(tmp_path):
    path = write(tmp_path / "a.gz").rename(tmp_path / "pairs.jsonl")
    assert fields(path) == ROWS
    path = write(tmp_path / "a.parquet").rename(tmp_path / "without_a_suffix")
    assert fields(path) == ROWS


def test_rows_say_where_they_are(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert [row.where for row in files.rows_of(path)] == [f"{path}:2", f"{path}:4"]
    array = write(tmp_path / "a.json")
    assert [row.where for row in files.rows_of(array)][-1] == f"{array}: item 5"
    table = write(tmp_path / "a.csv")  # cells with line breaks: the line a row ends on
    assert [row.where for row in files.rows_of(table)][1] == f"{table}:5"


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_an_array_is_read_piece_by_piece(tmp_path, monkeypatch, size):
    monkeypatch.setattr(json_rows, "_CHUNK", size)
    rows = [*ROWS, {"a": [1, {"b": "]"}], "c": "}, {"}, {}]
    for indent in (None, 2):
        path = tmp_path / "a.json"
        path.write_text(f"\ufeff [{','.join(json.dumps(row, indent=indent) for row in rows)} ] ")
        assert fields(path) == rows
    path.write_text("[]")
    assert fields(path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}', r"item 2: found '', expected a JSON object, and '\]' after the last"),
        ('[{"a": 1}, {"a": ', "item 2: found ', {\"a\": ', expected a JSON object"),
        ('[{"a": 1} {"a": 2}]', "item 2: found ' {\"a\": 2}\\]', expected a JSON object"),
        ("[" * 10**5, "item 1: found .*expected a JSON object"),
        ('[{"a": {"b": 1, "b": 2}, "c": "xx', "item 1: found .*expected a JSON object"),
        ('[\n{"a": 1}]\n[{"a": 2}]', " found .* after the array, expected nothing"),
    ],
)
def test_an_array_that_is_cut_or_broken(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=f"a.json:.*{message}"):
        fields(path)


def test_items_that_are_no_rows(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, 7, {"a": 1, "a": 2},\n{"a": 3}]')
    rows = list(files.rows_of(path))
    assert [rows[0].fields(), rows[3].fields()] == [{"a": 1}, {"a": 3}]
    with pytest.raises(BadRowError, match="found 7, expected a JSON object"):
        rows[1].fields()
    with pytest.raises(BadRowError, match=r"found the keys \['a'\] more than once"):
        rows[2].fields()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_line_without_an_end_is_not_held_in_memory(tmp_path, name):
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"{}\n")
        for _ in range(200):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"found a line of over 16,777,216"):
        fields(path)
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()


def test_broken_tables_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3\n4,5,6\n")
    rows = list(files.rows_of(path))
    assert rows[0].fields() == {"a": "1", "b": "2"}
    for row, cells in ((rows[1], 1), (rows[2], 3)):
        with pytest.raises(BadRowError, match=f"found {cells} cells, expected as many"):
            row.fields()
    path.write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(DataError, match="a.csv: after row 0: found .*, expected UTF-8"):
        fields(path)
    path.write_text('a,b\n1,"2"x\n')
    with pytest.raises(DataError, match="a.csv: after line 1: found .*, expected CSV"):
        fields(path)
    table = write(tmp_path / "a.parquet")
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a.parquet: after row 0: found .*, expected parquet"):
        fields(table)
    packed = write(tmp_path / "a.jsonl.zst")
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a.jsonl.zst: found "):
        fields(packed)


def test_a_repeated_key_inside_of_a_long_item(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "_CHUNK", 20)
    path = tmp_path / "a.json"
    path.write_text('[{"a": {"b": 1, "b": 2}, "c": "' + "x" * 100 + '"}, {"a": 1}]')
    first, second = files.rows_of(path)
    with pytest.raises(BadRowError, match="more than once"):
        first.fields()
    assert second.fields() == {"a": 1}


@pytest.mark.parametrize("kind", [pyarrow.timestamp("us"), pyarrow.date32()])
def test_dates_that_python_lacks(tmp_path, kind):
    path = tmp_path / "a.parquet"
    column = pyarrow.array([2**30 if kind == pyarrow.date32() else 2**62], kind)
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["p"], "when": column}), path)
    with pytest.raises(DataError, match="a.parquet: after row 0: found .*, expected parquet"):
        fields(path)


def test_columns_given_twice_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match=r"found the columns \['a'\] more than once"):
        fields(path)
    path = tmp_path / "a.parquet"
    twice = pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, ["a", "a"])
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(DataError, match=r"found the columns \['a'\] more than once"):
        fields(path)


def test_cells_are_texts_but_for_a_choice(tmp_path):
    path = tmp_path / "a.CSV"
    path.write_text("choice,b\n1,1\n2,x\n")
    assert fields(path) == [{"choice": 1, "b": "1"}, {"choice": "2", "b": "x"}]


def test_a_zip_archive_is_named(tmp_path):
    path = tmp_path / "a.csv.zip"
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DataError, match="found a zip archive, expected the file in it"):
        fields(path)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.jsonl.gz", "test.jsonl.gz"], ["train", "validation"]),
        (["train_prefs-0.parquet", "valid-0.parquet"], ["train", "validation"]),
        (["test.jsonl.gz"], [""]),  # alone it's just a file
        (["train.jsonl", "more.jsonl", "test.jsonl"], ["", "", ""]),
        (["trainer.json", "tests.json"], ["", ""]),
    ],
)
def test_splits_are_those_of_the_names(tmp_path, names, splits):
    found = files.splits_by_name([tmp_path / name for name in names])
    assert [split for _, split in found] == splits


def test_paths_patterns_and_several(tmp_path):
    for name in ("b2.json", "b1.json", "c.json"):
        write(tmp_path / name)
    found = files.expand(str(tmp_path / "b*.json"))
    assert [path.name for path in found] == ["b1.json", "b2.json"]
    several = [tmp_path / "c.json", str(tmp_path / "b*.json")]
    assert [path.name for path in files.expand(several)] == ["c.json", "b1.json", "b2.json"]
    with pytest.raises(DataError, match=r"x\*: found No such file .*expected a file that matches"):
        files.expand(str(tmp_path / "x*"))
    assert len(files.expand([tmp_path / "c.json", str(tmp_path / "*.json")])) == 3  # each once
    with pytest.raises(DataError, match="found no files"):
        files.expand([])
    assert files.digest(found) != files.digest(found[:1])
