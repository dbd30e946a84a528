"""Layers that T5X stored stacked (`scan_layers`), as one entry a layer."""

import re
from collections.abc import Mapping

import numpy as np

from pagap_jax.checkpoints.stored import StoredArray
from pagap_jax.errors import DataError

LAYER_AXIS = 1  # T5X's `param_scan_axis`
# scalable_t5 calls the stack 'layers', Flaxformer by the name of what it is in.
_STACKED = re.compile(r"^(encoder|decoder)/(?:layers|encoder|decoder)/(.+)$")
# A table a layer in scalable_t5; T5 as published has one for all layers.
_POSITION_TABLE = re.compile(r"^(?:relpos_bias|relative_posemb)/rel_embedding$")


def unstacked(path: str, params: Mapping[str, StoredArray]) -> tuple[dict[str, StoredArray], bool]:
    """The parameters with a name a layer, and whether they were stacked.

    Raises:
        DataError: stacks of different heights, or layers with position tables of their own.
    """
    layers: dict[str, StoredArray] = {}
    heights: dict[str, int] = {}
    for key, array in params.items():
        match = _STACKED.match(key)
        if not match:
            layers[key] = array
            continue
        stack, name = match.groups()
        if len(array.shape) <= LAYER_AXIS:
            raise DataError(f"{path}: {key}: found shape {array.shape}, expected layers on axis 1")
        height = heights.setdefault(stack, array.shape[LAYER_AXIS])
        if array.shape[LAYER_AXIS] != height:
            raise DataError(
                f"{path}: {key}: found {array.shape[LAYER_AXIS]} layers, expected {height}"
            )
        if _POSITION_TABLE.match(name):
            layers[f"{stack}/relpos_bias/rel_embedding"] = _one_table(path, key, array)
            continue
        for i in range(height):
            layers[f"{stack}/layers_{i}/{name}"] = array.layer(LAYER_AXIS, i)
    return layers, bool(heights)


def _one_table(path: str, key: str, tables: StoredArray) -> StoredArray:
    arrays = tables.read()
    first = np.take(arrays, [0], LAYER_AXIS)
    if not np.array_equal(np.broadcast_to(first, arrays.shape), arrays):
        raise DataError(
            f"{path}: {key}: found position tables that differ from layer to layer, expected one"
            " for all: T5 shares it"
        )
    return tables.layer(LAYER_AXIS, 0)
