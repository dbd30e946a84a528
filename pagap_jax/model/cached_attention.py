"""Attention of single tokens to what a cache holds: the inner loop of sampling.

A token has one query a head, so the time goes into reading the cache, and how it lies in memory and
how attention is written decide the speed. Three ways of one formula: for CPUs and GPUs, for TPUs
where a kernel can't take the sizes, and for TPUs.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Float, Int

from pagap_jax.array_types import AnyArray, Array
from pagap_jax.model.attention_blocks import LANES, group_width
from pagap_jax.model.fused_attention import say_once
from pagap_jax.model.sharding import constrain, num_shards
from pagap_jax.model.token_attention import AT_ONCE, attend_to_cache

Joined = Float[Array, "B N J"]  # of a token, heads side by side, J = H * K
Queries = Float[Array, "B N H K"]
Position = Int[Array, ""]
OwnBias = Float[Array, "H R"]
PromptBias = Float[Array, "B P"]


@struct.dataclass
class KeysValues:
    """Keys and values as a layout wants them."""

    keys: AnyArray
    values: AnyArray


def heads_first(
    keys: Float[Array, "B P J"], values: Float[Array, "B P J"], num_heads: int
) -> KeysValues:
    """[B, H, K, P] and [B, H, P, K], shared by the prompt's N responses."""
    keys, values = (x.reshape(*x.shape[:2], num_heads, -1) for x in (keys, values))
    keys, values = jnp.moveaxis(keys, 1, 3), jnp.moveaxis(values, 1, 2)
    axes = ("batch", "heads")
    return KeysValues(
        constrain(keys, *axes, "kv", "length"), constrain(values, *axes, "length", "kv")
    )


def split_heads(x: Joined, num_heads: int) -> Queries:
    """A token's queries, keys or values by head."""
    return constrain(x.reshape(*x.shape[:2], num_heads, -1), "batch", "samples", "heads", "kv")


class VectorLayout:
    """Multiply and add, which compiles to one pass over the cache without a copy: CPUs and GPUs.

    The response's own keys and values are [B, N, H, K, R] and [B, N, H, R, K].
    """

    of_prompt = staticmethod(heads_first)

    def empty(self, shape: tuple[int, int, int, int, int], dtype: str) -> KeysValues:
        batch, samples, heads, head_dim, length = shape
        axes = ("batch", "samples", "heads")
        keys = jnp.zeros((batch, samples, heads, head_dim, length), dtype)
        values = jnp.zeros((batch, samples, heads, length, head_dim), dtype)
        return KeysValues(
            constrain(keys, *axes, "kv", "length"), constrain(values, *axes, "length", "kv")
        )

    def put(self, own: KeysValues, key: Joined, value: Joined, position: Position) -> KeysValues:
        put = jax.lax.dynamic_update_slice_in_dim
        key, value = (split_heads(x, own.keys.shape[2]) for x in (key, value))
        return KeysValues(
            put(own.keys, key[..., None], position, axis=4),
            put(own.values, value[:, :, :, None], position, axis=3),
        )

    def attend_to_own(self, queries: Joined, own: KeysValues, bias: OwnBias) -> Joined:
        queries = split_heads(queries, len(bias))
        logits = _sum(queries[..., None] * own.keys, axis=3)
        weights = jax.nn.softmax(logits + bias[None, None].astype(logits.dtype))
        return _joined(_sum(weights[..., None] * own.values, axis=3))

    def attend_to_prompt(self, queries: Joined, prompt: KeysValues, bias: PromptBias) -> Joined:
        queries = split_heads(queries, prompt.keys.shape[1])
        logits = _sum(queries[..., None] * prompt.keys[:, None], axis=3)
        weights = jax.nn.softmax(logits + bias[:, None, None].astype(logits.dtype))
        return _joined(_sum(weights[..., None] * prompt.values[:, None], axis=3))


