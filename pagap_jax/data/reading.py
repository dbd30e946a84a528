"""Reads token pairs row by row, as they are asked for; without TensorFlow.

For training: a process of several asks for the rows of its own devices, and so reads no others.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pagap_jax.data.stored import (
    LENGTHS_FILE,
    SCALAR_COLUMNS,
    TOKEN_COLUMNS,
    TokenPairs,
    read_metadata,
)
from pagap_jax.errors import DataError

_READ_CHUNK = 4096  # records parsed at a time: bounds memory beyond the arrays themselves
Example = dict[str, Any]  # a row's columns, tokens without their padding


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
        with np.load(os.path.join(self._directory, LENGTHS_FILE)) as lengths:
            self.prompt_lengths: np.ndarray = lengths[split]
        self._source: Any = None
        self._known: dict[int, Example] = {}

    def __len__(self) -> int:
        """Number of pairs E."""
        return len(self.prompt_lengths)

    def rows(self, indices: np.ndarray) -> TokenPairs:
        """The pairs at `indices`, in that order. They are kept: the next epoch has them again.

        Raises:
            DataError: their bytes are spoilt.
        """
        wanted = indices.tolist()
        missing = [row for row in dict.fromkeys(wanted) if row not in self._known]
        self._known.update(zip(missing, self._read(missing), strict=True))
        return self._padded(len(wanted), (self._known[row] for row in wanted))

    def all(self) -> TokenPairs:
        """Every pair, in the order written."""
        return self._padded(len(self), self._read(range(len(self))))

    def _read(self, rows: range | list[int]) -> Iterator[Example]:
        try:
            if self._source is None:
                import tensorflow_datasets as tfds

                builder = tfds.builder_from_directory(self._directory)
                self._source = builder.as_data_source(self._split)
            for start in range(0, len(rows), _READ_CHUNK):
                chunk = list(rows[start : start + _READ_CHUNK])
                for example in self._source.__getitems__(chunk):
                    yield {name: example[name] for name in (*TOKEN_COLUMNS, *SCALAR_COLUMNS)}
        except Exception as error:  # array_record and TFDS raise what they like on spoilt bytes
            raise DataError(
                f"{self._directory}: split {self._split!r} can't be read: {error}"
            ) from error

    def _padded(self, number: int, examples: Iterable[Example]) -> TokenPairs:
        widths = dict.fromkeys(TOKEN_COLUMNS, self.response_length) | {"prompt": self.prompt_length}
        columns: dict[str, Any] = {
            name: np.zeros((number, width), np.int32) for name, width in widths.items()
        }
        columns |= {name: np.zeros(number, dtype) for name, dtype in SCALAR_COLUMNS.items()}
        for row, example in enumerate(examples):
            for name in TOKEN_COLUMNS:
                columns[name][row, : len(example[name])] = example[name]
            for name in SCALAR_COLUMNS:
                columns[name][row] = example[name]
        return TokenPairs(**columns)


def read_token_pairs(directory: str | os.PathLike, split: str) -> TokenPairs:
    """Reads one split into padded columns, in the order written.

    Raises:
        DataError: as `StoredPairs`.
    """
    return StoredPairs(directory, split).all()
