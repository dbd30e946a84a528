"""Zarr arrays in folders, buckets and OCDBT stores, opened by tensorstore and distrusted.

T5X keeps an array a folder, Orbax all of them in one OCDBT store; both are zarr version 2.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorstore as ts
from etils import epath

from pagap_jax.checkpoints.stored import Index, StoredArray
from pagap_jax.errors import DataError

# gzip packs at most 1032 to 1, zstd's worst case on weights is far below: more than this is a shape
# that somebody wrote to make us allocate it.
MAX_COMPRESSION = 1100


def kvstore(folder: epath.PathLike) -> dict[str, Any]:
    """tensorstore's name for a folder, here or in a Google bucket."""
    text = os.fspath(folder).rstrip("/") + "/"
    if text.startswith("gs://"):
        bucket, _, path = text.removeprefix("gs://").partition("/")
        return {"driver": "gcs", "bucket": bucket, "path": path}
    return {"driver": "file", "path": text}


def open_arrays(
    path: str, specs: Mapping[str, dict[str, Any]], stored_bytes: Mapping[str, int | None]
) -> dict[str, StoredArray]:
    """Opens zarr arrays side by side; nothing of them is read.

    Args:
        path: of the checkpoint, for messages.
        specs: tensorstore's specs by key; what they say of the metadata must hold.
        stored_bytes: bytes that an array takes on disk; None where that isn't known.

    Raises:
        DataError: an array is missing, damaged, of another shape than its spec, or claims a size
            that its bytes can't hold.
    """
    context = ts.Context({"file_io_concurrency": {"limit": 32}})
    futures = {
        key: ts.open(spec, read=True, open=True, context=context)
        for key, spec in _as_specs(path, specs).items()
    }
    arrays = {}
    for key, future in futures.items():
        try:
            store = future.result()
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(f"{path}: {key}: {_first_line(error)}") from error
        arrays[key] = _stored_array(path, key, store)
        _check_size(path, key, store, stored_bytes.get(key))
    return arrays


def write_array(folder: epath.PathLike, array: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Writes a zarr array in a folder of its own, as T5X does."""
    spec = {
        "driver": "zarr",
        "dtype": array.dtype.name,
        "kvstore": kvstore(folder),
        "metadata": dict(metadata),
    }
    ts.open(ts.Spec(spec), create=True).result().write(array).result()


def _as_specs(path: str, specs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """tensorstore's own specs; it refuses what makes none."""
    made = {}
    for key, spec in specs.items():
        try:
            # A missing chunk would read as zeros.
            made[key] = ts.Spec({"driver": "zarr", "fill_missing_data_reads": False, **spec})
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: {key}: {_first_line(error)}") from error
    return made


def _stored_array(path: str, key: str, store: Any) -> StoredArray:
    def read_slice(index: Index) -> np.ndarray:
        try:
            return store[index].read().result() if index else store.read().result()
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(f"{path}: {key}: {_first_line(error)}") from error

    return StoredArray(tuple(store.shape), store.dtype.numpy_dtype, read_slice)


def _check_size(path: str, key: str, store: Any, stored: int | None) -> None:
    chunk = tuple(store.chunk_layout.read_chunk.shape or ())  # None for a number
    chunks = math.prod(-(-size // part) for size, part in zip(store.shape, chunk, strict=True))
    declared = chunks * math.prod(chunk) * store.dtype.numpy_dtype.itemsize
    if stored is not None and declared > MAX_COMPRESSION * max(stored, 1):
        raise DataError(
            f"{path}: {key}: found a shape of {tuple(store.shape)} ({declared:,} bytes), expected"
            f" one that the {stored:,} bytes stored can hold"
        )


def _first_line(error: BaseException) -> str:
    text = str(error).split(" [")[0].splitlines()
    return text[0] if text else type(error).__name__
