"""The T5Config that a checkpoint's shapes imply, and whether they all agree with it."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.core import meta

from pagap_jax.checkpoints.hugging_face_names import shapes_in_hf
from pagap_jax.checkpoints.stored import Format, StoredCheckpoint
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.model.config import T5Config
from pagap_jax.model.transformer import Transformer

EMBEDDING = "token_embedder/embedding"
SEGMENTS = "segment_embedder/embedding"
LOGITS = "decoder/logits_dense/kernel"
# Parameters that a plain T5 doesn't have; they start at zero.
OPTIONAL_PARAMETERS = (SEGMENTS,)
SHOWN_DIFFERENCES = 5

Shapes = Mapping[str, tuple[int, ...]]


def infer_config(checkpoint: StoredCheckpoint, **overrides: Any) -> T5Config:
    """What the shapes say; the activation of a gated MLP, which they don't, is T5 1.1's gelu.

    Args:
        overrides: fields that are known better.

    Raises:
        DataError: a parameter that every T5 has is missing, or shapes disagree with each other.
    """
    shapes = {key: array.shape for key, array in checkpoint.params.items()}
    table = _shape(checkpoint, shapes, "encoder/relpos_bias/rel_embedding", 2)
    vocab_size, emb_dim = _shape(checkpoint, shapes, EMBEDDING, 2)
    first = "encoder/layers_0"
    heads = table[0]
    joined = _shape(checkpoint, shapes, f"{first}/attention/query/kernel", 2)[1]
    gated = f"{first}/mlp/wi_0/kernel" in shapes
    wi = _shape(checkpoint, shapes, f"{first}/mlp/{'wi_0' if gated else 'wi'}/kernel", 2)
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "emb_dim": emb_dim,
        "num_heads": heads,
        "head_dim": joined // max(heads, 1),
        "mlp_dim": wi[1],
        "num_encoder_layers": _count_layers(shapes, "encoder"),
        "num_decoder_layers": _count_layers(shapes, "decoder"),
        "mlp_activations": checkpoint.activations or (("gelu", "linear") if gated else ("relu",)),
        "logits_via_embedding": LOGITS not in shapes,
        "num_segments": shapes[SEGMENTS][0] if SEGMENTS in shapes else 0,
    }
    try:
        config = dataclasses.replace(T5Config(**fields), **overrides)
    except TypeError as error:
        known = ", ".join(field.name for field in dataclasses.fields(T5Config))
        raise ConfigError(f"T5Config: {error}; its fields are {known}") from error
    different = differences(parameter_shapes(config), shapes, checkpoint.format)
    if different:
        raise DataError(f"{checkpoint.path}: found no T5 that holds together:\n  {different}")
    return config


@functools.cache
def parameter_shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by T5X's name; nothing is allocated."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    boxed = jax.eval_shape(Transformer(config).init, jax.random.key(0), tokens, tokens, tokens)
    flat = traverse_util.flatten_dict(meta.unbox(boxed)["params"], sep="/")
    return {key: x.shape for key, x in flat.items()}


def differences(expected: Shapes, found: Shapes, format: Format = "t5x") -> str:
    """The first few parameters that differ, a line each; '' where none does.

    Args:
        format: of the checkpoint: its names and its order of axes are the message's.
    """
    if format == "hf":
        expected, found = shapes_in_hf(expected), shapes_in_hf(found)
    lines = [
        f"{k}: the checkpoint has {tuple(found[k])}, the model {tuple(expected[k])}"
        for k in expected
        if k in found and tuple(found[k]) != tuple(expected[k])
    ]
    lines += [
        f"{k}: missing from the checkpoint"
        for k in expected
        if k not in found and k not in OPTIONAL_PARAMETERS
    ]
    lines += [f"{k}: in the checkpoint, not in the model" for k in found if k not in expected]
    hidden = len(lines) - SHOWN_DIFFERENCES
    return "\n  ".join(lines[:SHOWN_DIFFERENCES] + [f"and {hidden} more"] * (hidden > 0))


def _shape(checkpoint: StoredCheckpoint, shapes: Shapes, key: str, rank: int) -> tuple[int, ...]:
    if key not in shapes or len(shapes[key]) != rank or 0 in shapes[key]:
        known = {key: shapes[key]} if key in shapes else {}
        name = key
        if checkpoint.format == "hf":
            name, known = next(iter(shapes_in_hf({key: ()}))), shapes_in_hf(known)
        found = known.get(name, "none")
        raise DataError(f"{checkpoint.path}: {name}: found {found}, expected {rank} axes")
    return shapes[key]


def _count_layers(shapes: Shapes, stack: str) -> int:
    pattern = re.compile(rf"^{stack}/layers_(\d+)/")
    return len({match[1] for key in shapes if (match := pattern.match(key))})
