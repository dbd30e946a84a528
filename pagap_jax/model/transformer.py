"""T5's encoder-decoder in four entry points: encode, decode, prefill, decode_step.

The parameter tree, its shapes and logical axes are those of T5X's `Transformer`. Decoders take N
responses a prompt against one encoding of the prompt; caches are arrays that go in and come out.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int

from pagap_jax.array_types import (
    AnyArray,
    Array,
    EncodedPrompts,
    SampledTokens,
    SequenceTokens,
)
from pagap_jax.model.attention import (
    MASKED,
    Mask,
    MultiHeadAttention,
    RelativePositionBiases,
)
from pagap_jax.model.cached_attention import KeysValues, Layout
from pagap_jax.model.config import T5Config
from pagap_jax.model.encoder import Encoder
from pagap_jax.model.fused_attention import key_mask
from pagap_jax.model.layers import Dense, Embed, LayerNorm, MlpBlock, dropout
from pagap_jax.model.sharding import constrain
from pagap_jax.model.stack import through_layers


@struct.dataclass
class LayerCache:
    """What one decoder layer remembers between two tokens."""

    own: KeysValues  # of the response so far
    prompt: KeysValues  # shared by the prompt's N responses


@struct.dataclass
class DecodeCache:
    """All that `decode_step` needs of the past."""

    layers: tuple[LayerCache, ...]
    prompt_mask: Bool[Array, "B P"]
    position_bias: Float[Array, "H R R"]
    layout: Layout = struct.field(pytree_node=False)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the prompt, MLP; whole sequences or one token at a time."""

    config: T5Config

    def setup(self):
        self.pre_self_attention_layer_norm = LayerNorm(self.config.dtype)
        self.self_attention = MultiHeadAttention(self.config)
        self.pre_cross_attention_layer_norm = LayerNorm(self.config.dtype)
        self.encoder_decoder_attention = MultiHeadAttention(self.config)
        self.pre_mlp_layer_norm = LayerNorm(self.config.dtype)
        self.mlp = MlpBlock(self.config)
        self.dropout = dropout(self.config)

    def __call__(
        self, x: AnyArray, encoded: AnyArray, self_mask: AnyArray, cross_mask: Mask, bias, det
    ) -> AnyArray:
        """x [B, N, R, D]; self_mask [B, N, R, R]; cross_mask [B, N * R, P]."""
        x = constrain(x, "batch", "samples", "length", "embed")
        y = self.pre_self_attention_layer_norm(x)
        keys, values = self.self_attention.keys_values(y)
        queries = self.self_attention.queries(y)
        y = self.self_attention.attend(queries, keys, values, self_mask, bias, det)
        x = x + self.dropout(y, deterministic=det)
        cross = self.encoder_decoder_attention.keys_values(encoded)
        return self._cross_and_mlp(x, cross, cross_mask, det)

    def _cross_and_mlp(self, x: AnyArray, cross: tuple, cross_mask: Mask, det: bool) -> AnyArray:
        y = self.pre_cross_attention_layer_norm(x)
        # All N responses of a prompt query its keys as one long sequence: no copy of the keys.
        y = y.reshape(x.shape[0], -1, x.shape[-1])
        attention = self.encoder_decoder_attention
        keys, values = cross
        y = attention.attend(attention.queries(y), keys, values, cross_mask, deterministic=det)
        x = x + self.dropout(y.reshape(x.shape), deterministic=det)
        y = self.mlp(self.pre_mlp_layer_norm(x), det)
        return x + self.dropout(y, deterministic=det)

    def prefill(self, encoded: EncodedPrompts, num_samples: int, length: int, layout) -> LayerCache:
        config = self.config
        shape = (encoded.shape[0], num_samples, config.num_heads, config.head_dim, length)
        prompt = self.encoder_decoder_attention.keys_values(encoded)
        return LayerCache(
            layout.empty(shape, config.dtype), layout.of_prompt(*prompt, config.num_heads)
        )

    def step(self, x: AnyArray, cache: LayerCache, position, own_bias, prompt_bias, layout):
        """x [B, N, D], the tokens at `position`."""
        attention = self.self_attention
        y = self.pre_self_attention_layer_norm(x)
        queries = self._logit_queries(attention, y)
        own = layout.put(cache.own, *attention.keys_values(y), position)
        x = x + attention.project(layout.attend_to_own(queries, own, own_bias))
        attention = self.encoder_decoder_attention
        y = self.pre_cross_attention_layer_norm(x)
        queries = self._logit_queries(attention, y)
        y = layout.attend_to_prompt(queries, cache.prompt, prompt_bias)
        x = x + attention.project(y)
        return x + self.mlp(self.pre_mlp_layer_norm(x), True), LayerCache(own, cache.prompt)

    def _logit_queries(self, attention: MultiHeadAttention, y: AnyArray) -> AnyArray:
        """Queries in the type that logits are to have: products take the wider of two types."""
        queries = attention.queries(y)
        return queries.astype(jnp.float32) if self.config.float32_attention_logits else queries


