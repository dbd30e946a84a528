"""How the attention kernels cut their work: blocks of queries, chunks of keys, groups of heads.

Position biases are functions of the distance. One skewed table a head (`skewed`) holds those of a
block of queries to all keys around it, as rows: each chunk of keys reads an aligned slice.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Float

from pagap_jax.array_types import AnyArray, Array

LANES = 128  # width of the chip's vectors


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How the work is cut.

    Attributes:
        queries: of a grid step; a power of two.
        keys: whose logits are worked on at once.
        held: keys whose logits are held at once; beyond them the maximum is a running one.
        far: distance from which on position biases are all the same.
        lanes: width of the heads of a grid step.
    """

    queries: int = 256
    keys: int = 256
    held: int = 1024
    far: int = 128
    lanes: int = LANES

    @property
    def table_rows(self) -> int:
        """Rows of a skewed table: a chunk of keys at each end is too far to differ."""
        return 2 * (self.keys + self.far) + self.queries

    def bytes_on_chip(self, num_keys: int, head_dim: int, itemsize: int) -> int:
        """What the backward kernel's blocks and scratch take, two of each block that changes."""
        width = max(head_dim, self.lanes)
        tables = 2 * (width // head_dim) * self.table_rows * self.queries * 4
        keys = 8 * num_keys * width * itemsize  # keys, values and their gradients
        rows = 8 * self.queries * width * itemsize  # queries, results and their gradients
        scratch = num_keys * (4 * self.queries + width * itemsize + 2 * 4 * width)
        return tables + keys + rows + scratch


def skewed(
    by_distance: Float[Array, "H distances"], blocks: Blocks
) -> Float[Array, "H rows queries"]:
    """Biases as the kernels read them: row i, query r has the distance i - r, up to a constant.

    Args:
        by_distance: of key - query from -(keys + far) - queries + 1 to queries + far + keys - 1.
    """
    table, width = by_distance[:, :, None], 1
    while width < blocks.queries:
        table = jnp.concatenate([table[:, width:], table[:, :-width]], axis=2)
        width *= 2
    return table


def distances(blocks: Blocks) -> range:
    """Distances key - query of `skewed`'s argument."""
    return range(
        1 - blocks.keys - blocks.far - blocks.queries, blocks.queries + blocks.far + blocks.keys
    )


class Call:
    """Sizes and blocks that both kernels share."""

    def __init__(self, queries: Any, keys: Any, table: Any, head_dim: int, blocks: Blocks):
        batch, num_queries, joined = queries.shape
        self.num_keys, self.dtype = keys.shape[1], queries.dtype
        self.head_dim, self.blocks, self.biased = head_dim, blocks, table is not None
        self.width = group_width(joined, head_dim, blocks.lanes)
        self.heads = self.width // head_dim
        groups, rows = joined // self.width, blocks.queries
        self.grid = (groups, batch, num_queries // rows)
        self.rows = pl.BlockSpec((1, rows, self.width), lambda h, b, i: (b, i, h))
        self.columns = pl.BlockSpec((1, self.num_keys, self.width), lambda h, b, i: (b, 0, h))
        self.key_bias = pl.BlockSpec((1, 1, self.num_keys), lambda h, b, i: (b, 0, 0))
        self.sums = pl.BlockSpec((1, 1, self.heads, rows), lambda h, b, i: (b, h, 0, i))
        self.sums_shape = jax.ShapeDtypeStruct(
            (batch, groups, self.heads, num_queries), jnp.float32
        )
        self.table_shape = (self.heads, blocks.table_rows, rows)
        self.distances = blocks.table_rows + rows
        # It stays for all prompts of a group of heads: a second buffer would never be used.
        self.table = pl.BlockSpec(
            self.table_shape, lambda h, b, i: (h, 0, 0), pipeline_mode=pl.Buffered(1)
        )
        self.by_distance = pl.BlockSpec((self.heads, 1, self.distances), lambda h, b, i: (h, 0, 0))
        # Queries, keys, values, and biases by key.
        self.inputs = [self.rows, self.columns, self.columns, self.key_bias]
        self.pairs = batch * joined // head_dim * num_queries * self.num_keys

    def like(self, x: AnyArray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    def cost(self, products: int, arrays: int) -> pl.CostEstimate:
        """What the compiler plans with, and `aot/flops.py` counts: padding of heads left out."""
        moved = arrays * self.pairs // self.num_keys * self.head_dim * self.dtype.itemsize
        return pl.CostEstimate(2 * products * self.pairs * self.head_dim, self.pairs, moved)

    def rows_of(self, head: int) -> slice:
        """A head's rows of keys or values that are transposed."""
        return slice(head * self.head_dim, (head + 1) * self.head_dim)

    def logits(self, head, first, queries, k_ref, mask, table_ref) -> AnyArray:
        """[keys, queries] of one chunk of keys; `queries` of other heads are zeros."""
        rows = pl.ds(first, self.blocks.keys)
        logits = product_by_last(k_ref[0, rows, :], queries) + mask[rows, :]
        return logits + table_ref[head, self.table_slice(first), :] if self.biased else logits

    def table_slice(self, first: int) -> Any:
        """The table's rows for a chunk of keys: those of its distance, or of any that is far."""
        blocks, lowest = self.blocks, self.blocks.keys + self.blocks.far
        place = first - pl.program_id(2) * blocks.queries
        place = jnp.clip(place, -lowest, blocks.queries + blocks.far) + lowest
        return pl.ds(
            pl.multiple_of(place, min(blocks.queries, blocks.keys, blocks.far)), blocks.keys
        )

    def mask_of(self, bias_ref: Any) -> AnyArray:
        """[keys, queries] of a row of biases by key."""
        return jnp.broadcast_to(bias_ref[0], (self.blocks.queries, self.num_keys)).T


def group_width(joined: int, head_dim: int, lanes: int) -> int:
    """Width of the heads of a grid step; 0 where they can't be grouped to whole lanes."""
    width = max(head_dim, lanes)
    if joined <= width:
        return joined
    return width if width % head_dim == 0 and joined % width == 0 else 0


def lanes_of(head: int, head_dim: int, x: AnyArray) -> AnyArray:
    """The lanes of one head of those side by side in the last axis, zeros elsewhere."""
    lane = jax.lax.broadcasted_iota(jnp.int32, (1, x.shape[-1]), 1)
    first = head * head_dim
    return jnp.where((lane >= first) & (lane < first + head_dim), x, 0)


def product(a: AnyArray, b: AnyArray) -> AnyArray:
    """a @ b, added up in float32."""
    return _product(a, b, (((1,), (0,)), ((), ())))


def product_by_last(a: AnyArray, b: AnyArray) -> AnyArray:
    """a @ b.T, added up in float32."""
    return _product(a, b, (((1,), (1,)), ((), ())))


def _product(a: AnyArray, b: AnyArray, dimensions: Any) -> AnyArray:
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)
