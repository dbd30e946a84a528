"""T5X's checkpoints: a msgpack index and a zarr folder a parameter, beside it or in Orbax's layout.

CHECKPOINT/checkpoint        index: version, optimizer/target/PARAMETER, optimizer/state/...
CHECKPOINT/target.PARAMETER/ zarr; its names joined by dots
CHECKPOINT/state.param_states.PARAMETER.v/ the same of a second moment that isn't factored
CHECKPOINT/state/            the same one level down where T5X saved through Orbax
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from pagap_jax.checkpoints.orbax import has_orbax_metadata, read_orbax_arrays
from pagap_jax.checkpoints.stored import StoredArray, StoredCheckpoint
from pagap_jax.checkpoints.t5x_index import VERSIONS, ZarrFolder, pack_index, read_index
from pagap_jax.checkpoints.unstacking import unstacked
from pagap_jax.checkpoints.zarr_arrays import kvstore, open_arrays, write_array
from pagap_jax.errors import DataError

INDEX = "checkpoint"
CHUNK_BYTES = 64 * 2**20  # T5X's: larger arrays are cut, so that processes can share the reading
MOMENTS = ("m", "v", "v_col", "v_row")
NO_MOMENT = StoredArray.of(np.zeros(1, np.float32))  # T5X's place holder
_TARGET = re.compile(r"^(?:optimizer/)?target/(.+)$")
_MOMENT = re.compile(r"^(?:optimizer/)?state/param_states/(.+/(?:m|v|v_row|v_col))$")
_STEP = ("optimizer/state/step", "state/step", "step")


def find_t5x(folder: epath.Path) -> epath.Path | None:
    """The folder with the index or with Orbax's metadata; None where it's no T5X checkpoint.

    Of a run's folder that of its last `checkpoint_STEP`.
    """
    for candidate in (folder, folder / "state"):
        if (candidate / INDEX).is_file() or _is_t5x_tree(candidate):
            return candidate
    steps = {
        int(child.name.removeprefix("checkpoint_")): child
        for child in (folder.iterdir() if folder.is_dir() else ())
        if re.fullmatch(r"checkpoint_\d+", child.name)
    }
    return find_t5x(steps[max(steps)]) if steps else None


def open_t5x(path: str, folder: epath.Path) -> StoredCheckpoint:
    """Opens what `find_t5x` found.

    Raises:
        DataError: the index or an array is damaged, missing, or not what the index says.
    """
    if (folder / INDEX).is_file():
        leaves = _read_leaves(path, folder)
    else:
        leaves = read_orbax_arrays(path, folder)
    params = {m[1]: array for key, array in leaves.items() if (m := _TARGET.match(key))}
    if not params:
        raise DataError(f"{path}: found no parameters ('target') in {INDEX!r}")
    step = next((leaves[key] for key in _STEP if key in leaves), None)
    layers, scanned = unstacked(path, params)
    return StoredCheckpoint(
        path=path,
        format="t5x",
        step=None if step is None else int(step.read()),
        params=layers,
        # Stacked moments are of stacked parameters: they belong to no layer alone.
        optimizer={}
        if scanned
        else {m[1]: array for key, array in leaves.items() if (m := _MOMENT.match(key))},
        scanned=scanned,
    )


def write_t5x(
    folder: epath.PathLike,
    params: Mapping[str, StoredArray],
    step: int,
    optimizer: Mapping[str, StoredArray] | None = None,
) -> None:
    """Writes parameters and step in T5X's own layout; the index last.

    Args:
        optimizer: Adafactor's state, by 'PARAMETER/v', '/v_row', '/v_col', '/m'; one that isn't
            there is written empty. None writes no `param_states`: T5X reads that for inference.
    """
    folder = epath.Path(folder)
    specs = {key: _write(folder, f"target/{key}", array) for key, array in params.items()}
    state: dict[str, Any] = {"step": np.asarray(step, np.int32)}
    if optimizer is not None:
        moments: dict[str, Any] = {}
        for name in (f"{key}/{moment}" for key in params for moment in MOMENTS):
            array = optimizer.get(name, NO_MOMENT)
            # T5X doesn't shard factored moments, and what isn't sharded stands in its index.
            alone = name.endswith(("/v", "/m")) and array.shape != NO_MOMENT.shape
            moments[name] = (
                _write(folder, f"state/param_states/{name}", array)
                if alone
                else np.array(array.read())
            )
        state["param_states"] = traverse_util.unflatten_dict(moments, sep="/")
    target = traverse_util.unflatten_dict(specs, sep="/")
    index = {"version": VERSIONS[-1], "optimizer": {"target": target, "state": state}}
    (folder / INDEX).write_bytes(pack_index(index))


def _write(folder: epath.Path, key: str, array: StoredArray) -> dict[str, Any]:
    """Writes a folder of an array; what the index says of it."""
    name = key.replace("/", ".")
    metadata = {
        "shape": list(array.shape),
        "chunks": _chunks(array.shape, array.dtype.itemsize),
        "compressor": {"id": "gzip", "level": 1},
    }
    write_array(folder / name, array.read(), metadata)
    return {
        "driver": "zarr",
        "dtype": array.dtype.name,
        "kvstore": {"driver": "file", "path": f"{name}/"},
        "metadata": metadata,
    }


def _is_t5x_tree(folder: epath.Path) -> bool:
    return has_orbax_metadata(folder) and any(
        _TARGET.match(key) for key in read_orbax_arrays(os.fspath(folder), folder, open_them=False)
    )


def _read_leaves(path: str, folder: epath.Path) -> dict[str, StoredArray]:
    leaves = read_index(f"{path}: {INDEX}", (folder / INDEX).read_bytes())
    version = leaves.pop("version", None)
    if isinstance(version, np.ndarray) and int(version) not in VERSIONS:
        raise DataError(f"{path}: {INDEX}: found version {version}, expected one of {VERSIONS}")
    here = {k: StoredArray.of(leaf) for k, leaf in leaves.items() if isinstance(leaf, np.ndarray)}
    beside = {key: leaf for key, leaf in leaves.items() if isinstance(leaf, ZarrFolder)}
    specs = {
        key: {**leaf.constraints, "kvstore": kvstore(folder / leaf.path)}
        for key, leaf in beside.items()
    }
    sizes = {key: _size(path, key, folder / leaf.path) for key, leaf in beside.items()}
    return here | open_arrays(path, specs, sizes)


def _size(path: str, key: str, folder: epath.Path) -> int | None:
    """Bytes of a zarr folder; None in a bucket, where each look is a request."""
    if "://" in os.fspath(folder):
        return None
    if not Path(folder).is_dir():
        raise DataError(f"{path}: {key}: no folder {folder.name}")
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def _chunks(shape: tuple[int, ...], itemsize: int) -> list[int]:
    """The whole array, or as many of its rows as make up a chunk and divide it evenly."""
    if not shape:
        return []
    row = max(1, math.prod(shape[1:]) * itemsize)
    wanted = max(1, CHUNK_BYTES // row)
    rows = next(n for n in range(min(wanted, shape[0]), 0, -1) if shape[0] % n == 0)
    return [rows, *shape[1:]]
