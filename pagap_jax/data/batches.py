"""Which examples are in a batch: a function of (seed, step), whatever the number of processes.

Nothing is carried from step to step, so that resuming costs the same at any step and a run that
was killed sees the batches it would have seen.
"""

import dataclasses
import functools
from typing import Literal

import gin
import numpy as np

from pagap_jax.errors import ConfigError, DataError
from pagap_jax.ranges import Count
from pagap_jax.streams import Purpose, generator_for

TILE = 128  # tokens; the width of what a TPU computes with
Columns = dict[str, np.ndarray]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class DataOrder:
    """In which order a data set's pairs come into batches; it repeats epoch by epoch.

    Attributes:
        order: 'recorded' is the data set's own (App. F), 'shuffled' a permutation an epoch.
        block: shuffles within blocks of so many batches, which keep their place (App. G, Fig. 13:
            4 and 500); None shuffles all of the data set.
        unit: what is shuffled: single 'pairs', or whole 'batches' of the recorded order (Fig. 3
            draws those, §5.1 speaks of examples).
    """

    order: Literal["shuffled", "recorded"] = "shuffled"
    block: Count | None = None
    unit: Literal["pairs", "batches"] = "pairs"

    def __post_init__(self) -> None:
        """Raises ConfigError for a block of an order that has none."""
        if self.block is not None and self.order == "recorded":
            raise ConfigError(
                f"SHUFFLE_BLOCK: found {self.block} with DATA_ORDER {self.order!r}, expected None,"
                " or 'shuffled'"
            )

    @property
    def text(self) -> str:
        """For rows and captions: 'shuffled in blocks of 4 batches'."""
        if self.order == "recorded":
            return "recorded"
        text = "shuffled" if self.unit == "pairs" else "whole batches shuffled"
        return text if self.block is None else f"{text} in blocks of {self.block} batches"

    def rows(self, num_examples: int, batch_size: int, step: int, seed: int) -> np.ndarray:
        """Row numbers of the batch of `step`, int64[batch_size]: a function of (seed, step).

        Batches are cut from the epochs laid end to end, so they run across an epoch's border and
        no example is left out when the batch doesn't divide the data set.

        Args:
            num_examples: in the data set, E.
            batch_size: of all processes together.
            step: from 0.
            seed: not negative.

        Raises:
            DataError: the data set is smaller than one batch.
        """
        if num_examples < batch_size:
            raise DataError(
                f"BATCH_SIZE: found {batch_size}, expected {num_examples:,} at most: as many pairs"
                " as the split of the data holds"
            )
        if self.order == "recorded":
            return _recorded(num_examples, batch_size, step)
        if self.unit == "batches":
            batches = -(-num_examples // batch_size)
            epoch, place = divmod(int(step), batches)
            number = _permutation(batches, seed, epoch, self.block)[place]
            return _recorded(num_examples, batch_size, epoch * batches + int(number))
        first = int(step) * batch_size
        block = self.block and self.block * batch_size
        # At most two epochs: a batch isn't longer than the data set.
        epochs = range(first // num_examples, (first + batch_size - 1) // num_examples + 1)
        orders = np.concatenate([_permutation(num_examples, seed, e, block) for e in epochs])
        start = first - epochs[0] * num_examples
        return orders[start : start + batch_size].copy()


SHUFFLED = DataOrder("shuffled", None, "pairs")  # in full: gin fills in what is left out


def _recorded(num_examples: int, batch_size: int, step: int) -> np.ndarray:
    first = int(step) * batch_size
    return np.arange(first, first + batch_size, dtype=np.int64) % num_examples


@functools.lru_cache(maxsize=8)  # this epoch's and the next's, of the few data sets a job reads
def _permutation(size: int, seed: int, epoch: int, block: int | None) -> np.ndarray:
    """A permutation of range(size); with a block it moves nothing out of its block."""
    generator = generator_for(seed, Purpose.BATCH_ORDER, epoch)
    starts = range(0, size, block or size)
    parts = [start + generator.permutation(min(block or size, size - start)) for start in starts]
    permutation = np.concatenate(parts).astype(np.int64)
    permutation.setflags(write=False)
    return permutation


def length_bucket(length: int, maximum: int) -> int:
    """The smallest of a few lengths up to `maximum` that has room for `length`.

    They are the quarters of the maximum, rounded up to whole tiles of a TPU; each is a program of
    its own to compile.
    """
    quarters = (whole_tiles(-(-maximum * n // 4)) for n in (1, 2, 3, 4))
    return min(maximum, next(n for n in quarters if n >= length))


def whole_tiles(length: int) -> int:
    """A length in tokens, rounded up to whole tiles."""
    return -(-length // TILE) * TILE
