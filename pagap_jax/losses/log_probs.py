"""Log-probabilities of responses, token by token and summed."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from pagap_jax.array_types import Array


def shift_right(targets: Int[Array, "*batch R"]) -> Int[Array, "*batch R"]:
    """Decoder inputs of given targets: T5 starts from the padding id."""
    return jnp.pad(targets[..., :-1], [(0, 0)] * (targets.ndim - 1) + [(1, 0)])


def token_log_probs(
    logits: Float[Array, "*batch R V"], targets: Int[Array, "*batch R"]
) -> Float[Array, "*batch R"]:
    """log p(target) at each position in nats; 0 where the target is padding."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    log_probs = chosen - jax.nn.logsumexp(logits, axis=-1)
    return jnp.where(targets > 0, log_probs, 0.0)


def sequence_log_prob(log_probs: Float[Array, "*batch R"]) -> Float[Array, "*batch"]:
    """log p(response), summed over its tokens, the end token included."""
    return jnp.sum(log_probs, axis=-1)


def mean_log_prob(
    log_prob: Float[Array, "*batch"], mask: Bool[Array, "*batch R"]
) -> Float[Array, "*batch"]:
    """log p(response) divided by its length: TRL's offline IPO, an option and never the default."""
    return log_prob / jnp.maximum(jnp.sum(mask, axis=-1), 1)
