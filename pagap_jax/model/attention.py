"""T5 attention: unscaled dot products with a learned bias by relative position."""

from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from pagap_jax.array_types import AnyArray, Array
from pagap_jax.model.attention_blocks import Blocks, distances
from pagap_jax.model.config import T5Config
from pagap_jax.model.fused_attention import (
    MASKED,
    DistanceBias,
    KeyMask,
    distance_bias,
    fused_attention,
)
from pagap_jax.model.layers import ATTENTION_INIT, Dense
from pagap_jax.model.sharding import constrain

Joined = Float[Array, "*batch S J"]  # heads side by side, J = H * K
Mask: TypeAlias = AnyArray | KeyMask  # by position, or for the kernels
Bias: TypeAlias = AnyArray | DistanceBias


class MultiHeadAttention(nn.Module):
    """Queries from one sequence, keys and values from the same or another.

    The three parts are separate methods, so that the keys and values of the prompt are projected
    once a prompt, and those of past tokens kept in a cache that the caller holds.
    """

    config: T5Config

    def setup(self):
        config = self.config
        # T5 has no 1/sqrt(K) at run time: it is folded into the initialisation of the queries.
        scale = config.head_dim**-0.5

        def query_init(*args):
            return ATTENTION_INIT(*args) * scale

        joined = ("embed", "joined_kv")
        self.query = Dense(config.joined_heads, joined, config.dtype, query_init)
        self.key = Dense(config.joined_heads, joined, config.dtype, ATTENTION_INIT)
        self.value = Dense(config.joined_heads, joined, config.dtype, ATTENTION_INIT)
        self.out = Dense(config.emb_dim, ("joined_kv", "embed"), config.dtype, ATTENTION_INIT)
        self.weight_dropout = nn.Dropout(rate=config.dropout_rate, broadcast_dims=(-2,))

    def _pin(self, x: AnyArray) -> Joined:
        axes = ("batch", *[None] * (x.ndim - 3), "length", "heads")
        return constrain(x, *axes, num_heads=self.config.num_heads)

    def queries(self, x: Float[Array, "*batch S D"]) -> Joined:
        return self._pin(self.query(x))

    def keys_values(self, x: Float[Array, "*batch S D"]) -> tuple[Joined, Joined]:
        return self._pin(self.key(x)), self._pin(self.value(x))

    def attend(
        self,
        queries: Float[Array, "*batch Q J"],
        keys: Joined,
        values: Joined,
        mask: Bool[Array, "*#batch #Q S"] | KeyMask,
        bias: Float[Array, "H Q S"] | DistanceBias | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "*batch Q D"]:
        """Weighted values through the output projection. `mask` is True where a query may look."""
        if isinstance(mask, KeyMask):
            values = self._drop_keys(values, deterministic)
            head_dim = self.config.head_dim
            return self.project(fused_attention(queries, keys, values, mask, bias, head_dim))
        assert not isinstance(bias, DistanceBias)
        queries, keys, values = map(self._split_heads, (queries, keys, values))
        if self.config.float32_attention_logits:
            queries, keys = queries.astype(jnp.float32), keys.astype(jnp.float32)
        logits = jnp.einsum("...qhk,...shk->...hqs", queries, keys)
        if bias is not None:
            logits = logits + jnp.expand_dims(bias, range(logits.ndim - 3)).astype(logits.dtype)
        logits = logits + jnp.where(jnp.expand_dims(mask, -3), 0.0, MASKED).astype(logits.dtype)
        weights = jax.nn.softmax(logits).astype(self.config.dtype)
        weights = self.weight_dropout(weights, deterministic=deterministic)
        attended = jnp.einsum("...hqs,...shk->...qhk", weights, values)
        return self.project(attended.reshape(*attended.shape[:-2], self.config.joined_heads))

    def _split_heads(self, x: Joined) -> Float[Array, "*batch S H K"]:
        x = x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)
        return constrain(x, "batch", *[None] * (x.ndim - 4), "length", "heads", "kv")

    def _drop_keys(self, values: Joined, deterministic: bool) -> Joined:
        """Dropout of weights draws one mask a key for all queries: a factor of the key's values."""
        if deterministic:
            return values
        heads = values.reshape(*values.shape[:-1], self.config.num_heads, self.config.head_dim)
        kept = jnp.ones((*heads.shape[:-3], heads.shape[-2], 1, heads.shape[-3]), values.dtype)
        kept = self.weight_dropout(kept, deterministic=False)
        return (heads * jnp.moveaxis(kept, -1, -3)).reshape(values.shape)

    def project(self, attended: Joined) -> Float[Array, "*batch S D"]:
        """Attended values, all heads side by side, through the output projection."""
        return self.out(attended.astype(self.config.dtype))


class RelativePositionBiases(nn.Module):
    """One learned number a head and bucket of distance (T5: 32 buckets up to 128 tokens)."""

    config: T5Config
    bidirectional: bool
    num_buckets: int = 32
    max_distance: int = 128

    def setup(self):
        self.rel_embedding = self.param(
            "rel_embedding",
            nn.with_logical_partitioning(
                nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
                ("heads", "relpos_buckets"),
            ),
            (self.config.num_heads, self.num_buckets),
            jnp.float32,
        )

    def __call__(self, query_length: int, key_length: int) -> Float[Array, "H Q S"]:
        buckets = relative_position_buckets(
            np.arange(query_length)[:, None] - np.arange(key_length)[None, :],
            *(self.bidirectional, self.num_buckets, self.max_distance),
        )
        return jnp.take(jnp.asarray(self.rel_embedding, self.config.dtype), buckets, axis=1)

    def by_distance(self, blocks: Blocks) -> DistanceBias:
        """The same for the kernels, in float32."""
        assert blocks.far >= self.max_distance
        buckets = relative_position_buckets(
            -np.asarray(distances(blocks)),
            *(self.bidirectional, self.num_buckets, self.max_distance),
        )
        table = jnp.asarray(self.rel_embedding, jnp.float32)
        return distance_bias(jnp.take(table, buckets, axis=1), blocks)


def relative_position_buckets(
    distance: np.ndarray, bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
    """T5's buckets: exact for near keys, logarithmic up to `max_distance`, one beyond.

    Args:
        distance: position of the query - position of the key.
    """
    offset = np.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        offset = (distance < 0) * num_buckets
        distance = np.abs(distance)
    else:
        distance = np.maximum(distance, 0)
    exact = num_buckets // 2
    # The epsilon, which is T5X's, keeps a distance that is a power of two in its upper bucket.
    ratio = np.maximum(distance, 1).astype(np.float32) / exact + np.finfo(np.float32).eps
    logarithmic = exact + (
        np.log(ratio) / np.log(max_distance / exact) * (num_buckets - exact)
    ).astype(np.int32)
    far = np.minimum(logarithmic, num_buckets - 1)
    return (offset + np.where(distance < exact, distance, far)).astype(np.int32)
