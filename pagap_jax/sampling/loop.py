"""Sampling on the device: state, condition, step, and the loop over them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Int

from pagap_jax.array_types import (
    AnyArray,
    Array,
    RandomKey,
    SampledTokens,
    TokenLogits,
    TokenLogProbs,
)
from pagap_jax.model.transformer import DecodeCache
from pagap_jax.sampling.methods import NEVER, WHOLE, Part, SamplingMethod

END_ID = 1
DecodeStep = Callable[[jax.Array, DecodeCache, jax.Array], tuple[jax.Array, DecodeCache]]


@struct.dataclass
class SamplingState:
    """What the loop carries from token to token."""

    position: Int[Array, ""]  # of the token to be sampled next
    tokens: SampledTokens  # 0 from `position` on, and after the end token
    log_probs: TokenLogProbs | None  # of `tokens` under the policy itself, nats
    finished: Bool[Array, "B N"]
    cache: DecodeCache


@struct.dataclass
class Samples:
    """N responses a prompt: ids (0 after the end token) and, on request, their log-probs.

    The log-probs are those of the model's whole distribution, not of the one that temperature,
    top-k, top-p and the ban on padding leave: they equal teacher forcing on the same tokens.
    """

    tokens: SampledTokens
    log_probs: TokenLogProbs | None


def start(
    cache: DecodeCache, batch: int, num_samples: int, length: int, with_log_probs: bool
) -> SamplingState:
    """Nothing sampled yet."""
    shape = (batch, num_samples, length)
    return SamplingState(
        position=jnp.zeros((), jnp.int32),
        tokens=jnp.zeros(shape, jnp.int32),
        log_probs=jnp.zeros(shape, jnp.float32) if with_log_probs else None,
        finished=jnp.zeros(shape[:2], bool),
        cache=cache,
    )


def unfinished(state: SamplingState) -> jax.Array:
    """Whether any row still has a token to come."""
    return (state.position < state.tokens.shape[-1]) & ~jnp.all(state.finished)


def ban_ids(logits: TokenLogits, sampleable_size: int) -> TokenLogits:
    """No padding, no sentinels, no rows beyond the vocabulary: ids in [1, sampleable_size)."""
    ids = jnp.arange(logits.shape[-1])
    allowed = (ids > 0) & (ids < sampleable_size)
    return jnp.where(jnp.expand_dims(allowed, range(logits.ndim - 1)), logits, NEVER)


def sample_token(
    state: SamplingState,
    key: RandomKey,
    decode_step: DecodeStep,
    method: SamplingMethod,
    sampleable_size: int,
    part: Part = WHOLE,
) -> SamplingState:
    """One more token for every row that hasn't ended. The draw is a function of (key, position)."""
    previous = jax.lax.dynamic_index_in_dim(
        state.tokens, jnp.maximum(state.position - 1, 0), axis=2, keepdims=False
    )
    # T5 starts from the padding id, which is what `tokens` holds at position 0.
    logits, cache = decode_step(previous, state.cache, state.position)
    key = jax.random.fold_in(key, state.position)
    token = method.draw(key, ban_ids(logits, sampleable_size), part)
    return SamplingState(
        position=state.position + 1,
        tokens=_put(state.tokens, jnp.where(state.finished, 0, token), state.position),
        log_probs=_put_log_prob(state, logits, token),
        finished=state.finished | (token == END_ID),
        cache=cache,
    )


def _put_log_prob(state: SamplingState, logits: TokenLogits, token: jax.Array) -> jax.Array | None:
    if state.log_probs is None:
        return None
    taken = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
    log_prob = taken - jax.nn.logsumexp(logits, axis=-1)
    return _put(state.log_probs, jnp.where(state.finished, 0.0, log_prob), state.position)


def sample_responses(
    decode_step: DecodeStep,
    cache: DecodeCache,
    key: RandomKey,
    *,
    num_samples: int,
    length: int,
    method: SamplingMethod,
    sampleable_size: int,
    with_log_probs: bool = False,
    part: Part = WHOLE,
) -> Samples:
    """`num_samples` responses of up to `length` tokens a prompt; stops when all rows have ended."""
    state = start(cache, cache.prompt_mask.shape[0], num_samples, length, with_log_probs)

    def step(state: SamplingState) -> SamplingState:
        return sample_token(state, key, decode_step, method, sampleable_size, part)

    state = jax.lax.while_loop(unfinished, step, state)
    return Samples(state.tokens, state.log_probs)


def _put(x: AnyArray, value: AnyArray, position: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(x, value, position, axis=2)
