"""Orbax's checkpoints of arrays, ours and T5X's: a tree in `_METADATA`, zarr arrays beside it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from pagap_jax.checkpoints.stored import StoredArray, StoredCheckpoint
from pagap_jax.checkpoints.zarr_arrays import kvstore, open_arrays
from pagap_jax.errors import DataError

METADATA, OCDBT = "_METADATA", "manifest.ocdbt"
PARAMS, OPTIMIZER = "params", "optimizer"  # the trees of one step


def has_orbax_metadata(folder: epath.Path) -> bool:
    """Whether Orbax saved a tree there."""
    return (folder / METADATA).is_file()


def open_orbax(path: str, folder: epath.Path) -> StoredCheckpoint:
    """Opens one of our own: a folder with 'params', of a run's step or exported.

    Raises:
        DataError: it is damaged.
    """
    step = int(folder.name) if folder.name.isdigit() else None
    return StoredCheckpoint(path, "orbax", step, read_orbax_arrays(path, folder / PARAMS))


def read_orbax_arrays(
    path: str,
    folder: epath.Path,
    open_them: bool = True,
    wanted: Callable[[str], object] = lambda key: True,
) -> dict[str, StoredArray]:
    """Arrays of a tree that Orbax saved, by their names joined with '/'.

    Args:
        open_them: else only the names are right, and nothing but `_METADATA` is looked at.
        wanted: whether a name is; a tree that Orbax saved can name nodes without an array.
    """
    keys = [key for key in _keys(path, folder / METADATA) if wanted("/".join(key))]
    if not open_them:
        return {"/".join(key): StoredArray.of(np.zeros(())) for key in keys}
    in_one_store = (folder / OCDBT).is_file()
    specs, sizes = {}, {}
    stored = _stored_bytes(folder)
    for key in keys:
        name = ".".join(key)
        if in_one_store:
            store: dict[str, Any] = {"driver": "ocdbt", "base": kvstore(folder), "path": f"{name}/"}
        else:
            store = kvstore(folder / name)
        specs["/".join(key)] = {"kvstore": store}
        sizes["/".join(key)] = stored
    return open_arrays(path, specs, sizes)


def _keys(path: str, file: epath.Path) -> list[tuple[str, ...]]:
    try:
        tree = json.loads(file.read_bytes())["tree_metadata"]
        keys = [tuple(str(k["key"]) for k in entry["key_metadata"]) for entry in tree.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: {METADATA}: found no tree of arrays ({error!r:.80})") from error
    for key in keys:
        if not key or any(name in ("", ".", "..") or "/" in name or "\0" in name for name in key):
            raise DataError(f"{path}: {METADATA}: found the name {key}, expected names of arrays")
    return keys


def _stored_bytes(folder: epath.Path) -> int | None:
    if "://" in os.fspath(folder):
        return None
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
