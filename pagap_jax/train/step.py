"""The one update that every training job makes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pagap_jax.array_types import Scalar
from pagap_jax.train.state import TrainState

Metrics = dict[str, jax.Array]
# (params, batch, key) -> (loss, metrics)
LossFunction = Callable[[Any, Any, jax.Array], tuple[jax.Array, Metrics]]


def apply_gradients(
    state: TrainState,
    gradients: Any,
    learning_rate: Scalar,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """The state after one update, and the norms that tell whether it was a sane one."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    updates = jax.tree.map(lambda u: learning_rate * u, updates)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "gradient_norm": optax.tree.norm(gradients),
        "update_norm": optax.tree.norm(updates),
        "learning_rate": jnp.asarray(learning_rate, jnp.float32),
    }
    return TrainState(state.step + 1, params, opt_state), metrics


def supervised_step(
    state: TrainState,
    batch: Any,
    learning_rate: Scalar,
    key: jax.Array,
    *,
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """Gradient of a loss on a batch, and the update. Randomness comes of (key, state.step)."""
    step_key = jax.random.fold_in(key, state.step)
    gradient = jax.value_and_grad(loss_function, has_aux=True)
    (loss, metrics), gradients = gradient(state.params, batch, step_key)
    state, norms = apply_gradients(state, gradients, learning_rate, optimizer)
    return state, {"loss": loss, **metrics, **norms}
