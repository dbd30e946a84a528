"""What is measured of each checkpoint, kept on disk until the rows of all are written."""

import dataclasses
import io
import json

import numpy as np
from etils import epath

from pagap_jax.evaluation.examine import Measured
from pagap_jax.files import read_arrays, write_atomically
from pagap_jax.processes import is_first


@dataclasses.dataclass(frozen=True)
class KeptMeasures:
    """A file for each step: an evaluation that was stopped measures only the others again."""

    folder: epath.Path

    def read(self, step: int) -> Measured | None:
        """What was measured of a step before; None where nothing was."""
        path = self.folder / f"{step}.npz"
        if not path.exists():
            return None
        arrays = read_arrays(path, "fields")
        fields = json.loads(str(arrays["fields"]))
        outcomes, shown = (
            {name.removeprefix(kind): arrays[name] for name in arrays if name.startswith(kind)}
            for kind in ("outcomes/", "shown/")
        )
        return Measured(fields, outcomes, shown)

    def write(self, step: int, measured: Measured) -> None:
        """Keeps what was measured of a step; by the one process that writes."""
        if not is_first():
            return
        content = io.BytesIO()
        arrays = {"fields": np.array(json.dumps(measured.fields))}
        arrays |= {f"outcomes/{name}": array for name, array in measured.outcomes.items()}
        arrays |= {f"shown/{name}": array for name, array in measured.shown.items()}
        np.savez(content, **arrays)  # type: ignore[arg-type]  # its stub takes allow_pickle first
        write_atomically(self.folder / f"{step}.npz", content.getvalue())
