"""Validation while a model trains: the curve that is kept, and the plateau that ends training."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import gin
from etils import epath

from pagap_jax.errors import ConfigError
from pagap_jax.files import read_json_lines, write_atomically
from pagap_jax.processes import is_first
from pagap_jax.ranges import Count, CountOrZero

Row = dict[str, float]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Plateau:
    """When a model is validated, and what ends its training.

    Attributes:
        period: steps from one validation to the next; 0 validates at the end alone.
        pairs: of the validation split at most, the same ones each time; None takes all.
        patience: validations in a row without a lower loss that end training; the best checkpoint
            is what is used. None trains to the end and uses the last one.
    """

    period: CountOrZero = 0
    pairs: Count | None = None
    patience: Count | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError where patience has nothing to count."""
        if self.patience is not None and not self.period:
            raise ConfigError(
                f"PATIENCE: found {self.patience} with VALIDATION_PERIOD {self.period}, expected"
                " None, or a period of 1 or more"
            )


class Validation:
    """The curve of one run; its whole state is the rows up to the step that the run is at.

    Each row holds step and loss (nats a pair), and what else was measured. The loss decides, not
    the accuracy: it moves with every pair, where accuracy moves with those that change sides.
    """

    def __init__(self, file: epath.Path, plateau: Plateau, measure: Callable[[Any], Row]):
        """Takes the curve's file, of which it reads what is there, and what measures parameters."""
        self._file = file
        self._plateau = plateau
        self._measure = measure
        self.rows: list[Row] = read_json_lines(file, "step", "loss")

    def resume(self, step: int) -> None:
        """Forgets what came after `step`: it will be made again."""
        self.rows = [row for row in self.rows if row["step"] <= step]
        self._write()

    def lacks(self, step: int) -> bool:
        """Whether `step` is to be validated and wasn't: it was saved while it should have been."""
        due = bool(self._plateau.period) and step > 0 and step % self._plateau.period == 0
        return due and all(row["step"] != step for row in self.rows)

    def after(self, step: int, params: Any) -> bool:
        """Validates where it is time to; whether these parameters are the best so far."""
        if not self._plateau.period or step % self._plateau.period:
            return False
        self.rows.append({"step": step, **self._measure(params)})
        self._write()
        return self.best_of([int(row["step"]) for row in self.rows]) == step

    def has_ended(self) -> bool:
        """Whether the loss has stopped falling."""
        if self._plateau.patience is None or not self.rows:
            return False
        best = self.best_of([int(row["step"]) for row in self.rows]) or 0
        return sum(row["step"] > best for row in self.rows) >= self._plateau.patience

    def best_of(self, steps: Sequence[int]) -> int | None:
        """That of some steps which was validated with the lowest loss, the first where equal.

        None where none was validated, or where the last checkpoint is used whatever its loss.
        """
        if self._plateau.patience is None:
            return None
        rows = [row for row in self.rows if row["step"] in steps and math.isfinite(row["loss"])]
        return int(min(rows, key=lambda row: row["loss"])["step"]) if rows else None

    def _write(self) -> None:
        if is_first():
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            write_atomically(self._file, text.encode())
