"""What a report says beside the rows, kept in the study's folder."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pagap_jax.errors import ConfigError, DataError
from pagap_jax.files import read_json, write_atomically
from pagap_jax.study.loss_arms import losses_as_arms
from pagap_jax.study.rows import TRAINING, Rows, collect_rows, sizes_as_arms

STUDY_FILE = "study.json"


@dataclasses.dataclass(frozen=True)
class Gate:
    """A bar that a stage had to clear before anything after it made sense."""

    name: str
    measured: float
    bar: str  # in words: 'at least 0.78'
    passed: bool


@dataclasses.dataclass(frozen=True)
class Context:
    """What is known of a study.

    Attributes:
        study: its name, as in every row; it says whose the folder is.
        task: as in every row.
        title: what was studied, in a few words: 'tiny T5 on the built-in tickets'.
        command: that made the rows, without the folder.
        experiments: those that were run, with the names of their arms.
        baselines: the run of each arm that has the first of its settings.
        notes: where the study differs from the paper, one sentence each.
        gates: of the stages; empty while it runs.
        data: counts and rates of the data, nested as deep as they need.
        validation: curves of preference models, as {'seed 0: proxy': [{'step': ...}, ...]}.
        training: rows of `rows.TRAINING` but the first two columns: online and its replay.
    """

    study: str
    task: str = ""
    title: str = ""
    command: str = ""
    experiments: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    gates: Sequence[Gate] = ()
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    validation: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()

    def write(self, folder: Path) -> None:
        """Into the study's folder."""
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_atomically(folder / STUDY_FILE, text.encode())


def read_context(folder: Path) -> Context | None:
    """What a study's folder says of it; None where no study made the folder.

    Raises:
        DataError: the file is damaged.
        ConfigError: another version of the package wrote it.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        return None
    fields = read_json(path)
    known = {field.name for field in dataclasses.fields(Context)}
    if unknown := sorted(set(fields) - known):
        raise ConfigError(f"{path}: found fields {unknown}, expected of {sorted(known)}")
    try:
        gates = [Gate(**gate) for gate in fields.pop("gates", [])]
        return Context(**fields, gates=gates)
    except TypeError as error:
        raise DataError(f"{path}: found {error}, expected a study's JSON") from error


def rows_of_studies(folders: Iterable[Path], contexts: Sequence[Context]) -> Rows:
    """All rows of some studies, with what the studies say of them.

    Raises:
        DataError: rows are missing or damaged.
    """
    rows = sizes_as_arms(losses_as_arms(collect_rows(folders)))
    baselines = {(one.study, run) for one in contexts for run in one.baselines.values()}
    of_studies = [
        {"study": one.study, "task": one.task, **row} for one in contexts for row in one.training
    ]
    training = pd.DataFrame(of_studies, columns=list(TRAINING))
    return dataclasses.replace(rows, baselines=frozenset(baselines), training=training)