class Decoder(nn.Module):
    """The stack over response tokens."""

    config: T5Config

    def setup(self):
        config = self.config
        self.relpos_bias = RelativePositionBiases(config, bidirectional=False)
        self.layers = [DecoderLayer(config) for _ in range(config.num_decoder_layers)]
        self.decoder_norm = LayerNorm(config.dtype)
        self.dropout = dropout(config)
        if not config.logits_via_embedding:
            # In float32 whatever the activations are: log-probs are differences of large numbers.
            self.logits_dense = Dense(config.vocab_size, ("embed", "vocab"), "float32")

    def __call__(self, x: AnyArray, encoded, valid, prompt_mask, det: bool) -> AnyArray:
        batch, num_samples, length, _ = x.shape
        causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
        self_mask = causal & valid[..., :, None] & valid[..., None, :]
        cross_mask = key_mask(prompt_mask, num_samples * length, self.config)
        if cross_mask is None:
            cross_mask = valid.reshape(batch, -1)[:, :, None] & prompt_mask[:, None, :]
        bias = self.relpos_bias(length, length)
        x = self.dropout(x, deterministic=det)
        x = through_layers(self, x, encoded, self_mask, cross_mask, bias, det)
        return self.dropout(self.decoder_norm(x), deterministic=det)

    def prefill(self, encoded, prompt_mask, num_samples: int, length: int, layout) -> DecodeCache:
        layers = tuple(layer.prefill(encoded, num_samples, length, layout) for layer in self.layers)
        return DecodeCache(layers, prompt_mask, self.relpos_bias(length, length), layout)

    def step(self, x: AnyArray, cache: DecodeCache, position) -> tuple[AnyArray, DecodeCache]:
        bias = jax.lax.dynamic_index_in_dim(cache.position_bias, position, 1, keepdims=False)
        past = jnp.arange(bias.shape[-1]) <= position
        own_bias = bias + jnp.where(past, 0.0, MASKED)[None]
        biases = (own_bias, jnp.where(cache.prompt_mask, 0.0, MASKED))
        layers = []
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            x, layer_cache = layer.step(x, layer_cache, position, *biases, cache.layout)
            layers.append(layer_cache)
        return self.decoder_norm(x), dataclasses.replace(cache, layers=tuple(layers))


class Transformer(nn.Module):
    """T5, 1.0 or 1.1 by its config."""

    config: T5Config

    def setup(self):
        config = self.config
        self.token_embedder = Embed(
            config.vocab_size, config.emb_dim, "vocab", config.dtype, nn.initializers.normal(1.0)
        )
        if config.num_segments:
            self.segment_embedder = Embed(
                config.num_segments,
                config.emb_dim,
                "segments",
                config.dtype,
                nn.initializers.zeros,
            )
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(
        self,
        tokens: SequenceTokens,
        segments: SequenceTokens | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B S D"]:
        """The encoder's output; padding (id 0) is neither seen nor meaningful in it.

        Args:
            segments: row of the segment table for each token; only where the config has one.
        """
        x = self.token_embedder(tokens)
        if self.config.num_segments:
            # Called also without segments, so that `init` always makes the table.
            ids = jnp.zeros_like(tokens) if segments is None else segments
            x = x + self.segment_embedder(ids) * (segments is not None)
        return self.encoder(x, tokens > 0, deterministic)

    def decode(
        self,
        encoded: EncodedPrompts,
        prompt_mask: Bool[Array, "B P"],
        inputs: SampledTokens,
        valid: Bool[Array, "B N R"],
        deterministic: bool = True,
    ) -> Float[Array, "B N R D"]:
        """The decoder's output for given inputs (teacher forcing), of which `logits` come."""
        return self.decoder(self.token_embedder(inputs), encoded, valid, prompt_mask, deterministic)

    def prefill(
        self,
        encoded: EncodedPrompts,
        prompt_mask: Bool[Array, "B P"],
        num_samples: int,
        length: int,
        layout: Layout,
    ) -> DecodeCache:
        """Projects the prompt's keys and values once, and makes room for `length` tokens."""
        return self.decoder.prefill(encoded, prompt_mask, num_samples, length, layout)

    def decode_step(
        self, tokens: Int[Array, "B N"], cache: DecodeCache, position: Int[Array, ""]
    ) -> tuple[Float[Array, "B N V"], DecodeCache]:
        """Logits of the token after `tokens`, which stand at `position`."""
        y, cache = self.decoder.step(self.token_embedder(tokens), cache, position)
        return self.logits(y), cache

    def logits(self, y: AnyArray) -> AnyArray:
        """Float32 next-token logits of the decoder's output (in tag pretraining, the encoder's)."""
        if self.config.logits_via_embedding:
            # T5 rescales where it shares the embedding with the softmax.
            logits = self.token_embedder.attend(y) / jnp.sqrt(float(self.config.emb_dim))
        else:
            logits = self.decoder.logits_dense(y)
        return constrain(logits, "batch", *[None] * (logits.ndim - 3), "length", "vocab")

    def __call__(
        self,
        encoder_input_tokens: SequenceTokens,
        decoder_input_tokens: Int[Array, "B R"],
        decoder_target_tokens: Int[Array, "B R"],
        deterministic: bool = True,
    ) -> Float[Array, "B R V"]:
        """T5X's call: logits of one target a row."""
        encoded = self.encode(encoder_input_tokens, None, deterministic)
        inputs, valid = decoder_input_tokens[:, None], (decoder_target_tokens > 0)[:, None]
        y = self.decode(encoded, encoder_input_tokens > 0, inputs, valid, deterministic)
        return self.logits(y)[:, 0]
