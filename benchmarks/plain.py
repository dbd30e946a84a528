"""The plain reference: the same mathematics, as one writes it down without thinking of speed.

It does what T5X's own programs do: a prompt is encoded once for each response, keys and values of
the prompt are projected again for each token, the cache is rewritten with a one-hot mask, log-probs
take a whole [rows, tokens, vocabulary] array, the reference model runs in each step, and the two
orders of a judgement are two calls. Same parameters, same draws, so that outputs can be compared.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pagap_jax.model.attention import relative_position_buckets
from pagap_jax.model.config import T5Config
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.sampling.loop import END_ID, ban_ids

Tree = Any
HIDDEN = -1e10


def norm(scale: Tree, x: jax.Array) -> jax.Array:
    """T5's root-mean-square norm."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale["scale"]


def mlp(params: Tree, config: T5Config, x: jax.Array) -> jax.Array:
    """Feed-forward block."""
    if len(config.mlp_activations) == 1:
        return jax.nn.relu(x @ params["wi"]["kernel"]) @ params["wo"]["kernel"]
    hidden = jax.nn.gelu(x @ params["wi_0"]["kernel"]) * (x @ params["wi_1"]["kernel"])
    return hidden @ params["wo"]["kernel"]


def heads(config: T5Config, x: jax.Array) -> jax.Array:
    """[rows, length, heads, head_dim]."""
    return x.reshape(*x.shape[:2], config.num_heads, config.head_dim)


def attend(params: Tree, config: T5Config, q, k, v, mask, bias=None) -> jax.Array:
    """Dot-product attention of q [rows, Q, H, K] over k, v [rows, S, H, K]."""
    logits = jnp.einsum("bqhk,bshk->bhqs", q, k)
    if bias is not None:
        logits = logits + bias
    weights = jax.nn.softmax(logits + jnp.where(mask, 0.0, HIDDEN)[:, None])
    y = jnp.einsum("bhqs,bshk->bqhk", weights, v)
    return y.reshape(*y.shape[:2], -1) @ params["out"]["kernel"]


def attention(params: Tree, config: T5Config, x, y, mask, bias=None) -> jax.Array:
    """Attention of x over y, everything projected here and now."""
    q, k, v = (
        heads(config, z @ params[name]["kernel"])
        for name, z in (("query", x), ("key", y), ("value", y))
    )
    return attend(params, config, q, k, v, mask, bias)


def position_bias(params: Tree, length: int, bidirectional: bool) -> jax.Array:
    """[1, H, length, length]."""
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    buckets = relative_position_buckets(distance, bidirectional, 32, 128)
    return params["relpos_bias"]["rel_embedding"][:, buckets][None]


def embed(params: Tree, tokens: jax.Array, segments: jax.Array | None = None) -> jax.Array:
    """Token vectors, and segment vectors where there are any."""
    x = params["token_embedder"]["embedding"][tokens]
    if segments is not None and "segment_embedder" in params:
        x = x + params["segment_embedder"]["embedding"][segments]
    return x


def encode(params: Tree, config: T5Config, tokens: jax.Array, segments=None) -> jax.Array:
    """Encoder output [rows, P, D]."""
    x = embed(params, tokens, segments)
    encoder = params["encoder"]
    valid = tokens > 0
    mask = valid[:, :, None] & valid[:, None, :]
    bias = position_bias(encoder, tokens.shape[1], True)
    for i in range(config.num_encoder_layers):
        layer = encoder[f"layers_{i}"]
        y = norm(layer["pre_attention_layer_norm"], x)
        x = x + attention(layer["attention"], config, y, y, mask, bias)
        x = x + mlp(layer["mlp"], config, norm(layer["pre_mlp_layer_norm"], x))
    return norm(encoder["encoder_norm"], x)


def logits_of(params: Tree, config: T5Config, y: jax.Array) -> jax.Array:
    """Vocabulary logits."""
    if config.logits_via_embedding:
        return y @ params["token_embedder"]["embedding"].T / config.emb_dim**0.5
    return y @ params["decoder"]["logits_dense"]["kernel"]


def decode(params: Tree, config: T5Config, encoded, prompt_mask, inputs, valid) -> jax.Array:
    """Next-token logits [rows, R, V] by teacher forcing."""
    decoder = params["decoder"]
    length = inputs.shape[1]
    x = embed(params, inputs)
    mask = jnp.tril(jnp.ones((length, length), bool)) & valid[:, :, None] & valid[:, None, :]
    cross = valid[:, :, None] & prompt_mask[:, None, :]
    bias = position_bias(decoder, length, False)
    for i in range(config.num_decoder_layers):
        layer = decoder[f"layers_{i}"]
        y = norm(layer["pre_self_attention_layer_norm"], x)
        x = x + attention(layer["self_attention"], config, y, y, mask, bias)
        y = norm(layer["pre_cross_attention_layer_norm"], x)
        x = x + attention(layer["encoder_decoder_attention"], config, y, encoded, cross)
        x = x + mlp(layer["mlp"], config, norm(layer["pre_mlp_layer_norm"], x))
    return logits_of(params, config, norm(decoder["decoder_norm"], x))


