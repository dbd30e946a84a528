"""Metrics of a training run: one JSON line each few steps, in MODEL_DIR/metrics.jsonl."""

import json
import math
import time

import jax
import numpy as np
from etils import epath

from pagap_jax.errors import NotANumberError
from pagap_jax.processes import is_first

# Not finite, these end the run. The update's norm is the one that tells of the parameters which
# are about to be saved.
STOPPING = ("loss", "gradient_norm", "update_norm")


class MetricsLog:
    """Gathers each step's metrics and writes their means.

    Values stay on the device until `write`, so that steps are dispatched without waiting.
    """

    def __init__(self, path: epath.Path, start_step: int):
        """Opens the log and forgets rows after `start_step`: those steps will be made again."""
        self._path = path
        self._pending: list[dict[str, jax.Array]] = []
        self._since = time.monotonic()
        if not is_first():
            return
        rows = path.read_text().splitlines() if path.exists() else []
        kept = [row for row in rows if row.endswith("}") and json.loads(row)["step"] <= start_step]
        unfinished = path.parent / f".{path.name}.tmp"
        unfinished.write_text("".join(row + "\n" for row in kept))
        unfinished.replace(path)

    def add(self, metrics: dict[str, jax.Array]) -> None:
        self._pending.append(metrics)

    def write(self, step: int) -> dict[str, float]:
        """Writes the means over the steps since the last call; `step` is the last of them.

        A metric named 'tokens' is a count, and comes out as 'tokens_per_second'.

        Raises:
            NotANumberError: a loss or a norm of its update isn't finite. The row is written first.
        """
        fetched = jax.device_get(self._pending)
        first = step - len(fetched) + 1
        self._pending = []
        now = time.monotonic()
        row = {key: float(np.mean([m[key] for m in fetched])) for key in fetched[0]}
        if "tokens" in row:
            row["tokens_per_second"] = row.pop("tokens") * len(fetched) / (now - self._since)
        self._since = now
        finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
        line = json.dumps({"step": step, **finite})
        if is_first():
            with self._path.open("a") as file:
                file.write(line + "\n")
        for offset, metrics in enumerate(fetched):
            bad = [k for k in STOPPING if not math.isfinite(metrics.get(k, 0.0))]
            if bad:
                raise NotANumberError(
                    f"{bad[0]} is {metrics[bad[0]]} at step {first + offset}: stopped;"
                    f" the checkpoints before it are kept, the metrics are in {self._path}"
                )
        return row
