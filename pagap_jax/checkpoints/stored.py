"""What a checkpoint holds, whatever its format: arrays under T5X's names, read slice by slice."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

Format = Literal["orbax", "t5x", "hf"]
Index = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array that isn't read yet.

    Attributes:
        shape, dtype: as they will be.
        read_slice: reads a part; one slice an axis.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read_slice: Callable[[Index], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> "StoredArray":
        """An array that is in memory."""
        return cls(array.shape, array.dtype, lambda index: np.asarray(array[index]))

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """All of it."""
        return self.read_slice((slice(None),) * len(self.shape))

    def transposed(self) -> "StoredArray":
        """Its axes in reverse."""
        return StoredArray(
            self.shape[::-1], self.dtype, lambda index: self.read_slice(index[::-1]).T
        )

    def layer(self, axis: int, i: int) -> "StoredArray":
        """Entry `i` along an axis, which is left out."""

        def read_slice(index: Index) -> np.ndarray:
            whole = (*index[:axis], slice(i, i + 1), *index[axis:])
            return np.squeeze(self.read_slice(whole), axis)

        shape = self.shape[:axis] + self.shape[axis + 1 :]
        return StoredArray(shape, self.dtype, read_slice)


@dataclasses.dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint that was opened and not read.

    Attributes:
        path: as messages name it.
        step: of the training run; None where the format knows none.
        params: by T5X's names, 'decoder/layers_0/mlp/wo/kernel', layers unstacked.
        optimizer: T5X's Adafactor, by 'PARAMETER/v', '/v_row', '/v_col', '/m'; empty where absent.
        activations: of the MLP, where the format tells: T5X's `mlp_activations`.
        scanned: whether layers are stored stacked.
    """

    path: str
    format: Format
    step: int | None
    params: Mapping[str, StoredArray]
    optimizer: Mapping[str, StoredArray] = dataclasses.field(default_factory=dict)
    activations: tuple[str, ...] | None = None
    scanned: bool = False

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(array.shape) for array in self.params.values())
