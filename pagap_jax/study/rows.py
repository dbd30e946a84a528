"""Rows of evaluations: gathered from JSON lines, kept as CSV, with the outcomes behind them."""

import csv
import dataclasses
import io
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pagap_jax.errors import DataError
from pagap_jax.files import write_atomically
from pagap_jax.records import CheckpointRow, RowIdentity, StreamRow, row_from_dict
from pagap_jax.study.outcomes import Outcome, read_outcomes

ROWS_FILE, STREAM_ROWS_FILE = "rows.jsonl", "stream_rows.jsonl"
KINDS: dict[str, type] = {ROWS_FILE: CheckpointRow, STREAM_ROWS_FILE: StreamRow}

# What names a row among those of its kind.
_POINTS = {
    CheckpointRow: ("study", "seed", "run", "step"),
    StreamRow: ("study", "seed", "run", "step", "classifier"),
}
TRAINING = ("study", "task", "seed", "arm", "step", "loss", "margin", "gradient_norm")
_ORDER = ["study", "seed", "arm", "run", "step"]
# What two runs differ in of which the shorter one is the beginning of the longer one.
_OF_LENGTH = ("run", "train_steps", "fingerprint")
_EXPECTED = {str: "text", int: "a whole number", float: "a number"}

Point = tuple[Any, ...]  # study, seed, run, step


@dataclasses.dataclass(frozen=True)
class Rows:
    """All that a report is made of.

    Attributes:
        checkpoints: columns of `CheckpointRow`, sorted by study, seed, arm, run and step.
        stream: columns of `StreamRow`.
        outcomes: of each row of `checkpoints`, by (study, seed, run, step).
        baselines: (study, run) of each arm's run with the first of its settings.
        training: statistics of online and replayed runs while they trained, columns of `TRAINING`.
    """

    checkpoints: pd.DataFrame
    stream: pd.DataFrame
    outcomes: Mapping[Point, Outcome]
    baselines: frozenset[tuple[str, str]] = frozenset()
    training: pd.DataFrame = dataclasses.field(
        default_factory=lambda: pd.DataFrame(columns=list(TRAINING))
    )

    def of_task(self, task: str) -> "Rows":
        """Those of one task."""
        frames = {
            name: frame[frame["task"] == task].reset_index(drop=True)
            for name in ("checkpoints", "stream", "training")
            for frame in (getattr(self, name),)
        }
        return dataclasses.replace(self, **frames)

    def baseline(self, arms: Iterable[str]) -> pd.DataFrame:
        """Checkpoints of the arms' baselines: one run a seed and arm (Fig. 6, 7, 8)."""
        frame = self.checkpoints
        runs = zip(frame["study"], frame["run"], strict=True)
        known = np.array([run in self.baselines for run in runs], bool)
        return frame[frame["arm"].isin(arms).to_numpy() & known]


