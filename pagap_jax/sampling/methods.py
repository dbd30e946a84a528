"""How the next token is drawn from logits."""

import dataclasses
from typing import Any, Literal

import gin
import jax
import jax.numpy as jnp

from pagap_jax.array_types import TokenLogits
from pagap_jax.ranges import CountOrZero, ShareAboveZero, Temperature, check_values

NEVER = -1e30  # a logit that is never sampled; finite, so that no NaN comes of 0 * inf


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows `index`, `index + number` and so on of a batch, which draw as they do in the whole.

    Attributes:
        index: may be traced.
    """

    number: int = 1
    index: Any = 0

    def gumbel(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """The part's rows of the whole batch's noise; compilers make no more than those."""
        noise = jax.random.gumbel(key, (shape[0] * self.number, *shape[1:]), dtype)
        if self.number == 1:
            return noise
        noise = noise.reshape(shape[0], self.number, *shape[1:])
        return jax.lax.dynamic_index_in_dim(noise, self.index, 1, keepdims=False)


WHOLE = Part()


@gin.configurable
@dataclasses.dataclass(frozen=True)
class SamplingMethod:
    """Temperature, top-k and top-p; the default is the policy's own distribution, untruncated.

    The paper reports no temperature: 1.0 without truncation keeps samples on-policy. (T5X's sampler
    defaults to top-k 1, which is greedy.)

    Attributes:
        temperature: divides the logits; 0 takes the most probable token.
        top_k: keeps the k most probable tokens; 0 keeps all.
        top_p: keeps the most probable tokens up to this sum of probability; 1 keeps all.
        dtype: of weights, activations and caches while sampling; None is the model's own.
            'bfloat16' halves what a float32 model reads for a token, and samples from a policy that
            is off by its rounding.
    """

    temperature: Temperature = 1.0
    top_k: CountOrZero = 0
    top_p: ShareAboveZero = 1.0
    dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self):
        """Raises ConfigError for a value out of range."""
        check_values(type(self), vars(self))

    @property
    def is_policys_own(self) -> bool:
        """Whether samples are the policy's own, neither tempered nor truncated."""
        return (self.temperature, self.top_k, self.top_p) == (1, 0, 1)

    def filter_logits(self, logits: TokenLogits) -> TokenLogits:
        """Logits of the distribution that is drawn from (temperature above 0)."""
        logits = logits / self.temperature
        if self.top_k:
            kth = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits < kth, NEVER, logits)
        if self.top_p < 1:
            ordered = jnp.sort(logits, axis=-1, descending=True)
            # A token stays while the mass before it is below top_p: the first one always does.
            before = jnp.cumsum(jax.nn.softmax(ordered), axis=-1) - jax.nn.softmax(ordered)
            least = jnp.min(
                jnp.where(before < self.top_p, ordered, jnp.inf), axis=-1, keepdims=True
            )
            logits = jnp.where(logits < least, NEVER, logits)
        return logits

    def draw(self, key: jax.Array, logits: TokenLogits, part: Part = WHOLE) -> jax.Array:
        """One token id for each row of logits, those of a part of a batch."""
        if self.temperature == 0:
            return first_maximum(logits)
        logits = self.filter_logits(logits)
        # `jax.random.categorical` in two steps: see `first_maximum`.
        return first_maximum(logits + part.gumbel(key, logits.shape, logits.dtype))


def first_maximum(x: TokenLogits) -> jax.Array:
    """`argmax` over the last axis, int32.

    As two plain reductions: one that carries value and index along is ten times slower on CPUs.
    """
    x = jax.lax.optimization_barrier(x)  # else both would compute it, perhaps to other bits
    ids = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    at_maximum = x == jnp.max(x, axis=-1, keepdims=True)
    # The last id where nothing equals the maximum: it is not a number.
    return jnp.min(jnp.where(at_maximum, ids, x.shape[-1] - 1), axis=-1)
