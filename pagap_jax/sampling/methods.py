"""How the next token is drawn from logits."""

import dataclasses

import gin
import jax
import jax.numpy as jnp

from pagap_jax.array_types import TokenLogits

NEVER = -1e30  # a logit that is never sampled; finite, so that no NaN comes of 0 * inf


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
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"needs temperature >= 0, top_k >= 0 and 0 < top_p <= 1, got {self}")

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

    def draw(self, key: jax.Array, logits: TokenLogits) -> jax.Array:
        """One token id for each row of logits."""
        if self.temperature == 0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return jax.random.categorical(key, self.filter_logits(logits), axis=-1).astype(jnp.int32)
