"""T5's encoder."""

import flax.linen as nn

from pagap_jax.array_types import AnyArray, EncodedPrompts
from pagap_jax.model.attention import Bias, Mask, MultiHeadAttention, RelativePositionBiases
from pagap_jax.model.config import T5Config
from pagap_jax.model.fused_attention import key_mask
from pagap_jax.model.layers import LayerNorm, MlpBlock, dropout
from pagap_jax.model.sharding import constrain
from pagap_jax.model.stack import through_layers


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each behind a norm and beside a residual."""

    config: T5Config

    def setup(self):
        self.pre_attention_layer_norm = LayerNorm(self.config.dtype)
        self.attention = MultiHeadAttention(self.config)
        self.pre_mlp_layer_norm = LayerNorm(self.config.dtype)
        self.mlp = MlpBlock(self.config)
        self.dropout = dropout(self.config)

    def __call__(self, x: AnyArray, mask: Mask, bias: Bias, deterministic: bool) -> AnyArray:
        x = constrain(x, "batch", "length", "embed")
        y = self.pre_attention_layer_norm(x)
        keys, values = self.attention.keys_values(y)
        queries = self.attention.queries(y)
        y = self.attention.attend(queries, keys, values, mask, bias, deterministic)
        x = x + self.dropout(y, deterministic=deterministic)
        y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
        return x + self.dropout(y, deterministic=deterministic)


class Encoder(nn.Module):
    """The stack over prompt tokens, one table of position biases for all layers."""

    config: T5Config

    def setup(self):
        config = self.config
        self.relpos_bias = RelativePositionBiases(config, bidirectional=True)
        self.layers = [EncoderLayer(config) for _ in range(config.num_encoder_layers)]
        self.encoder_norm = LayerNorm(config.dtype)
        self.dropout = dropout(config)
        # The one place where T5X draws a mask of its own for each position.
        self.output_dropout = nn.Dropout(rate=config.dropout_rate)

    def __call__(self, x: AnyArray, valid: AnyArray, deterministic: bool) -> EncodedPrompts:
        length = x.shape[1]
        mask = key_mask(valid, length, self.config)
        if mask is None:
            bias = self.relpos_bias(length, length)
            mask = valid[:, :, None] & valid[:, None, :]
        else:
            bias = self.relpos_bias.by_distance(mask.blocks)
        x = self.dropout(x, deterministic=deterministic)
        x = through_layers(self, x, mask, bias, deterministic)
        return self.output_dropout(self.encoder_norm(x), deterministic=deterministic)
