"""What the folders of a study's runs hold beside rows: curves, warnings, samples."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pagap_jax.errors import DataError
from pagap_jax.files import read_json_lines
from pagap_jax.lineage import RUN_FILE, read_run
from pagap_jax.run_directory import METRICS_FILE, read_result
from pagap_jax.run_warnings import WARNINGS_FILE

SAMPLES_FILE = "samples.jsonl"
_TEXT, _NUMBER = (str,), (int, float)
_WARNING = {"kind": _TEXT, "message": _TEXT, "value": _NUMBER, "threshold": _NUMBER}
_SAMPLE = {
    "step": (int,), "prompt": _TEXT, "response": _TEXT, "golden_response": _TEXT,
    "golden_probability": _NUMBER,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """One run's folder in a study's.

    Attributes:
        study, task: as in every row.
        seed: its number.
        name: below the seed's folder: 'sft', 'rows/online_lr0.0003_beta0.1'.
        path: of the folder.
        job: as `pagap JOB` names it.
        facts: of result.json; empty while the run isn't finished.
    """

    study: str
    task: str
    seed: int
    name: str
    path: Path
    job: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def arm(self) -> str:
        """The arm that rows name; of other runs the folder's name."""
        return str(self.facts.get("arm", self.name))

    @property
    def title(self) -> str:
        """The run for a reader: 'evaluation of online_lr0.0003_beta0.1'."""
        if self.job == "evaluate":
            return f"evaluation of {self.name.removeprefix('rows/')}"
        return self.name

    def metrics(self) -> pd.DataFrame:
        """Statistics of training: step, then what this job has; no rows where it has none.

        Raises:
            DataError: a line is damaged.
        """
        rows = _objects(self.path / METRICS_FILE, {"step": (int,)})
        frame = pd.DataFrame(rows, columns=None if rows else ["step"])
        numbers = frame.apply(pd.to_numeric, errors="coerce")  # null: it wasn't finite
        return numbers.dropna(axis="columns", how="all")

    def warnings(self) -> list[dict[str, Any]]:
        """What the run warned of, in order: kind, message, value, threshold, step.

        Raises:
            DataError: a line is damaged.
        """
        return _objects(self.path / WARNINGS_FILE, _WARNING)

    def samples(self) -> list[dict[str, Any]]:
        """Responses of an evaluation's checkpoints as text; none of older versions.

        Raises:
            DataError: a line is damaged.
        """
        return _objects(self.path / SAMPLES_FILE, _SAMPLE)


def runs_of(folder: Path, study: str, task: str) -> list[RunFolder]:
    """Every run of a study's folder, by seed and name."""
    found = []
    # No deeper: checkpoints hold thousands of files.
    for file in (*folder.glob(f"seed_*/*/{RUN_FILE}"), *folder.glob(f"seed_*/*/*/{RUN_FILE}")):
        seed, *inside = file.parent.relative_to(folder).parts
        if not seed.removeprefix("seed_").isdigit():
            continue
        job = read_run(file.parent)["job"]
        facts = read_result(file.parent) or {}
        number, name = int(seed.removeprefix("seed_")), "/".join(inside)
        found.append(RunFolder(study, task, number, name, file.parent, job, facts))
    return sorted(found, key=lambda run: (run.seed, run.name))


def by_name(runs: Iterable[RunFolder]) -> dict[tuple[str, int, str], RunFolder]:
    """Runs by (study, seed, name)."""
    return {(run.study, run.seed, run.name): run for run in runs}


def _objects(path: Path, fields: Mapping[str, Sequence[type]]) -> list[dict[str, Any]]:
    """JSON objects, one a line.

    Args:
        fields: which each object must have, and of which types.
    """
    found = []
    for number, value in enumerate(read_json_lines(path, *fields), start=1):
        for name, kinds in fields.items():
            held = value[name]
            if type(held) not in kinds or (isinstance(held, float) and math.isnan(held)):
                raise DataError(
                    f"{path}:{number}: field {name!r}: found {held!r}, expected"
                    f" {' or '.join(kind.__name__ for kind in kinds)}"
                )
        found.append(value)
    return found
