"""Attention as two Pallas kernels for TPUs, forward and backward: logits never leave the chip.

Heads lie side by side, [B, S, H * K], as the projections make and take them: a grid step takes the
few heads that fill 128 lanes, and masks the others' lanes with zeros, which a product of 64 wide
heads would be padded with anyway. Logits are [keys, queries], so that maxima and sums over keys are
plain vector operations, and their results rows. A step holds the logits of one block of queries.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Float

from pagap_jax.array_types import AnyArray, Array
from pagap_jax.model.attention_blocks import Blocks, Call, lanes_of, product, product_by_last

Queries = Float[Array, "B Q J"]  # J = H * K
Joined = Float[Array, "B S J"]


def forward(
    queries: Queries,
    keys: Joined,
    values: Joined,
    key_bias: Float[Array, "B 1 S"],
    table: Float[Array, "H rows queries"] | None,
    head_dim: int,
    blocks: Blocks,
    interpret: bool,
) -> Sequence[Any]:
    """Attended values [B, Q, J], and of each query the log of its weights' sum.

    That sum is before normalisation, [B, groups, heads, Q] in float32.
    """
    call = Call(queries, keys, table, head_dim, blocks)
    specs, operands = call.inputs, [queries, keys, values, key_bias]
    if table is not None:
        specs, operands = [*specs, call.table], [*operands, table]
    return pl.pallas_call(
        functools.partial(_forward_kernel, call),
        grid=call.grid,
        in_specs=specs,
        out_specs=[call.rows, call.sums],
        out_shape=[call.like(queries), call.sums_shape],
        scratch_shapes=[
            pltpu.VMEM((call.num_keys, blocks.queries), jnp.float32),
            pltpu.VMEM((call.width, call.num_keys), values.dtype),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        cost_estimate=call.cost(products=2, arrays=4),
        name="attention_forward",
        interpret=interpret,
    )(*operands)


def backward(
    queries: Queries,
    keys: Joined,
    values: Joined,
    key_bias: Float[Array, "B 1 S"],
    table: Float[Array, "H rows queries"] | None,
    attended: Queries,
    sums: Float[Array, "B groups heads Q"],
    gradient: Queries,
    head_dim: int,
    blocks: Blocks,
    interpret: bool,
) -> Sequence[Any]:
    """Gradients of queries, keys, values and, where there is a table, of biases by distance.

    Weights are computed again. The table's gradient stays on the chip, where it is summed up over
    all prompts and then by distance: [H, 1, distances + 1] in float32, the last of which is none.
    """
    call = Call(queries, keys, table, head_dim, blocks)
    specs = [*call.inputs, call.rows, call.sums, call.rows]
    operands = [queries, keys, values, key_bias, attended, sums, gradient]
    out_specs = [call.rows, call.columns, call.columns]
    scratch = [
        pltpu.VMEM((call.num_keys, blocks.queries), jnp.float32),
        pltpu.VMEM((call.width, call.num_keys), keys.dtype),
        pltpu.VMEM((call.num_keys, call.width), jnp.float32),
        pltpu.VMEM((call.num_keys, call.width), jnp.float32),
    ]
    out_shape = [call.like(queries), call.like(keys), call.like(values)]
    if table is not None:
        specs, operands = [*specs, call.table], [*operands, table]
        out_specs.append(call.by_distance)
        out_shape.append(jax.ShapeDtypeStruct((len(table), 1, call.distances), jnp.float32))
        scratch.append(pltpu.VMEM(call.table_shape, jnp.float32))
    return pl.pallas_call(
        functools.partial(_backward_kernel, call),
        grid=call.grid,
        in_specs=specs,
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary")
        ),
        cost_estimate=call.cost(products=5, arrays=8),
        name="attention_backward",
        interpret=interpret,
    )(*operands)


def is_last(axis: int) -> Any:
    """Whether this is the last step along an axis of the grid."""
    return pl.program_id(axis) == pl.num_programs(axis) - 1


def _transposed(x: AnyArray) -> AnyArray:
    """By way of float32, which the chip can transpose whatever its generation."""
    return x.astype(jnp.float32).T.astype(x.dtype)


def _forward_kernel(call: Call, q_ref, k_ref, v_ref, bias_ref, *refs) -> None:
    table_ref = refs[0] if call.biased else None
    o_ref, sums_ref, mask, values = refs[-4:]
    blocks = call.blocks

    @pl.when(pl.program_id(2) == 0)
    def of_prompt() -> None:
        mask[...] = call.mask_of(bias_ref)
        values[...] = _transposed(v_ref[0])

    outputs, sums = [], []
    for head in range(call.heads):
        queries, rows = lanes_of(head, call.head_dim, q_ref[0]), call.rows_of(head)
        maximum = jnp.full((1, blocks.queries), -jnp.inf)
        total, output = jnp.zeros_like(maximum), jnp.zeros((call.head_dim, blocks.queries))
        for start in range(0, call.num_keys, blocks.held):
            chunks = range(start, min(start + blocks.held, call.num_keys), blocks.keys)
            logits = [call.logits(head, c, queries, k_ref, mask, table_ref) for c in chunks]
            highest = [jnp.max(x, axis=0, keepdims=True) for x in logits]
            before, maximum = maximum, functools.reduce(jnp.maximum, highest, maximum)
            scale = jnp.exp(before - maximum)
            total, output = total * scale, output * scale
            for first, chunk in zip(chunks, logits, strict=True):
                weights = jnp.exp(chunk - maximum)
                total += jnp.sum(weights, axis=0, keepdims=True)
                seen = values[rows, first : first + blocks.keys]
                output += product(seen, weights.astype(call.dtype))
        outputs.append(output / total)
        sums.append(maximum + jnp.log(total))
    o_ref[0] = jnp.concatenate(outputs, axis=0).T.astype(call.dtype)
    sums_ref[0, 0] = jnp.concatenate(sums, axis=0)


def _backward_kernel(
    call: Call, q_ref, k_ref, v_ref, bias_ref, o_ref, sums_ref, do_ref, *refs
) -> None:
    table_ref: Any = None
    if call.biased:
        table_ref, dq_ref, dk_ref, dv_ref, dbias_ref, mask, keys, dk, dv, dtable = refs
    else:
        dq_ref, dk_ref, dv_ref, mask, keys, dk, dv = refs
    blocks, dtype, heads = call.blocks, call.dtype, range(call.heads)

    @pl.when(pl.program_id(2) == 0)
    def of_prompt() -> None:
        mask[...] = call.mask_of(bias_ref)
        keys[...] = _transposed(k_ref[0])
        dk[...], dv[...] = jnp.zeros_like(dk), jnp.zeros_like(dv)

    if call.biased:

        @pl.when((pl.program_id(1) == 0) & (pl.program_id(2) == 0))
        def of_heads() -> None:
            dtable[...] = jnp.zeros_like(dtable)

    # Of each query the product of its weights with their gradients.
    mean = (do_ref[0].astype(jnp.float32) * o_ref[0].astype(jnp.float32)).T
    mean = [jnp.sum(mean[call.rows_of(h)], axis=0, keepdims=True) for h in heads]
    queries = [lanes_of(head, call.head_dim, q_ref[0]) for head in heads]
    gradients = [lanes_of(head, call.head_dim, do_ref[0]) for head in heads]
    dq: list[Any] = [0.0] * call.heads
    for first in range(0, call.num_keys, blocks.keys):
        chunk = slice(first, first + blocks.keys)
        for head in heads:
            logits = call.logits(head, first, queries[head], k_ref, mask, table_ref)
            weights = jnp.exp(logits - sums_ref[0, 0, head : head + 1])
            dweights = product_by_last(v_ref[0, chunk], gradients[head])
            dlogits = weights * (dweights - mean[head])
            if call.biased:
                dtable[head, call.table_slice(first), :] += dlogits
            dlogits = dlogits.astype(dtype)
            dv[chunk] += product(weights.astype(dtype), gradients[head])
            dk[chunk] += product(dlogits, queries[head])
            dq[head] += product(keys[call.rows_of(head), chunk], dlogits)
    dq_ref[0] = jnp.concatenate(dq, axis=0).T.astype(dtype)

    @pl.when(is_last(2))
    def write() -> None:
        dk_ref[0], dv_ref[0] = dk[...].astype(dtype), dv[...].astype(dtype)

    if call.biased:

        @pl.when(is_last(1) & is_last(2))
        def sum_up() -> None:
            for head in heads:
                dbias_ref[head] = _summed_by_distance(dtable[head])


def _summed_by_distance(table: AnyArray) -> AnyArray:
    """[1, rows + queries] of [rows, queries]: sums over all of the same distance, row - query.

    The lower half of the queries is half as many rows nearer than the upper.
    """
    x = jnp.concatenate([table.T, jnp.zeros((table.shape[1],) * 2, table.dtype)], axis=1)
    while len(x) > 1:
        half = len(x) // 2
        x = pltpu.roll(x[:half], half, 1) + x[half:]
    return x
