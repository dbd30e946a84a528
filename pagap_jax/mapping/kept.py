"""Results of batches that outlive a stop: a run that is started again takes them as they are."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from pagap_jax.files import read_arrays, write_atomically
from pagap_jax.processes import is_first


@dataclasses.dataclass(frozen=True)
class Kept:
    """A folder in a run's, a file a pass over a data set; it goes when the run has used it."""

    folder: epath.Path

    def of(self, name: str) -> "KeptRows":
        """What is kept of one pass."""
        return KeptRows(self.folder / f"{name}.npz")

    def delete(self) -> None:
        """Forgets all of it; by the one process that writes."""
        if is_first():
            self.folder.rmtree(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class KeptRows:
    """The results of the first rows of a pass, in the order in which they were made."""

    path: epath.Path

    def read(self) -> tuple[int, list[np.ndarray]]:
        """How many rows are done, and each array of their results, rows first; (0, []) at first."""
        if not self.path.exists():
            return 0, []
        arrays = read_arrays(self.path, "rows")
        return int(arrays["rows"]), [arrays[f"array_{i}"] for i in range(len(arrays) - 1)]

    def write(self, rows: int, arrays: Sequence[np.ndarray]) -> None:
        """Keeps them; by the one process that writes."""
        if not is_first():
            return
        content = io.BytesIO()
        named: dict[str, Any] = {f"array_{i}": array for i, array in enumerate(arrays)}
        np.savez(content, **{"rows": np.array(rows), **named})
        write_atomically(self.path, content.getvalue())
