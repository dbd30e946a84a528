"""A function of tokens, a few tokens of every response at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pagap_jax.array_types import AnyArray


def over_token_chunks(
    function: Callable[..., AnyArray], num_chunks: int, *arrays: AnyArray
) -> AnyArray:
    """`function(*arrays)` [B, N, R], by chunks of the axis R of arrays [B, N, R, ...].

    What it makes on the way (logits: [B, N, R, V]) exists for one chunk at a time, also in the
    backward pass, which computes it again. One chunk is the plain call.

    Args:
        function: treats each token by itself.
        num_chunks: divides R.
    """
    if num_chunks == 1:
        return function(*arrays)

    def split(x: AnyArray) -> AnyArray:
        batch, samples, length, *rest = x.shape
        x = x.reshape(batch, samples, num_chunks, length // num_chunks, *rest)
        return jnp.moveaxis(x, 2, 0)

    results = jax.lax.map(jax.checkpoint(lambda x: function(*x)), tuple(map(split, arrays)))
    return jnp.moveaxis(results, 0, 2).reshape(arrays[0].shape[:3])


def chunks_within(length: int, size_of_token: int, size: int) -> int:
    """The smallest number of equal chunks of `length` tokens that are at most `size` large.

    Chunks of one token where none is small enough.
    """
    fits = (n for n in range(1, length) if length % n == 0 and length // n * size_of_token <= size)
    return next(fits, length)
