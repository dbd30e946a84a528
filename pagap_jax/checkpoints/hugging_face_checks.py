"""Whether config.json and the tensors of a Hugging Face checkpoint say the same."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pagap_jax.checkpoints.hugging_face_names import COPIES, LM_HEAD, TABLE
from pagap_jax.checkpoints.stored import StoredArray
from pagap_jax.errors import DataError

CONFIG = "config.json"
_CHUNK_BYTES = 64 * 2**20  # tables are compared in parts: those of large models fill gigabytes
_FIRST = "encoder.block.0.layer"
_POSITIONS = f"{_FIRST}.0.SelfAttention.relative_attention_bias.weight"
_QUERY = f"{_FIRST}.0.SelfAttention.q.weight"
_MLP = tuple(f"{_FIRST}.1.DenseReluDense.{name}.weight" for name in ("wi", "wi_0"))
# What this T5 computes with, and no tensor tells.
_FIXED = {"relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6}


def check_settings(
    path: str, config: Mapping[str, Any], tensors: Mapping[str, StoredArray]
) -> None:
    """Compares the sizes that config.json gives with those that the tensors have.

    Raises:
        DataError: two differ; names both.
    """
    layers = config.get("num_layers")
    given = {"num_decoder_layers": layers} | {k: v for k, v in config.items() if v is not None}
    for setting, tensor, size in _sizes(tensors):
        if given.get(setting) is not None and given[setting] != size:
            raise DataError(
                f"{path}: {CONFIG} says {setting} {given[setting]!r}, {tensor} has {size}"
            )
    for setting, value in _FIXED.items():
        if given.get(setting, value) != value:
            raise DataError(
                f"{path}: {CONFIG}: {setting}: found {given[setting]!r}, expected {value}: this T5"
                " has no other"
            )


def check_copies(path: str, is_tied: bool, tensors: Mapping[str, StoredArray]) -> str:
    """The name of the embedding table. What config.json or T5 makes its copy has the same bits.

    Raises:
        DataError: a copy differs, or there is no table.
    """
    table = next((name for name in (TABLE, *COPIES) if name in tensors), None)
    if table is None:
        raise DataError(f"{path}: found no {TABLE}, and no {COPIES[0]} in its place")
    copies = (*COPIES, *([LM_HEAD] if is_tied else []))
    for copy in copies:
        if copy in tensors and not _same_bits(tensors[copy], tensors[table]):
            why = f"{CONFIG} says tie_word_embeddings: true" if copy == LM_HEAD else "T5 shares it"
            raise DataError(f"{path}: {copy} and {table} differ, expected one table: {why}")
    return table


def _sizes(tensors: Mapping[str, StoredArray]) -> Iterator[tuple[str, str, int]]:
    """Settings, a tensor (or tensors) that tells of each, and what it tells."""
    shapes = {name: x.shape for name, x in tensors.items() if len(x.shape) == 2}
    for name in (TABLE, *COPIES):
        if name in shapes:
            yield "vocab_size", name, shapes[name][0]
            yield "d_model", name, shapes[name][1]
    if _POSITIONS in shapes:
        buckets, heads = shapes[_POSITIONS]
        yield "relative_attention_num_buckets", _POSITIONS, buckets
        yield "num_heads", _POSITIONS, heads
        if _QUERY in shapes and heads:
            yield "d_kv", f"{_QUERY} with {heads} heads", shapes[_QUERY][0] // heads
    for name in _MLP:
        if name in shapes:
            yield "d_ff", name, shapes[name][0]
    for setting, stack in (("num_layers", "encoder"), ("num_decoder_layers", "decoder")):
        blocks = {m[1] for name in tensors if (m := re.match(rf"{stack}\.block\.(\d+)\.", name))}
        yield setting, f"{stack}.block", len(blocks)


def _same_bits(one: StoredArray, other: StoredArray) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype) or len(one.shape) != 2:
        return False
    rows = max(1, _CHUNK_BYTES // max(1, one.shape[1] * one.dtype.itemsize))
    size = one.shape[0]
    parts = [(slice(i, min(i + rows, size)), slice(None)) for i in range(0, size, rows)]
    return all(
        np.array_equal(_bits(one.read_slice(part)), _bits(other.read_slice(part))) for part in parts
    )


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8)
