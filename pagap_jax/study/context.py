"""What a report says beside the rows, kept in the study's folder."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pagap_jax.errors import ConfigError, DataError
from pagap_jax.files import write_atomically

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
        title: what was studied, in a few words: 'tiny T5 on the built-in tickets'.
        experiments: names of those that were run.
        notes: where the study differs from the paper, one sentence each.
        gates: of the stages; empty while it runs.
        data: counts and rates of the data, nested as deep as they need.
        validation: curves of preference models, as {'seed 0: proxy': [{'step': ...}, ...]}.
    """

    study: str
    title: str = ""
    experiments: Sequence[str] = ()
    notes: Sequence[str] = ()
    gates: Sequence[Gate] = ()
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    validation: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)

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
    try:
        fields = json.loads(path.read_text())
        gates = [Gate(**gate) for gate in fields.pop("gates", [])]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: found {error}, expected a study's JSON") from error
    known = {field.name for field in dataclasses.fields(Context)}
    if unknown := sorted(set(fields) - known):
        raise ConfigError(f"{path}: found fields {unknown}, expected of {sorted(known)}")
    return Context(**fields, gates=gates)
