"""A stack of equal layers: one after another, or compiled once and scanned over.

Parameters are one entry a layer in either way, as T5X names them, in checkpoints, in the optimizer
(Adafactor factors each layer's moments) and in the sampler, which reads each layer's own arrays. A
scan stacks them as it starts: a copy in the activations' type, for a program that compiles in a
fraction of the time.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pagap_jax.array_types import AnyArray
from pagap_jax.model.config import T5Config

# What the backward pass finds saved of a layer, by T5X's names; all else it computes again.
REMAT_POLICIES = {
    "minimal": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
        jax.checkpoint_policies.save_only_these_names("attended", "attention_sums"),
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}


def through_layers(stack: nn.Module, x: AnyArray, *shared: Any) -> AnyArray:
    """`x` through `stack.layers`, as the config's `scan_layers` and `remat_policy` say.

    Args:
        shared: what every layer is given beside `x`; ends with whether nothing is dropped.
    """
    config: T5Config = stack.config
    layers = stack.layers
    if stack.is_initializing() or not (config.scan_layers or config.remat_policy != "none"):
        for layer in layers:
            x = layer(x, *shared)
        return x
    dropout_key = None if shared[-1] else stack.make_rng("dropout")
    layer = layers[0].clone(parent=None, name=None)

    def apply(x: AnyArray, params_and_number: tuple[Any, Any]) -> tuple[AnyArray, None]:
        params, number = params_and_number
        rngs = {} if dropout_key is None else {"dropout": jax.random.fold_in(dropout_key, number)}
        return layer.apply({"params": params}, x, *shared, rngs=rngs), None

    if config.remat_policy != "none":
        policy = REMAT_POLICIES[config.remat_policy]
        apply = jax.checkpoint(apply, policy=policy, prevent_cse=not config.scan_layers)
    trees = [layer.variables["params"] for layer in layers]
    if config.scan_layers:
        cast = [jax.tree.map(lambda x: jnp.asarray(x, config.dtype), tree) for tree in trees]
        stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *cast)
        x, _ = jax.lax.scan(apply, x, (stacked, jnp.arange(len(trees))))
        return x
    for number, params in enumerate(trees):
        x, _ = apply(x, (params, number))
    return x