def decode_one(params: Tree, config: T5Config, encoded, prompt_mask, token, position, cache):
    """Logits [rows, V] of the token after `token`; cache [rows, H, K, R] of keys and values."""
    decoder = params["decoder"]
    x = embed(params, token[:, None])
    length = cache[0][0].shape[-1]
    bias = jax.lax.dynamic_slice_in_dim(position_bias(decoder, length, False), position, 1, axis=2)
    here = jax.nn.one_hot(position, length, dtype=x.dtype)
    past = jnp.broadcast_to(jnp.arange(length) <= position, (len(token), 1, length))
    new_cache = []
    for i, (keys, values) in enumerate(cache):
        layer = decoder[f"layers_{i}"]
        own = layer["self_attention"]
        y = norm(layer["pre_self_attention_layer_norm"], x)
        q, k, v = (heads(config, y @ own[n]["kernel"]) for n in ("query", "key", "value"))
        keys = keys + jnp.moveaxis(k, 1, -1) * here
        values = values + jnp.moveaxis(v, 1, -1) * here
        new_cache.append((keys, values))
        x = x + attend(own, config, q, *(jnp.moveaxis(c, -1, 1) for c in (keys, values)), past,
                       bias)  # fmt: skip
        y = norm(layer["pre_cross_attention_layer_norm"], x)
        cross = prompt_mask[:, None, :]
        x = x + attention(layer["encoder_decoder_attention"], config, y, encoded, cross)
        x = x + mlp(layer["mlp"], config, norm(layer["pre_mlp_layer_norm"], x))
    return logits_of(params, config, norm(decoder["decoder_norm"], x))[:, 0], new_cache


def sample(
    params: Tree,
    config: T5Config,
    prompt: jax.Array,
    key: jax.Array,
    num_samples: int,
    length: int,
    sampleable_size: int,
) -> jax.Array:
    """Tokens [B, num_samples, length]: the encoder's output tiled, then one token after another."""
    encoded = jnp.repeat(encode(params, config, prompt), num_samples, axis=0)
    mask = jnp.repeat(prompt > 0, num_samples, axis=0)
    rows = len(encoded)
    empty = jnp.zeros((rows, config.num_heads, config.head_dim, length), encoded.dtype)

    def unfinished(carry):
        position, _, ended, _ = carry
        return (position < length) & ~jnp.all(ended)

    def step(carry):
        position, tokens, ended, cache = carry
        previous = jnp.where(position > 0, tokens[:, position - 1], 0)
        logits, cache = decode_one(params, config, encoded, mask, previous, position, cache)
        draw = jax.random.categorical(
            jax.random.fold_in(key, position), ban_ids(logits, sampleable_size)
        ).astype(jnp.int32)
        token = jnp.where(ended, 0, draw)
        return position + 1, tokens.at[:, position].set(token), ended | (token == END_ID), cache

    caches = [(empty, empty)] * config.num_decoder_layers
    tokens = jnp.zeros((rows, length), jnp.int32)
    start = (jnp.zeros((), jnp.int32), tokens, jnp.zeros(rows, bool), caches)
    return jax.lax.while_loop(unfinished, step, start)[1].reshape(-1, num_samples, length)


def score(params: Tree, config: T5Config, prompt: jax.Array, response: jax.Array) -> jax.Array:
    """Summed log-probs [rows] of responses, the prompt encoded for each."""
    inputs = jnp.pad(response[:, :-1], ((0, 0), (1, 0)))
    encoded = encode(params, config, prompt)
    logits = decode(params, config, encoded, prompt > 0, inputs, response > 0)
    taken = jnp.take_along_axis(jax.nn.log_softmax(logits), response[..., None], axis=-1)[..., 0]
    return jnp.sum(jnp.where(response > 0, taken, 0.0), axis=-1)


def judge(model: PreferenceModel, params: Tree, prompt, response_a, response_b) -> jax.Array:
    """Log-odds [B] that a, shown first, is preferred: one order, one call."""
    config = model.transformer.config
    composed = model.compose(prompt, response_a, response_b)
    encoded = encode(params, config, composed.tokens, composed.segments)
    start = jnp.zeros((len(prompt), 1), jnp.int32)
    logits = decode(params, config, encoded, composed.tokens > 0, start, start == 0)[:, 0]
    return logits[:, model.special.verdict_a] - logits[:, model.special.verdict_b]


def ipo_loss(params: Tree, reference: Tree, config: T5Config, batch: dict, beta: float):
    """Mean (beta h - 1/2)^2, both responses of a pair in one batch of 2B rows."""
    prompt = jnp.concatenate([batch["prompt"]] * 2)
    b_chosen = (batch["choice"] == 1)[:, None]
    a, b = batch["response_a"], batch["response_b"]
    response = jnp.concatenate([jnp.where(b_chosen, b, a), jnp.where(b_chosen, a, b)])
    shift = score(params, config, prompt, response) - score(reference, config, prompt, response)
    chosen, rejected = jnp.split(shift, 2)
    return jnp.mean(jnp.square(beta * (chosen - rejected) - 0.5))


def offline_step(params, opt_state, reference, batch, rate, *, config, optimizer, beta):
    """One offline update; the loss with it."""
    loss, gradients = jax.value_and_grad(ipo_loss)(params, reference, config, batch, beta)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    updates = jax.tree.map(lambda u: rate * u, updates)
    return optax.apply_updates(params, updates), opt_state, loss


def next_token_kl(params: Tree, reference: Tree, config: T5Config, prompt, response) -> jax.Array:
    """KL [rows] of responses, two whole arrays of logits kept."""
    inputs = jnp.pad(response[:, :-1], ((0, 0), (1, 0)))

    def log_softmax(of: Tree) -> jax.Array:
        encoded = encode(of, config, prompt)
        logits = decode(of, config, encoded, prompt > 0, inputs, response > 0)
        return jax.nn.log_softmax(logits)

    log_p, log_q = log_softmax(params), log_softmax(reference)
    return jnp.sum(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1) * (response > 0), axis=-1)
