"""Metrics of a training run: one JSON line each few steps, in MODEL_DIR/metrics.jsonl."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from pagap_jax.errors import NotANumberError
from pagap_jax.files import open_lines, read_json_lines
from pagap_jax.processes import is_first
from pagap_jax.train.writers import MetricWriter

# Not finite, these end the run. The update's norm is the one that tells of the parameters which
# are about to be saved.
STOPPING = ("loss", "gradient_norm", "update_norm")
# Of these the row has the rate: the sum since the last row, a second.
COUNTS = ("tokens", "pairs")


class MetricsLog:
    """Gathers each step's metrics and writes their means.

    Values stay on the device until `write`, so that steps are dispatched without waiting.
    """

    def __init__(
        self,
        path: epath.Path,
        start_step: int,
        pending: Mapping[str, Any] | None = None,
        writers: Sequence[MetricWriter] = (),
    ):
        """Opens the log and forgets rows after `start_step`: those steps will be made again.

        Args:
            pending: of the steps until then; what `pending` gave.
            writers: are given all rows, those that were kept as well; in the first process alone.
        """
        self._path = path
        self._writers = writers
        self._pending: list[dict[str, Any]] = _steps(pending or {})
        self._not_timed = len(self._pending)  # steps of an earlier process
        self._since = time.monotonic()
        if not is_first():
            return
        kept = [row for row in read_json_lines(path, "step") if row["step"] <= start_step]
        self._file = open_lines(path, [json.dumps(row) for row in kept])
        for row in kept:
            self._hand_on(row)

    def add(self, metrics: dict[str, jax.Array]) -> None:
        self._pending.append(metrics)

    def pending(self, step: int) -> dict[str, Any]:
        """Each metric of the steps since the last row, as JSON takes it; {} right behind a row.

        Raises:
            NotANumberError: as `write` does, which then writes the row.
        """
        self._pending = jax.device_get(self._pending)
        if any(_not_finite(metrics) for metrics in self._pending):
            self.write(step)
        self._flush()  # a checkpoint follows, and these steps aren't made again
        return {
            name: {
                "dtype": str(np.asarray(value).dtype),
                "values": [np.asarray(metrics[name]).item() for metrics in self._pending],
            }
            for name, value in (self._pending[0] if self._pending else {}).items()
        }

    def write(self, step: int) -> dict[str, float]:
        """Writes the means over the steps since the last call; `step` is the last of them.

        A count ('tokens', 'pairs') comes out as its rate ('tokens_per_second'). On disk the row
        has 'wall_time' as well: seconds since 1970, when it was written.

        Raises:
            NotANumberError: a loss or a norm of its update isn't finite. The row is written first.
        """
        fetched = jax.device_get(self._pending)
        first = step - len(fetched) + 1
        self._pending = []
        now = time.monotonic()
        row = {key: float(np.mean([m[key] for m in fetched])) for key in fetched[0]}
        timed = len(fetched) - self._not_timed
        for name in COUNTS:
            if name in row:
                row[f"{name}_per_second"] = row.pop(name) * timed / (now - self._since)
        self._since, self._not_timed = now, 0
        finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
        if is_first():
            on_disk = {"step": step, "wall_time": time.time(), **finite}
            self._file.add(json.dumps(on_disk))
            self._hand_on(on_disk)
        for offset, metrics in enumerate(fetched):
            if bad := _not_finite(metrics):
                self._flush()
                raise NotANumberError(
                    f"{bad[0]} is {metrics[bad[0]]} at step {first + offset}: stopped;"
                    f" the checkpoints before it are kept, the metrics are in {self._path}"
                )
        return row

    def close(self) -> None:
        """Closes the writers; the file has all rows."""
        self._flush()
        for writer in self._writers:
            writer.close()

    def _flush(self) -> None:
        if is_first():
            self._file.flush()

    def _hand_on(self, row: Mapping[str, Any]) -> None:
        """Gives a row of the file to the writers, without what isn't a number."""
        known = {k: v for k, v in row.items() if v is not None and k not in ("step", "wall_time")}
        for writer in self._writers:
            writer.write_scalars(row["step"], known)


def _not_finite(metrics: Mapping[str, Any]) -> list[str]:
    return [name for name in STOPPING if not math.isfinite(metrics.get(name, 0.0))]


def _steps(pending: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics of each step from what `MetricsLog.pending` gave."""
    columns = {name: np.array(of["values"], of["dtype"]) for name, of in pending.items()}
    number = len(next(iter(columns.values()), ()))
    return [{name: column[i] for name, column in columns.items()} for i in range(number)]
