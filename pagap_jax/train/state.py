"""What a training job is between two steps, and how it comes to be."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import meta
from jax.sharding import Mesh

from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.model.sharding import parameter_shardings, replicated
from pagap_jax.model.transformer import Transformer


def abstract_params(transformer: Transformer, mesh: Mesh, dtype: str = "float32") -> Any:
    """Shapes, dtypes and shardings of the parameters, before any of them exists.

    Args:
        dtype: of the layers. Embeddings and logits are float32 always, as they are computed with.
    """
    boxed = _boxed_shapes(transformer)
    shardings = parameter_shardings(boxed, mesh)

    def abstract(path: tuple, x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        is_of_layers = "layers_" in jax.tree_util.keystr(path)
        return jax.ShapeDtypeStruct(x.shape, dtype if is_of_layers else x.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(abstract, meta.unbox(boxed), shardings)


def number_of_parameters(params: Any) -> int:
    """Number of parameters in a tree, abstract or not."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def init_params(transformer: Transformer, key: jax.Array, mesh: Mesh) -> Any:
    """Random parameters, made on their own devices."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_params(transformer, mesh))
    init = jax.jit(lambda key: meta.unbox(_init_boxed(transformer, key)), out_shardings=shardings)
    return init(key)


def abstract_state(params: Any, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The state's shapes and shardings; moments lie where their parameters lie.

    Args:
        params: abstract parameters with shardings.
    """
    opt_state = jax.eval_shape(optimizer.init, params)
    # Adam's moments have their parameter's shape; Adafactor's factors are small: whole everywhere.
    opt_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda x, p: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=p.sharding if x.shape == p.shape else replicated(mesh)
        ),
        opt_state,
        params,
        transform_non_params=lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=replicated(mesh)
        ),
    )
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))
    return TrainState(step, params, opt_state)


def init_state(params: Any, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """State at step 0 around given parameters."""
    abstract = abstract_state(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params),
        optimizer,
        mesh,
    )
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    # The parameters are copied: the step donates its state, and the caller may keep `params`.
    start = jax.jit(
        lambda params: TrainState(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params), optimizer.init(params)
        ),
        out_shardings=shardings,
    )
    return start(params)


@functools.lru_cache(maxsize=8)  # a job asks several times, and each layer is traced
def _boxed_shapes(transformer: Transformer) -> Any:
    return jax.eval_shape(lambda: _init_boxed(transformer, jax.random.key(0)))


def _init_boxed(transformer: Transformer, key: jax.Array) -> Any:
    tokens = jnp.ones((1, 1), jnp.int32)
    return transformer.init(key, tokens, tokens, tokens)["params"]
