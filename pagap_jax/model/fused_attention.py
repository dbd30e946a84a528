"""Where attention is a kernel (`attention_kernels`): on TPUs, under a mesh, with gradients."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Bool, Float

from pagap_jax.array_types import AnyArray, Array
from pagap_jax.model import attention_kernels
from pagap_jax.model.attention_blocks import LANES, Blocks, group_width, skewed
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import current_mesh_shape, is_for_tpu, num_shards, partition_spec

MASKED = -1e10  # added to the logits of masked positions, as T5X does
ON_CHIP = 13.25 * 2**20  # bytes for blocks and scratch; logits take the rest of a v4's 16 MiB

Joined = Float[Array, "B S J"]


@struct.dataclass
class KeyMask:
    """For the kernels: the keys that all queries of a row see, and how the work is cut."""

    valid: Bool[Array, "B S"]
    blocks: Blocks = struct.field(pytree_node=False)


@struct.dataclass
class DistanceBias:
    """Position biases for the kernels.

    Gradients go through `by_distance`; `table` is the same numbers as the kernels read them, made
    once for all layers.
    """

    by_distance: Float[Array, "H distances"]
    table: Float[Array, "H rows queries"]


def key_mask(valid: Bool[Array, "B S"], num_queries: int, config: T5Config) -> KeyMask | None:
    """For attention to these keys by a kernel; None where it is the plain formula's."""
    if not (config.kernels and is_for_tpu()):
        return None
    blocks = blocks_for(num_queries, valid.shape[1], config)
    return None if blocks is None else KeyMask(valid, blocks)


def blocks_for(num_queries: int, num_keys: int, config: T5Config) -> Blocks | None:
    """How a kernel cuts the work of these sizes; None where it can't take them.

    Says so where it is worth a word: not of the single query that a preference model has.
    """
    heads = config.num_heads // num_shards("heads", config.num_heads)
    rows, columns = math.gcd(num_queries, 2 * LANES), math.gcd(num_keys, 2 * LANES)
    itemsize = jnp.dtype(config.dtype).itemsize
    if min(rows, columns) < LANES:
        reason = f"no multiple of {LANES}"
    elif not group_width(heads * config.head_dim, config.head_dim, LANES):
        reason = f"heads of a device don't fill {LANES} lanes"
    else:
        for blocks in (Blocks(rows, columns), Blocks(LANES, LANES)):
            if blocks.bytes_on_chip(num_keys, config.head_dim, itemsize) <= ON_CHIP:
                return blocks
        reason = "no room on the chip"
    if min(num_queries, num_keys) >= LANES:
        say_once(
            f"attention of {num_queries} queries to {num_keys} keys, {heads} heads of"
            f" {config.head_dim}: {reason}"
        )
    return None


def is_interpreted() -> bool:
    """Whether a kernel that is asked for is to run on something else than a TPU: in tests."""
    return not is_for_tpu()


@functools.cache
def say_once(what: str) -> None:
    """Tells which attention goes without its kernel, and why."""
    print(f"without its kernel: {what}", file=sys.stderr, flush=True)


def distance_bias(by_distance: Float[Array, "H distances"], blocks: Blocks) -> DistanceBias:
    """Biases of the distances in `distances(blocks)`."""
    return DistanceBias(by_distance, skewed(jax.lax.stop_gradient(by_distance), blocks))


def fused_attention(
    queries: Float[Array, "B Q J"],
    keys: Joined,
    values: Joined,
    mask: KeyMask,
    bias: DistanceBias | None,
    head_dim: int,
) -> Float[Array, "B Q J"]:
    """Softmax over keys of products and biases, in float32, and the values it weighs.

    What a query without a meaning (padding) gets differs from the plain formula, which masks it
    too: it sees what the others see.

    Args:
        queries: of all heads side by side, J = H * head_dim; keys and values likewise.
    """
    by_distance, table = (None, None) if bias is None else (bias.by_distance, bias.table)
    return _attend(head_dim, mask.blocks, queries, keys, values, mask.valid, by_distance, table)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(head_dim, blocks, queries, keys, values, valid, by_distance, table):
    return _forward(head_dim, blocks, queries, keys, values, valid, by_distance, table)[0]


def _forward(head_dim, blocks, queries, keys, values, valid, by_distance, table):
    key_bias = jnp.where(valid, 0.0, MASKED)[:, None]
    cut = Cut.of(queries, head_dim)

    def forward(queries, keys, values, key_bias, table):
        return attention_kernels.forward(
            queries, keys, values, key_bias, table, head_dim, blocks, is_interpreted()
        )

    specs = (cut.rows, cut.rows, cut.rows, cut.key_bias, cut.of_heads(table))
    arrays = (queries, keys, values, key_bias, table)
    attended, sums = cut.over_devices(forward, specs, (cut.rows, cut.sums))(*arrays)
    # By these names policies of recomputation find them.
    attended, sums = checkpoint_name(attended, "attended"), checkpoint_name(sums, "attention_sums")
    return attended, (*arrays, attended, sums)


def _backward(head_dim, blocks, saved, gradient):
    queries, _, _, key_bias, table, *_ = saved
    cut = Cut.of(queries, head_dim)
    # A row without any key has equal logits, so large that the sum of their exponentials is lost
    # beside them: its weights come out as 1 instead of 1 / S.
    empty = jnp.all(key_bias < 0, axis=-1, keepdims=True)
    gradient = jnp.where(empty, gradient / key_bias.shape[-1], gradient)

    def backward(*arrays: Any) -> tuple:
        run = functools.partial(
            attention_kernels.backward,
            head_dim=head_dim, blocks=blocks, interpret=is_interpreted(),
        )  # fmt: skip
        dq, dk, dv, *dbias = run(*arrays)
        return dq, dk, dv, cut.sum_over_rows(dbias[0][:, 0, :-1]) if dbias else None

    heads = cut.of_heads(table)
    specs = (*[cut.rows] * 3, cut.key_bias, heads, cut.rows, cut.sums, cut.rows)
    run = cut.over_devices(backward, specs, (*[cut.rows] * 3, heads))
    dq, dk, dv, by_distance = run(*saved, gradient)
    return dq, dk, dv, None, by_distance, None


_attend.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class Cut:
    """How the surrounding mesh cuts rows and heads; each device runs the kernel on its own."""

    batch: str | tuple[str, ...] | None
    heads: str | tuple[str, ...] | None

    @classmethod
    def of(cls, queries: Any, head_dim: int) -> "Cut":
        shape = (queries.shape[0], queries.shape[-1] // head_dim)
        return cls(*partition_spec(("batch", "heads"), shape, current_mesh_shape()))

    @property
    def rows(self) -> PartitionSpec:
        return PartitionSpec(self.batch, None, self.heads)

    @property
    def sums(self) -> PartitionSpec:
        return PartitionSpec(self.batch, self.heads)

    @property
    def key_bias(self) -> PartitionSpec:
        return PartitionSpec(self.batch)

    def of_heads(self, table: Any) -> PartitionSpec | None:
        return None if table is None else PartitionSpec(self.heads)

    def over_devices(self, function: Callable, in_specs: Any, out_specs: Any) -> Callable:
        if not current_mesh_shape():
            return function
        # Of what a kernel makes JAX can't know whether it is the same on several devices.
        return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def sum_over_rows(self, x: AnyArray) -> AnyArray:
        return jax.lax.psum(x, self.batch) if self.batch else x
