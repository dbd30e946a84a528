"""On a TPU: attention's kernels against the plain formula, values first, then seconds.

    python -m benchmarks.on_tpu

What compilers estimate leaves out waiting for memory; this is what to run first on a real chip, of
which it takes one. Elsewhere kernels are interpreted, at sizes that `--prompts`, `--length` and
`--heads` make small: a check that the script runs, and no measurement.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from pagap_jax.model.attention import relative_position_buckets
from pagap_jax.model.attention_blocks import Blocks, distances
from pagap_jax.model.fused_attention import MASKED, KeyMask, distance_bias, fused_attention
from pagap_jax.model.sharding import is_for_tpu
from pagap_jax.model.token_attention import attend_to_cache

HEAD_DIM, BUCKETS, FAR = 64, 32, 128
TOLERATED = 0.05  # of the largest number; bfloat16 keeps 8 bits, and errors add up over keys


def main() -> None:
    """Forward, forward and backward, and one token: both ways, checked and timed in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.length % Blocks().queries or arguments.heads % 2:
        parser.error(f"--length is to be a multiple of {Blocks().queries}, --heads of 2")
    where = jax.devices()[0].device_kind if is_for_tpu() else "no TPU here: interpreted"
    table = Table("attention", "largest error", "kernel, ms", "formula, ms", "ratio", title=where)
    worst = 0.0
    for name, kernel, formula, arrays in cases(arguments):
        error = largest_error(kernel(*arrays), formula(*arrays))
        mine, theirs = in_turns((kernel, formula), arrays, arguments.repeats)
        numbers = (f"{error:.1e}", *(f"{1e3 * x:.3f}" for x in (mine, theirs)))
        table.add_row(name, *numbers, f"{theirs / mine:.2f}")
        worst = float(np.maximum(worst, error))
    Console().print(table)
    if not worst < TOLERATED:
        raise SystemExit(f"largest error: found {worst:.1e}, expected below {TOLERATED}")


def cases(arguments: argparse.Namespace) -> list[tuple[str, Callable, Callable, tuple]]:
    """Name, kernel, formula, arrays: bfloat16, ragged prompts, random biases."""
    keys = jax.random.split(jax.random.key(0), 6)
    shape = (arguments.prompts, arguments.length, arguments.heads * HEAD_DIM)
    queries, ks, values, gradient = (
        jax.random.normal(key, shape, jnp.bfloat16) * HEAD_DIM**-0.25 for key in keys[:4]
    )
    biases = jax.random.normal(keys[4], (arguments.heads, BUCKETS))
    lengths = jax.random.randint(keys[5], (arguments.prompts, 1), 1, arguments.length + 1)
    valid = jnp.arange(arguments.length)[None] < lengths
    arrays = (queries, ks, values, biases, valid)
    kernel, formula = functools.partial(attend, True), functools.partial(attend, False)

    def both(attend: Callable) -> Callable:
        return jax.jit(lambda *arrays: with_gradients(attend, gradient, *arrays))

    token = (queries[:, :2], ks, values)
    to_prompt = functools.partial(attend_to_cache, bias=mask(valid), head_dim=HEAD_DIM)
    plainly = functools.partial(plain, bias=mask(valid), num_heads=arguments.heads)
    return [
        ("forward", jax.jit(kernel), jax.jit(formula), arrays),
        ("forward and backward", both(kernel), both(formula), arrays),
        ("a token to the prompt", jax.jit(to_prompt), jax.jit(plainly), token),
    ]


def attend(
    kernels: bool, queries: Any, keys: Any, values: Any, biases: Any, valid: Any
) -> jax.Array:
    """An encoder layer's attention: by the kernel, or by the formula.

    Args:
        queries: [B, S, H * 64]; keys and values likewise.
        biases: [H, 32], by bucket of distance; valid: bool[B, S].
    """
    if kernels:
        blocks = Blocks()
        by_distance = biases[:, buckets(-np.asarray(distances(blocks)))]
        bias, seen = distance_bias(by_distance, blocks), KeyMask(valid, blocks)
        return fused_attention(queries, keys, values, seen, bias, HEAD_DIM)
    position = np.arange(queries.shape[1])
    bias = biases[:, buckets(position[:, None] - position[None])][None]
    return plain(queries, keys, values, bias + mask(valid), len(biases))


def with_gradients(attend: Callable, gradient: Any, *arrays: Any) -> tuple:
    """Attended values, and the gradients of all arrays but the last one, the mask."""
    *arrays, valid = arrays
    attended, backward = jax.vjp(lambda *arrays: attend(*arrays, valid), *arrays)
    return attended, *backward(gradient)


def plain(queries: Any, keys: Any, values: Any, bias: Any, num_heads: int) -> jax.Array:
    """The formula in the types of the arrays, as the model has it; bias [#B, #H, #Q, S]."""
    split = (x.reshape(*x.shape[:2], num_heads, HEAD_DIM) for x in (queries, keys, values))
    q, k, v = split
    logits = jnp.einsum("bqhk,bshk->bhqs", q, k)
    weights = jax.nn.softmax(logits + bias.astype(logits.dtype))
    return jnp.einsum("bhqs,bshk->bqhk", weights, v).reshape(queries.shape)


def mask(valid: Any) -> jax.Array:
    """[B, 1, 1, S], added to logits."""
    return jnp.where(valid, 0.0, MASKED)[:, None, None]


def buckets(distance: np.ndarray) -> np.ndarray:
    """T5's buckets of distances query - key."""
    return relative_position_buckets(distance, True, BUCKETS, FAR)


def largest_error(found: Any, expected: Any) -> float:
    """Relative to the largest number of each array."""

    def error(ours: Any, theirs: Any) -> float:
        ours, theirs = (x.astype(jnp.float32) for x in (ours, theirs))
        return float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs)))

    # NumPy's maximum keeps what is no number.
    return float(np.max([*map(error, *map(jax.tree.leaves, (found, expected)))]))


def in_turns(functions: tuple[Callable, ...], arrays: tuple, repeats: int) -> list[float]:
    """Medians, in seconds; the functions take turns, so that both meet the same machine."""
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, times in zip(functions, taken, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*arrays))
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


if __name__ == "__main__":
    main()
