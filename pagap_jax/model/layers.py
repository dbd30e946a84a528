"""The parts of a T5 layer that aren't attention: projections, norm, MLP, embedding."""

import functools
import operator
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from pagap_jax.array_types import AnyArray
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import constrain, is_for_tpu

Initializer = Callable[..., jax.Array]

# T5X's: attention kernels normal, all others truncated normal, variance 1 / fan in.
ATTENTION_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
KERNEL_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class Dense(nn.Module):
    """A projection of the last axis, without bias; its kernel has two axes, as T5X stores it."""

    features: int
    kernel_axes: tuple[str, str]
    dtype: str
    kernel_init: Initializer = KERNEL_INIT

    @nn.compact
    def __call__(self, x: AnyArray) -> AnyArray:
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(self.kernel_init, self.kernel_axes),
            (x.shape[-1], self.features),
            jnp.float32,
        )
        return jnp.asarray(x, self.dtype) @ jnp.asarray(kernel, self.dtype)


class LayerNorm(nn.Module):
    """T5's root-mean-square norm, computed in float32: no mean taken off, no bias."""

    dtype: str
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: AnyArray) -> AnyArray:
        x = jnp.asarray(x, jnp.float32)
        mean_square = jnp.mean(jax.lax.square(x), axis=-1, keepdims=True)
        scale = self.param(
            "scale",
            nn.with_logical_partitioning(nn.initializers.ones, ("embed",)),
            (x.shape[-1],),
            jnp.float32,
        )
        y = jnp.asarray(x * jax.lax.rsqrt(mean_square + self.epsilon), self.dtype)
        return y * jnp.expand_dims(jnp.asarray(scale, self.dtype), range(y.ndim - 1))


class Embed(nn.Module):
    """A table of vectors by id."""

    num_embeddings: int
    features: int
    row_axis: str
    dtype: str
    embedding_init: Initializer

    def setup(self):
        self.embedding = self.param(
            "embedding",
            nn.with_logical_partitioning(self.embedding_init, (self.row_axis, "embed")),
            (self.num_embeddings, self.features),
            jnp.float32,
        )

    def __call__(self, ids: AnyArray) -> AnyArray:
        # Looked up, then cast: the other way round casts the whole table.
        return jnp.asarray(jnp.take(self.embedding, ids, axis=0), self.dtype)

    def attend(self, x: AnyArray) -> AnyArray:
        """Inner products with every row, in float32."""
        return jnp.asarray(x, jnp.float32) @ self.embedding.T


class MlpBlock(nn.Module):
    """The feed-forward block: the product of its activations, gated where there are two."""

    config: T5Config

    @nn.compact
    def __call__(self, x: AnyArray, deterministic: bool) -> AnyArray:
        config = self.config
        products: Sequence[AnyArray] = []
        for i in range(len(config.mlp_activations)):
            suffix = "" if len(config.mlp_activations) == 1 else f"_{i}"
            dense = Dense(config.mlp_dim, ("embed", "mlp"), config.dtype, name=f"wi{suffix}")
            products = [*products, dense(x)]
        gated: Callable[..., AnyArray] = functools.partial(_gated, config.mlp_activations)
        if is_for_tpu():
            # The products alone are kept for the backward pass, not each step of an activation:
            # a quarter of the temporaries of Large, and fewer cycles than to write and read them.
            gated = jax.checkpoint(gated, prevent_cse=False)
        y = gated(*products)
        y = dropout(config)(y, deterministic=deterministic)
        y = constrain(y, "batch", *[None] * (y.ndim - 3), "length", "mlp")
        return Dense(config.emb_dim, ("mlp", "embed"), config.dtype, name="wo")(y)


def _gated(activations: Sequence[str], *products: AnyArray) -> AnyArray:
    hidden = [
        y if name == "linear" else getattr(nn, name)(y)
        for name, y in zip(activations, products, strict=True)
    ]
    return functools.reduce(operator.mul, hidden)


def dropout(config: T5Config) -> nn.Dropout:
    """T5X's dropout: one mask for all positions of a sequence."""
    return nn.Dropout(rate=config.dropout_rate, broadcast_dims=(-2,))