def columns_of(kind: type) -> dict[str, type]:
    """Names and types of the columns of a kind of row."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def collect_rows(folders: Iterable[str | Path]) -> Rows:
    """Gathers the rows of evaluations; the order of the folders doesn't matter.

    Args:
        folders: each holds `rows.jsonl` with `outcomes.npz` beside it, or `stream_rows.jsonl`.

    Raises:
        DataError: a file is missing, empty or damaged, or a row occurs twice.
    """
    located: dict[str, dict[Point, tuple[str, RowIdentity]]] = {name: {} for name in KINDS}
    outcomes: dict[Point, Outcome] = {}
    for folder in map(Path, folders):
        name = STREAM_ROWS_FILE if (folder / STREAM_ROWS_FILE).exists() else ROWS_FILE
        points, names = [], _POINTS[KINDS[name]]
        for where, row in _read_json_lines(folder / name, KINDS[name]):
            point = tuple(getattr(row, field) for field in names)
            if point in located[name]:
                named = ", ".join(f"{k} {v!r}" for k, v in zip(names, point, strict=True))
                raise DataError(
                    f"{where}: found {named} a second time (first at {located[name][point][0]}), "
                    "expected one row a checkpoint"
                )
            located[name][point] = where, row
            points.append(point)
        if name == ROWS_FILE:
            outcomes |= zip(points, read_outcomes(folder, [p[-1] for p in points]), strict=True)
    checkpoints, stream = (
        frame_of(KINDS[name], [row for _, row in located[name].values()]) for name in KINDS
    )
    return Rows(counted_once(checkpoints), stream, outcomes)


def frame_of(kind: type, rows: Iterable[RowIdentity]) -> pd.DataFrame:
    """Rows as a frame, sorted."""
    columns = columns_of(kind)
    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(columns))
    return frame.astype(columns).sort_values(_ORDER, kind="stable", ignore_index=True)


def counted_once(frame: pd.DataFrame) -> pd.DataFrame:
    """Leaves out rows of a run that is the beginning of a longer one (§4: 4k and 20k steps).

    Alignment runs at a constant rate, so that two runs which differ in their length alone share
    the checkpoints of the shorter one. A quantile over all would count those twice.
    """
    if frame.empty:
        return frame
    names = [field.name for field in dataclasses.fields(RowIdentity)]
    same = [name for name in names if name not in _OF_LENGTH]
    longest_first = frame.sort_values("train_steps", ascending=False, kind="stable")
    kept = longest_first.drop_duplicates(same).index
    return frame.loc[sorted(kept)].reset_index(drop=True)


def sizes_as_arms(rows: Rows) -> Rows:
    """Names arms of policies of other sizes 'online, xl', as a study of several sizes does.

    A study for each size is one comparison when they are read together (Fig. 10, 11, 14). A task's
    own size is that of its golden policy, or else the smallest.
    """
    own = {}
    for task, frame in rows.checkpoints.groupby("task"):
        golden = frame[frame["arm"] == "golden"]
        smallest = (golden if len(golden) else frame).sort_values("policy_parameters")
        own[task] = smallest["policy_size"].iloc[0]

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        arms = [
            arm if size == own.get(task, size) or arm.endswith(f", {size}") else f"{arm}, {size}"
            for arm, size, task in frame[["arm", "policy_size", "task"]].itertuples(index=False)
        ]
        return frame.assign(arm=pd.Series(arms, frame.index, dtype=object))

    checkpoints, stream = renamed(rows.checkpoints), renamed(rows.stream)
    return dataclasses.replace(rows, checkpoints=checkpoints, stream=stream)


def write_csv(frame: pd.DataFrame, kind: type, path: str | Path) -> None:
    """Writes rows so that equal frames give equal bytes, whatever the version of pandas.

    A float is written as the shortest text that reads back as the same float.
    """
    columns = columns_of(kind)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for record in frame[list(columns)].itertuples(index=False, name=None):
        values = zip(record, columns.values(), strict=True)
        writer.writerow([repr(of(value)) if of is float else of(value) for value, of in values])
    write_atomically(path, text.getvalue().encode())


def read_csv(path: str | Path, kind: type = CheckpointRow) -> pd.DataFrame:
    """Reads what `write_csv` wrote.

    Raises:
        DataError: the file is missing, empty or damaged.
    """
    path, columns = Path(path), columns_of(kind)
    lines = [f"{text}\n" for _, text in _text_lines(path)]  # a quoted cell may span lines
    reader = csv.reader(lines)
    header = next(reader)
    if header != list(columns):
        difference = sorted(set(header) ^ set(columns)) or "the same names in another order"
        raise DataError(
            f"{path}:1: expected the columns of {kind.__name__}, differs in {difference}"
        )
    rows = []
    for record in reader:
        where = f"{path}:{reader.line_num}"
        if len(record) != len(columns):
            raise DataError(f"{where}: found {len(record)} values, expected {len(columns)}")
        fields = dict(zip(columns, record, strict=True))
        parsed = {name: _parsed(text, columns[name]) for name, text in fields.items()}
        rows.append(_checked_row(parsed, kind, where))
    return frame_of(kind, rows)


def _read_json_lines(path: Path, kind: type) -> Iterator[tuple[str, RowIdentity]]:
    for number, text in _text_lines(path):
        where = f"{path}:{number}"
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: found {text[:60]!r}, expected JSON ({error})") from error
        if not isinstance(fields, dict):
            raise DataError(f"{where}: found {text[:60]!r}, expected a JSON object")
        yield where, _checked_row(fields, kind, where)


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


def _checked_row(fields: Mapping[str, object], kind: type, where: str) -> RowIdentity:
    columns, typed = columns_of(kind), {}
    version = fields.get("schema_version")
    for name, value in fields.items():
        of = columns.get(name)
        if of is None:
            raise DataError(
                f"{where}: found a field {name!r}, which {kind.__name__} doesn't have"
                f" (schema version {version!r})"
            )
        if of is float and type(value) is int:
            value = float(value)  # JSON has one kind of number
        if type(value) is not of:
            raise DataError(f"{where}: field {name!r}: found {value!r}, expected {_EXPECTED[of]}")
        typed[name] = value
    missing = [name for name in columns if name not in fields]
    if missing:
        raise DataError(f"{where}: expected field {missing[0]!r}, found none ({missing=})")
    try:
        return row_from_dict(kind, typed)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
