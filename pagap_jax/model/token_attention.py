"""Attention of one token to a cache as a Pallas kernel for TPUs, which reads it once, as it lies.

A token has one query a head, which is few rows for the matrix unit. Heads lie side by side in the
cache, as the projections make them; the queries of the heads that fill 128 lanes are the rows of
one product, each with the others' lanes zero.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Float

from pagap_jax.array_types import Array
from pagap_jax.model.attention_blocks import LANES, group_width, lanes_of, product, product_by_last
from pagap_jax.model.fused_attention import Cut, is_interpreted

ROWS_AT_ONCE = 4  # of a batch: more is a longer program
AT_ONCE = 2**21  # bytes of keys on the chip; values are as many, and the next ones on their way


def attend_to_cache(
    queries: Float[Array, "B N J"],
    keys: Float[Array, "B S J"],
    values: Float[Array, "B S J"],
    bias: Float[Array, "#B #groups #G S"],
    head_dim: int,
) -> Float[Array, "B N J"]:
    """N queries a row to its S keys, all heads side by side (J = H * K).

    Args:
        bias: added to the logits; of a row, or of a head: G heads are one of the groups.
    """
    cut = Cut.of(queries, head_dim)
    of_batch = cut.batch if bias.shape[0] > 1 else None
    of_heads = cut.heads if bias.shape[1] > 1 else None
    bias_spec = jax.sharding.PartitionSpec(of_batch, of_heads)
    run = functools.partial(_attend, head_dim=head_dim, interpret=is_interpreted())
    specs = (cut.rows, cut.rows, cut.rows, bias_spec)
    return cut.over_devices(run, specs, cut.rows)(queries, keys, values, bias)


def _attend(queries, keys, values, bias, *, head_dim: int, interpret: bool) -> Any:
    batch, num_queries, joined = queries.shape
    length, size = keys.shape[1], keys.dtype.itemsize
    width = group_width(joined, head_dim, LANES)
    lanes = math.gcd(joined, max(width, AT_ONCE // (length * size) // width * width))
    rows = math.gcd(batch, max(1, min(ROWS_AT_ONCE, AT_ONCE // (length * lanes * size))))

    def block(rows: int, columns: int) -> pl.BlockSpec:
        return pl.BlockSpec((rows, columns, lanes), lambda b, j: (b, 0, j))

    of_rows, of_heads = bias.shape[0] > 1, bias.shape[1] > 1
    bias_block = pl.BlockSpec(
        (rows if of_rows else 1, lanes // width if of_heads else 1, *bias.shape[2:]),
        lambda b, j: (b if of_rows else 0, j if of_heads else 0, 0, 0),
    )
    pairs = batch * num_queries * length * joined
    return pl.pallas_call(
        functools.partial(_kernel, head_dim, width),
        grid=(batch // rows, joined // lanes),
        in_specs=[block(rows, num_queries), block(rows, length), block(rows, length), bias_block],
        out_specs=block(rows, num_queries),
        out_shape=jax.ShapeDtypeStruct(queries.shape, values.dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(4 * pairs, pairs // head_dim, 2 * keys.size * size),
        name="token_attention",
        interpret=interpret,
    )(queries, keys, values, bias)


def _kernel(head_dim: int, width: int, q_ref, k_ref, v_ref, bias_ref, o_ref) -> None:
    rows, num_queries, lanes = q_ref.shape
    heads = range(width // head_dim)
    for row in range(rows):
        for group in range(lanes // width):
            place = slice(group * width, (group + 1) * width)
            queries = q_ref[row, :, place].astype(k_ref.dtype)  # the product's are float32 anyway
            queries = jnp.concatenate([lanes_of(h, head_dim, queries) for h in heads], axis=0)
            bias = bias_ref[min(row, bias_ref.shape[0] - 1), min(group, bias_ref.shape[1] - 1)]
            if len(bias) > 1:  # a head's, for each of its queries
                bias = jnp.concatenate([bias[h : h + 1] for h in heads for _ in range(num_queries)])
            logits = product_by_last(queries, k_ref[row, :, place]) + bias
            weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
            total = jnp.sum(weights, axis=1, keepdims=True)
            attended = product(weights.astype(v_ref.dtype), v_ref[row, :, place]) / total
            parts = [attended[h * num_queries : (h + 1) * num_queries] for h in heads]
            parts = [lanes_of(h, head_dim, part) for h, part in zip(heads, parts, strict=True)]
            o_ref[row, :, place] = sum(parts[1:], parts[0]).astype(o_ref.dtype)
