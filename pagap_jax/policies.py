"""A network that answers: encodes a prompt once, then scores or samples responses to it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float

from pagap_jax.array_types import (
    Array,
    EncodedPrompts,
    PromptTokens,
    RandomKey,
    SampledTokens,
    TokenLogProbs,
)
from pagap_jax.losses.chunking import chunks_within, over_token_chunks
from pagap_jax.losses.log_probs import shift_right, token_log_probs
from pagap_jax.model.cached_attention import KernelLayout, Layout, MatrixLayout, VectorLayout
from pagap_jax.model.sharding import is_for_tpu, num_devices
from pagap_jax.model.transformer import Transformer
from pagap_jax.sampling.loop import Samples, sample_responses
from pagap_jax.sampling.methods import WHOLE, Part, SamplingMethod

Params = Any  # the parameter tree, T5X's names

# Of all tokens at once logits are the largest array by far: Large, 32 pairs of 128: 1 GB.
LOGITS_AT_ONCE = 2**24  # on each device: 64 MB


@struct.dataclass
class Encoded:
    """Prompts after the encoder; all that a decoder needs of them."""

    hidden: EncodedPrompts
    mask: Bool[Array, "B P"]


@dataclasses.dataclass(frozen=True)
class Policy:
    """Pure functions of parameters around a T5.

    Attributes:
        sampleable_size: ids from 1 up to it, exclusive, may be sampled.
        response_length: tokens a response has room for, end token included.
    """

    transformer: Transformer
    sampleable_size: int
    response_length: int

    def encode(
        self, params: Params, prompt: PromptTokens, dropout_key: RandomKey | None = None
    ) -> Encoded:
        """The one encoding of each prompt that sampling, log-probs and KL share."""
        hidden = self.transformer.apply(
            {"params": params},
            prompt,
            None,
            dropout_key is None,
            method=Transformer.encode,
            rngs=_rngs(dropout_key),
        )
        return Encoded(hidden, prompt > 0)

    def decode(
        self,
        params: Params,
        encoded: Encoded,
        responses: SampledTokens,
        dropout_key: RandomKey | None = None,
    ) -> Float[Array, "B N R D"]:
        """The decoder's output at each position of given responses (teacher forcing)."""
        return self.transformer.apply(
            {"params": params},
            encoded.hidden,
            encoded.mask,
            shift_right(responses),
            responses > 0,
            dropout_key is None,
            method=Transformer.decode,
            rngs=_rngs(dropout_key),
        )

    def logits(self, params: Params, decoded: Float[Array, "B N R D"]) -> Float[Array, "B N R V"]:
        """Next-token logits, of all tokens at once: large."""
        return self.transformer.apply({"params": params}, decoded, method=Transformer.logits)

    def log_probs(
        self,
        params: Params,
        encoded: Encoded,
        responses: SampledTokens,
        dropout_key: RandomKey | None = None,
    ) -> TokenLogProbs:
        """log π(token) in nats at each position of given responses; 0 at padding."""

        def of_chunk(decoded: Array, responses: Array) -> Array:
            return token_log_probs(self.logits(params, decoded), responses)

        decoded = self.decode(params, encoded, responses, dropout_key)
        return over_token_chunks(of_chunk, self._num_chunks(responses), decoded, responses)

    def kl(
        self,
        params: Params,
        encoded: Encoded,
        reference: Params,
        reference_encoded: Encoded,
        responses: SampledTokens,
    ) -> Float[Array, "B N R"]:
        """KL(policy ‖ reference) of next-token distributions, nats a token; 0 at padding."""

        def of_chunk(decoded: Array, reference_decoded: Array, mask: Array) -> Array:
            logits = self.logits(params, decoded)
            return next_token_kl(logits, self.logits(reference, reference_decoded), mask)

        decoded = self.decode(params, encoded, responses)
        reference_decoded = self.decode(reference, reference_encoded, responses)
        arrays = (decoded, reference_decoded, responses > 0)
        return over_token_chunks(of_chunk, self._num_chunks(responses), *arrays)

    def _num_chunks(self, responses: SampledTokens) -> int:
        batch, num_samples, length = responses.shape
        size_of_token = batch * num_samples * self.transformer.config.vocab_size
        return chunks_within(length, size_of_token, LOGITS_AT_ONCE * num_devices())

    def sample(
        self,
        params: Params,
        encoded: Encoded,
        key: RandomKey,
        num_samples: int,
        method: SamplingMethod,
        with_log_probs: bool = False,
        part: Part = WHOLE,
    ) -> Samples:
        """`num_samples` responses to each prompt. The key is consumed.

        Args:
            part: of a batch, that the prompts are.
        """
        transformer = self.transformer
        if method.dtype is not None:
            transformer = Transformer(dataclasses.replace(transformer.config, dtype=method.dtype))
            # Once, not at each token.
            params = jax.tree.map(lambda x: x.astype(method.dtype), params)

        cache = transformer.apply(
            {"params": params},
            encoded.hidden,
            encoded.mask,
            num_samples,
            self.response_length,
            self._layout(encoded, transformer.config.dtype),
            method=Transformer.prefill,
        )

        def decode_step(tokens, cache, position):
            return transformer.apply(
                {"params": params}, tokens, cache, position, method=Transformer.decode_step
            )

        return sample_responses(
            decode_step,
            cache,
            key,
            num_samples=num_samples,
            length=self.response_length,
            method=method,
            sampleable_size=self.sampleable_size,
            with_log_probs=with_log_probs,
            part=part,
        )

    def _layout(self, encoded: Encoded, dtype: str) -> Layout:
        """How caches lie, which depends on the device that this is compiled for."""
        config = self.transformer.config
        if not is_for_tpu():
            return VectorLayout()
        lengths = (encoded.mask.shape[1], self.response_length)
        if config.kernels and KernelLayout.takes(config.num_heads, config.head_dim, lengths, dtype):
            return KernelLayout(config.head_dim)
        return MatrixLayout()


def next_token_kl(
    logits: Float[Array, "B N R V"],
    reference_logits: Float[Array, "B N R V"],
    mask: Bool[Array, "B N R"],
) -> Float[Array, "B N R"]:
    """KL(policy ‖ reference) of next-token distributions, nats a token; 0 where masked."""
    log_p = jax.nn.log_softmax(logits)
    log_q = jax.nn.log_softmax(reference_logits)
    return jnp.where(mask, jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), 0.0)


def _rngs(dropout_key: RandomKey | None) -> dict:
    return {} if dropout_key is None else {"dropout": dropout_key}