class MatrixLayout:
    """Matrix products of all heads at once: TPUs, for what `KernelLayout` can't take.

    The response's own keys and values are [B, N, G, R, W], where W is the width of all heads that
    one of G shards of the mesh holds. One product a head would have too few rows for the matrix
    unit, and the compiler would fall back to the vector unit. A block-diagonal matrix of queries, a
    row a head, gives the same numbers; one for each shard, so that nothing is sent around.
    """

    of_prompt = staticmethod(heads_first)

    def empty(self, shape: tuple[int, int, int, int, int], dtype: str) -> KeysValues:
        batch, samples, heads, head_dim, length = shape
        shards = num_shards("heads", heads)
        zeros = jnp.zeros((batch, samples, shards, length, heads * head_dim // shards), dtype)
        zeros = constrain(zeros, "batch", "samples", "heads", "length", "kv")
        return KeysValues(zeros, zeros)

    def put(self, own: KeysValues, key: Joined, value: Joined, position: Position) -> KeysValues:
        def put(cache: AnyArray, x: AnyArray) -> AnyArray:
            x = x.reshape(*cache.shape[:3], 1, cache.shape[4])
            return jax.lax.dynamic_update_slice_in_dim(cache, x, position, axis=3)

        return KeysValues(put(own.keys, key), put(own.values, value))

    def attend_to_own(self, queries: Joined, own: KeysValues, bias: OwnBias) -> Joined:
        queries = split_heads(queries, len(bias))
        blocks = _block_diagonal(queries, own.keys.shape[2])
        logits = jnp.einsum("bnghw,bngrw->bnghr", blocks, own.keys)
        bias = bias.reshape(logits.shape[2:])[None, None].astype(logits.dtype)
        weights = jax.nn.softmax(logits + bias).astype(own.values.dtype)
        attended = jnp.einsum("bnghr,bngrw->bnghw", weights, own.values)
        return _joined(_own_blocks(attended, queries))

    def attend_to_prompt(self, queries: Joined, prompt: KeysValues, bias: PromptBias) -> Joined:
        queries = split_heads(queries, prompt.keys.shape[1])
        batch, num_heads, head_dim, length = prompt.keys.shape
        shards = num_shards("heads", num_heads)
        keys = prompt.keys.reshape(batch, shards, -1, length)
        values = prompt.values.reshape(batch, shards, -1, length, head_dim)
        values = jnp.swapaxes(values, 2, 3).reshape(batch, shards, length, -1)
        blocks = jnp.swapaxes(_block_diagonal(queries, shards), 1, 2)
        logits = jnp.einsum("bgnhw,bgwp->bgnhp", blocks, keys)
        bias = bias[:, None, None, None].astype(logits.dtype)
        weights = jax.nn.softmax(logits + bias).astype(prompt.values.dtype)
        attended = jnp.einsum("bgnhp,bgpw->bgnhw", weights, values)
        return _joined(_own_blocks(jnp.swapaxes(attended, 1, 2), queries))


@dataclasses.dataclass(frozen=True)
class KernelLayout:
    """`token_attention`: TPUs. Heads stay side by side as the projections make them.

    The response's own keys and values are [B, N, R, J], the prompt's [B, P, J].
    """

    head_dim: int

    @staticmethod
    def takes(num_heads: int, head_dim: int, lengths: tuple[int, int], dtype: str) -> bool:
        """Whether the kernel takes caches of such prompts and responses; says why it doesn't."""
        if any(length % LANES for length in lengths):
            reason = f"no multiple of {LANES}"
        elif not heads_in_group(num_heads, head_dim):
            reason = f"heads of a device don't fill {LANES} lanes"
        elif max(lengths) * max(head_dim, LANES) * jnp.dtype(dtype).itemsize > AT_ONCE:
            reason = "no room on the chip"
        else:
            return True
        say_once(f"sampling {lengths[1]} tokens to prompts of {lengths[0]}: {reason}")
        return False

    def of_prompt(self, keys: AnyArray, values: AnyArray, num_heads: int) -> KeysValues:
        del num_heads
        return KeysValues(keys, values)

    def empty(self, shape: tuple[int, int, int, int, int], dtype: str) -> KeysValues:
        batch, samples, heads, head_dim, length = shape
        zeros = jnp.zeros((batch, samples, length, heads * head_dim), dtype)
        zeros = constrain(zeros, "batch", "samples", "length", "heads", num_heads=heads)
        return KeysValues(zeros, zeros)

    def put(self, own: KeysValues, key: Joined, value: Joined, position: Position) -> KeysValues:
        put = jax.lax.dynamic_update_slice_in_dim
        return KeysValues(
            put(own.keys, key[:, :, None], position, axis=2),
            put(own.values, value[:, :, None], position, axis=2),
        )

    def attend_to_own(self, queries: Joined, own: KeysValues, bias: OwnBias) -> Joined:
        num_heads, length = bias.shape
        own = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), own)
        rows = queries.reshape(len(own.keys), 1, -1)  # each sample has a cache of its own
        groups = bias.reshape(1, -1, heads_in_group(num_heads, self.head_dim), length)
        return attend_to_cache(rows, own.keys, own.values, groups, self.head_dim).reshape(
            queries.shape
        )

    def attend_to_prompt(self, queries: Joined, prompt: KeysValues, bias: PromptBias) -> Joined:
        bias = bias[:, None, None]
        return attend_to_cache(queries, prompt.keys, prompt.values, bias, self.head_dim)


def heads_in_group(num_heads: int, head_dim: int) -> int:
    """Heads that a device works on at once; 0 where its heads can't be grouped."""
    heads = num_heads // num_shards("heads", num_heads)
    return group_width(heads * head_dim, head_dim, LANES) // head_dim


Layout = VectorLayout | MatrixLayout | KernelLayout


def _joined(x: AnyArray) -> AnyArray:
    """Heads side by side: [..., H, K] to [..., J]."""
    return x.reshape(*x.shape[:-2], -1)


def _sum(products: AnyArray, axis: int) -> AnyArray:
    """The sum in float32, which is never stored, in the type of the products."""
    return jnp.sum(products, axis=axis, dtype=jnp.float32).astype(products.dtype)


def _block_diagonal(queries: Queries, shards: int) -> Float[Array, "B N G Hg W"]:
    """Each head's query in a row of its own, at its own columns, zeros elsewhere."""
    batch, samples, num_heads, head_dim = queries.shape
    heads = num_heads // shards
    # Rows are copies of all heads' queries side by side, which stay where they lie in memory.
    queries = queries.reshape(batch, samples, shards, 1, heads, head_dim)
    own = jnp.eye(heads, dtype=queries.dtype)[None, None, None, :, :, None]
    return (queries * own).reshape(batch, samples, shards, heads, heads * head_dim)


def _own_blocks(attended: Float[Array, "B N G Hg W"], like: Queries) -> Queries:
    """The columns of its own values in each head's row."""
    *axes, heads, _ = attended.shape
    own = jnp.eye(heads, dtype=attended.dtype)[None, None, None, :, :, None]
    blocks = attended.reshape(*axes, heads, heads, like.shape[-1]) * own
    return jnp.sum(blocks, axis=3).reshape(like.shape)
