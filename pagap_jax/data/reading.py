"""Reads token pairs row by row, as they are asked for; without TensorFlow.

A process of several asks for the rows of its own devices, and so reads and keeps no others.
"""

import os
from typing import Any

import numpy as np

from pagap_jax.data.stored import (
    LENGTHS_FILE,
    SCALAR_COLUMNS,
    TOKEN_COLUMNS,
    TokenPairs,
    read_metadata,
    take,
)
from pagap_jax.errors import DataError

_READ_CHUNK = 4096  # records parsed at a time: bounds memory beyond the arrays themselves


class StoredPairs:
    """One split of a data set.

    Attributes:
        prompt_length: P and response_length: R, what rows are padded to.
        prompt_lengths: int32[E], tokens of each prompt; known without reading any.
    """

    def __init__(self, directory: str | os.PathLike, split: str):
        """Opens it.

        Raises:
            DataError: no complete data set there, no such split, or a file is missing or cut.
        """
        metadata = read_metadata(directory)
        if split not in metadata["splits"]:
            raise DataError(
                f"{directory}: found splits {sorted(metadata['splits'])}, expected {split!r} among"
                " them"
            )
        self.prompt_length: int = metadata["prompt_length"]
        self.response_length: int = metadata["response_length"]
        self._directory, self._split = os.fspath(directory), split
        size = metadata["splits"][split]
        with np.load(os.path.join(self._directory, LENGTHS_FILE)) as lengths:
            self.prompt_lengths: np.ndarray = lengths[split]
        widths = dict.fromkeys(TOKEN_COLUMNS, self.response_length) | {"prompt": self.prompt_length}
        # Zeros take no memory until a row is put there.
        tokens = {name: np.zeros((size, width), np.int32) for name, width in widths.items()}
        scalars = {name: np.zeros(size, dtype) for name, dtype in SCALAR_COLUMNS.items()}
        self._columns = TokenPairs(**tokens, **scalars)
        self._is_read = np.zeros(size, bool)
        self._source: Any = None

    def __len__(self) -> int:
        """Number of pairs E."""
        return len(self._is_read)

    @property
    def num_read(self) -> int:
        """Rows that were read so far."""
        return int(np.sum(self._is_read))

    def rows(self, indices: np.ndarray) -> TokenPairs:
        """The pairs at `indices`, in that order.

        Raises:
            DataError: their bytes are spoilt.
        """
        missing = np.unique(indices[~self._is_read[indices]])
        for start in range(0, len(missing), _READ_CHUNK):
            self._read(missing[start : start + _READ_CHUNK])
        return take(self._columns, indices)

    def all(self) -> TokenPairs:
        """Every pair, in the order written."""
        self.rows(np.arange(len(self)))
        return self._columns

    def _read(self, rows: np.ndarray) -> None:
        try:
            if self._source is None:
                import tensorflow_datasets as tfds

                builder = tfds.builder_from_directory(self._directory)
                self._source = builder.as_data_source(self._split)
            examples = self._source.__getitems__(rows.tolist())
            for row, example in zip(rows, examples, strict=True):
                for name in TOKEN_COLUMNS:
                    getattr(self._columns, name)[row, : len(example[name])] = example[name]
                for name in SCALAR_COLUMNS:
                    getattr(self._columns, name)[row] = example[name]
        except Exception as error:  # array_record and TFDS raise what they like on spoilt bytes
            raise DataError(
                f"{self._directory}: split {self._split!r} can't be read: {error}"
            ) from error
        self._is_read[rows] = True


def read_token_pairs(directory: str | os.PathLike, split: str) -> TokenPairs:
    """Reads one split into padded columns, in the order written.

    Raises:
        DataError: as `StoredPairs`.
    """
    return StoredPairs(directory, split).all()
