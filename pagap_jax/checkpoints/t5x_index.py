"""T5X's `checkpoint` file: a msgpack map of what is where. Data only: no pickle, no code.

A leaf is an array (small ones stand in the file), a tensorstore spec with the path of a zarr folder
beside the file, or 'PLACEHOLDER://NAME', by which Orbax's older layout names such a folder.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import ml_dtypes
import msgpack
import numpy as np

from pagap_jax.errors import DataError

VERSIONS = (2, 3)  # the same layout; 3 since 2021
PLACEHOLDER = "PLACEHOLDER://"
_ARRAY, _SCALAR = 1, 3  # Flax's msgpack extensions; 2 is a complex number
_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in ("float32", "bfloat16", "float16", "float64", "int32", "int64", "uint32", "bool")
}


@dataclasses.dataclass(frozen=True)
class ZarrFolder:
    """A leaf that lies beside the index.

    Attributes:
        path: relative to the index, inside of its folder.
        constraints: what the index says of it: dtype and metadata, for tensorstore to compare.
    """

    path: str
    constraints: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Leaf = np.ndarray | ZarrFolder


def read_index(where: str, content: bytes) -> dict[str, Leaf]:
    """The leaves by their path, '/' between the names.

    Raises:
        DataError: it isn't such a file, or a leaf would lead out of the checkpoint's folder.
    """
    try:
        tree = msgpack.unpackb(content, ext_hook=_decode, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises what it likes on bytes that are none of its own
        raise DataError(f"{where}: found no msgpack index ({error}), expected T5X's") from error
    if not isinstance(tree, dict):
        raise DataError(f"{where}: found a {type(tree).__name__}, expected a map")
    return dict(_leaves(where, tree, ()))


def pack_index(tree: Mapping[str, Any]) -> bytes:
    """The file's content; arrays of the tree stand in it, specs are plain maps."""

    def encode(value: Any) -> msgpack.ExtType:
        array = np.asarray(value)
        data = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
        return msgpack.ExtType(_ARRAY, data)

    return msgpack.packb(tree, default=encode)


def _decode(code: int, data: bytes) -> np.ndarray:
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"msgpack extension {code}")
    shape, name, content = msgpack.unpackb(data, raw=False)
    dtype = _DTYPES[name]
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for {name} {shape}")
    return np.frombuffer(content, dtype).reshape(shape)


def _leaves(where: str, node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Leaf]]:
    key = "/".join(path)
    if isinstance(node, np.ndarray):
        yield key, node
    elif isinstance(node, bool | int | float):
        yield key, np.asarray(node)
    elif isinstance(node, str) and node.startswith(PLACEHOLDER):
        yield key, ZarrFolder(_inside(where, key, node.removeprefix(PLACEHOLDER)))
    elif isinstance(node, dict) and "driver" in node:
        yield key, _zarr_folder(where, key, node)
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(where, child, (*path, str(name)))
    elif node is not None:
        raise DataError(f"{where}: {key}: found {node!r:.60}, expected an array or its place")


def _zarr_folder(where: str, key: str, spec: Mapping[str, Any]) -> ZarrFolder:
    if spec["driver"] == "cast":  # how T5X wrote it, not what it wrote
        spec = spec.get("base", {})
    store, metadata = spec.get("kvstore"), spec.get("metadata", {})
    if (
        spec.get("driver") != "zarr"
        or not isinstance(store, dict)
        or not isinstance(store.get("path"), str)
        or not isinstance(metadata, dict)
    ):
        raise DataError(f"{where}: {key}: found {dict(spec)!r:.80}, expected a zarr array's place")
    constraints: dict[str, Any] = {}
    if "dtype" in spec:
        constraints["dtype"] = spec["dtype"]
    known = {name: metadata[name] for name in ("shape", "chunks") if name in metadata}
    if known:
        constraints["metadata"] = known
    # T5X names a bucket's folder by all of its path; it always lies beside the index.
    path = store["path"]
    if "bucket" in store or store.get("driver") == "gcs":
        path = PurePosixPath(path).name
    return ZarrFolder(_inside(where, key, path), constraints)


def _inside(where: str, key: str, path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise DataError(
            f"{where}: {key}: found the path {path!r}, expected one inside of the checkpoint"
        )
    return PurePosixPath(path).as_posix()
