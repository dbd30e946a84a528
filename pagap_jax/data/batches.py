"""Which examples are in a batch: a function of (seed, step), whatever the number of processes.

Nothing is carried from step to step, so that resuming costs the same at any step and a run that
was killed sees the batches it would have seen.
"""

import functools

import numpy as np

from pagap_jax.errors import DataError

TILE = 128  # tokens; the width of what a TPU computes with
Columns = dict[str, np.ndarray]


def batch_indices(
    num_examples: int, batch_size: int, step: int, seed: int, shuffle: bool = True
) -> np.ndarray:
    """Indices of the examples in the batch of `step`, int64[batch_size].

    Batches are cut from the epochs laid end to end, so they run across an epoch's border and no
    example is left out when the batch doesn't divide the data set.

    Args:
        num_examples: in the data set, E.
        batch_size: of all processes together.
        step: from 0.
        seed: not negative.
        shuffle: an own permutation each epoch; otherwise the recorded order, which then repeats.

    Raises:
        DataError: the data set is smaller than one batch.
    """
    if num_examples < batch_size:
        raise DataError(
            f"data set: found {num_examples} examples, expected at least one batch of {batch_size}"
        )
    first = int(step) * batch_size
    positions = np.arange(first, first + batch_size, dtype=np.int64)
    if not shuffle:
        return positions % num_examples
    # At most two epochs: a batch isn't longer than the data set.
    epochs = range(first // num_examples, (first + batch_size - 1) // num_examples + 1)
    orders = np.concatenate([_permutation(num_examples, seed, epoch) for epoch in epochs])
    return orders[positions - epochs[0] * num_examples]


@functools.lru_cache(maxsize=8)  # this epoch's and the next's, of the few data sets a job reads
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    permutation = generator.permutation(num_examples).astype(np.int64)
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
