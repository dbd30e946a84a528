"""What stands in for T5's pretraining at tiny scale: spot replaced words, name the better response.

Not from the paper. A preference model must match the words of a response with the prompt, tell the
two responses apart and add up with a sign. A pretrained T5 brings that along; a tiny one is taught
the first by tags, the others by a verdict.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from pagap_jax.array_types import Array, PerPair


def tag_loss(
    tag_logits: Float[Array, "B L T"], tags: Int[Array, "B L"], mask: Bool[Array, "B L"]
) -> Float[Array, ""]:
    """Mean cross-entropy in nats a word of the tags at response words.

    Args:
        tag_logits: the encoder's output at the tag ids alone.
        tags: index of the right tag.
        mask: True at words of responses.
    """
    log_probs = jax.nn.log_softmax(tag_logits)
    right = jnp.take_along_axis(log_probs, tags[..., None], axis=-1)[..., 0]
    return -jnp.sum(right * mask) / jnp.maximum(jnp.sum(mask), 1)


def verdict_loss(log_odds: PerPair, replaced_a: PerPair, replaced_b: PerPair) -> Float[Array, ""]:
    """Mean −log P(the response with fewer replaced words is preferred); ties have no part."""
    counts = replaced_b - replaced_a
    loss = jax.nn.softplus(-jnp.sign(counts) * log_odds)
    decided = counts != 0
    return jnp.sum(loss * decided) / jnp.maximum(jnp.sum(decided), 1)
