"""Rows of evaluations, gathered from JSON lines into one table and kept as CSV."""

import csv
import dataclasses
import io
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from pagap_jax.errors import DataError
from pagap_jax.files import write_atomically
from pagap_jax.records import EvalRow, row_to_dict, rows_from_dicts

ROWS_FILE = "rows.jsonl"

COLUMNS: dict[str, type] = typing.get_type_hints(EvalRow)
_IDENTITY = ("study", "seed", "run", "step")
_ORDER = ["seed", "method", "run", "step", "study"]
_EXPECTED = {str: "text", int: "a whole number", float: "a number"}


@dataclasses.dataclass(frozen=True)
class Gate:
    """A bar that a stage had to clear before anything after it made sense."""

    name: str
    measured: float
    bar: str  # in words: 'at least 0.78'
    passed: bool


def collect_rows(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Gathers evaluated checkpoints, sorted by seed, method, run and step.

    Args:
        paths: of `rows.jsonl` files, or of folders that hold one; their order doesn't matter.

    Returns:
        One row per checkpoint, the columns those of `EvalRow`.

    Raises:
        DataError: a file is missing, empty or damaged, or a checkpoint occurs twice.
    """
    located: dict[tuple, tuple[str, EvalRow]] = {}
    for path in paths:
        path = Path(path)
        for where, row in _read_json_lines(path / ROWS_FILE if path.is_dir() else path):
            identity = tuple(getattr(row, name) for name in _IDENTITY)
            if identity in located:
                named = ", ".join(f"{k} {v!r}" for k, v in zip(_IDENTITY, identity, strict=True))
                raise DataError(
                    f"{where}: found {named} a second time (first at {located[identity][0]}), "
                    "expected one row a checkpoint"
                )
            located[identity] = where, row
    return _frame([row for _, row in located.values()])


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Writes the rows so that equal frames give equal bytes, whatever the version of pandas.

    A float is written as the shortest text that reads back as the same float.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in frame[list(COLUMNS)].itertuples(index=False, name=None):
        values = zip(record, COLUMNS.values(), strict=True)
        writer.writerow(
            [repr(kind(value)) if kind is float else kind(value) for value, kind in values]
        )
    write_atomically(path, text.getvalue().encode())


def read_csv(path: str | Path) -> pd.DataFrame:
    """Reads what `write_csv` wrote.

    Raises:
        DataError: a file is missing, empty or damaged.
    """
    path = Path(path)
    lines = [f"{text}\n" for _, text in _text_lines(path)]  # a quoted cell may span lines
    reader = csv.reader(lines)
    header = next(reader)
    if header != list(COLUMNS):
        difference = sorted(set(header) ^ set(COLUMNS)) or "the same names in another order"
        raise DataError(f"{path}:1: expected the columns of EvalRow, differs in {difference}")
    rows = []
    for record in reader:
        where = f"{path}:{reader.line_num}"
        if len(record) != len(COLUMNS):
            raise DataError(f"{where}: found {len(record)} values, expected {len(COLUMNS)}")
        fields = dict(zip(COLUMNS, record, strict=True))
        rows.append(_checked_row({k: _parsed(v, COLUMNS[k]) for k, v in fields.items()}, where))
    return _frame(rows)


def _frame(rows: list[EvalRow]) -> pd.DataFrame:
    frame = pd.DataFrame([row_to_dict(row) for row in rows], columns=list(COLUMNS))
    return frame.astype(COLUMNS).sort_values(_ORDER, kind="stable", ignore_index=True)


def _read_json_lines(path: Path) -> Iterator[tuple[str, EvalRow]]:
    for number, text in _text_lines(path):
        where = f"{path}:{number}"
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: found {text[:60]!r}, expected JSON ({error})") from error
        if not isinstance(fields, dict):
            raise DataError(f"{where}: found {text[:60]!r}, expected a JSON object")
        yield where, _checked_row(fields, where)


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1; the newline at the end of a file starts no line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a file of rows ({error.strerror})") from error
    if not content:
        raise DataError(f"{path}:1: found an empty file, expected rows")
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: found bytes that aren't UTF-8 ({error})") from error


def _parsed(text: str, kind: type) -> object:
    """A CSV cell as its column's type, or the text itself, which `_checked_row` then refuses."""
    try:
        return kind(text)
    except ValueError:
        return text


def _checked_row(fields: Mapping[str, object], where: str) -> EvalRow:
    typed = {}
    for name, value in fields.items():
        kind = COLUMNS.get(name)
        if kind is None:
            raise DataError(f"{where}: found a field {name!r}, which EvalRow doesn't have")
        if kind is float and type(value) is int:
            value = float(value)  # JSON has one kind of number
        if type(value) is not kind:
            raise DataError(f"{where}: field {name!r}: found {value!r}, expected {_EXPECTED[kind]}")
        typed[name] = value
    missing = [name for name in COLUMNS if name not in fields]
    if missing:
        raise DataError(f"{where}: expected field {missing[0]!r}, found none ({missing=})")
    try:
        return rows_from_dicts([typed])[0]
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
