"""Reads token pairs row by row, as they are asked for; without TensorFlow.

A process of several asks for the rows of its own devices, and so reads no others.
"""

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pagap_jax.data.batches import Columns, length_bucket
from pagap_jax.data.stored import (
    PROMPT_ID,
    ROWS_FILE,
    SCALAR_COLUMNS,
    TOKEN_COLUMNS,
    TokenPairs,
    rows_key,
)
from pagap_jax.data.stored_metadata import local_folder, read_metadata
from pagap_jax.errors import DataError, PagapError

_READ_CHUNK = 4096  # records asked for at a time


class _Split:
    """A split's examples by number, for all of its columns.

    What was read is `kept`, without padding: the next column and the next epoch have it again.
    """

    def __init__(self, directory: str, name: str):
        self._directory, self._name = directory, name
        self._source: Any = None
        self.kept: dict[int, dict[str, Any]] = {}

    def examples(self, numbers: list[int]) -> Iterator[dict[str, Any]]:
        missing = [number for number in dict.fromkeys(numbers) if number not in self.kept]
        try:
            for start in range(0, len(missing), _READ_CHUNK):
                chunk = missing[start : start + _READ_CHUNK]
                for number, found in zip(chunk, self._opened().__getitems__(chunk), strict=True):
                    self.kept[number] = {name: found[name] for name in TOKEN_COLUMNS}
        except PagapError:  # asked to stop in the middle of it, say
            raise
        except Exception as error:  # array_record and TFDS raise what they like on spoilt bytes
            raise DataError(
                f"{self._directory}: split {self._name!r} can't be read: {error}"
            ) from error
        return (self.kept[number] for number in numbers)

    def _opened(self) -> Any:
        if self._source is None:
            import tensorflow_datasets as tfds

            builder = tfds.builder_from_directory(self._directory)
            self._source = builder.as_data_source(self._name)
        return self._source


@dataclasses.dataclass(frozen=True)
class StoredColumn:
    """A column of tokens, int32[E, width], of which rows are read when they are asked for.

    Indexed as an array is: a slice is a view, which reads nothing; rows by number are read.

    Attributes:
        numbers: int[E], of the rows in the split.
        lengths: int32[E], tokens of each row; known without reading any.
        width: in tokens, what rows are padded to.
    """

    split: _Split
    name: str
    numbers: np.ndarray
    lengths: np.ndarray
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.numbers), self.width

    def __len__(self) -> int:
        return len(self.numbers)

    def view(self, rows: slice | np.ndarray) -> "StoredColumn":
        """Those rows alone; none is read yet."""
        numbers, lengths = self.numbers[rows], self.lengths[rows]
        return dataclasses.replace(self, numbers=numbers, lengths=lengths)

    def __getitem__(self, rows: Any) -> Any:
        """Raises DataError where the rows' bytes are spoilt."""
        if isinstance(rows, slice):
            return self.view(rows)
        numbers = self.numbers[rows].tolist()
        tokens = np.zeros((len(numbers), self.width), np.int32)
        for row, example in enumerate(self.split.examples(numbers)):
            tokens[row, : len(example[self.name])] = example[self.name]
        return tokens


@dataclasses.dataclass(frozen=True)
class StoredPairs:
    """One split of a data set: `TokenPairs` whose tokens are read when they are asked for."""

    prompt: StoredColumn
    response_a: StoredColumn
    response_b: StoredColumn
    choice: np.ndarray
    true_choice: np.ndarray
    probability: np.ndarray
    step: np.ndarray
    prompt_id: np.ndarray  # int64[E]: equal where the prompt is; known without reading any

    def __len__(self) -> int:
        """Number of pairs E."""
        return len(self.prompt)

    def view(self, rows: slice | np.ndarray) -> "StoredPairs":
        """Those pairs alone; none is read yet."""
        tokens = {name: getattr(self, name).view(rows) for name in TOKEN_COLUMNS}
        known = {name: getattr(self, name)[rows] for name in (*SCALAR_COLUMNS, PROMPT_ID)}
        return StoredPairs(**tokens, **known)

    def whole(self) -> TokenPairs:
        """All of them, read."""
        every = np.arange(len(self))
        return TokenPairs(**{name: column[every] for name, column in columns(self).items()})


Column = np.ndarray | StoredColumn
Pairs = StoredPairs | TokenPairs  # of both, columns are indexed alike


def open_token_pairs(directory: str | os.PathLike, split: str) -> StoredPairs:
    """One split of a data set, of which no row is read yet.

    Raises:
        DataError: no complete data set there, no such split, or a file is missing or cut.
    """
    metadata = read_metadata(directory)
    if split not in metadata["splits"]:
        raise DataError(
            f"{directory}: found splits {sorted(metadata['splits'])}, expected {split!r} among them"
        )
    folder = local_folder(directory)
    known = _read_known(os.path.join(folder, ROWS_FILE), split)
    examples, numbers = _Split(os.fspath(folder), split), np.arange(metadata["splits"][split])
    widths = dict.fromkeys(TOKEN_COLUMNS, metadata["response_length"])
    widths["prompt"] = metadata["prompt_length"]
    tokens: dict[str, Any] = {
        name: StoredColumn(examples, name, numbers, known.pop(name), width)
        for name, width in widths.items()
    }
    return StoredPairs(**tokens, **known)


def _read_known(path: str, split: str) -> dict[str, Any]:
    names = (*TOKEN_COLUMNS, *SCALAR_COLUMNS, PROMPT_ID)
    try:
        with np.load(path) as file:
            return {name: file[rows_key(split, name)] for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: can't be read: {error}") from error


def read_token_pairs(directory: str | os.PathLike, split: str) -> TokenPairs:
    """Reads one split into padded columns, in the order written.

    Raises:
        DataError: as `open_token_pairs`, or bytes are spoilt.
    """
    return open_token_pairs(directory, split).whole()


def columns(pairs: Pairs) -> dict[str, Any]:
    """Pairs as a dictionary of columns, which is what a jitted function takes.

    Which prompt a pair has isn't among them: nothing is computed from it.
    """
    return {name: getattr(pairs, name) for name in (*TOKEN_COLUMNS, *SCALAR_COLUMNS)}


def token_lengths(column: Column, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Tokens of each row, or of some; of a stored column none is read for it."""
    if isinstance(column, StoredColumn):
        return column.lengths[rows]
    return np.count_nonzero(column[rows], axis=1)


def read_batch(from_columns: Mapping[str, Column], rows: np.ndarray, mine: np.ndarray) -> Columns:
    """The columns' rows, prompts cut to the bucket of their longest.

    Args:
        rows: int[B], which, in the batch's order.
        mine: bool[B], those that this process's devices hold. The others aren't read: they are
            zeros, which `put_batch` puts nowhere.
    """
    batch = {}
    for name, column in from_columns.items():
        read = column[rows[mine]]
        batch[name] = np.zeros((len(rows), *read.shape[1:]), read.dtype)
        batch[name][mine] = read
    prompt = from_columns["prompt"]
    longest = int(np.max(token_lengths(prompt, rows)))
    batch["prompt"] = batch["prompt"][:, : length_bucket(longest, prompt.shape[1])]
    return batch
