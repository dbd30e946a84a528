"""The one update that every training job makes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pagap_jax.array_types import Scalar
from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.streams import Purpose

Metrics = dict[str, jax.Array]
Keys = Mapping[Purpose, jax.Array]  # of a step, by what is drawn with them
# (params, batch, keys) -> (mean loss, (number of what it is the mean of, metrics))
LossFunction = Callable[[Any, Any, Keys], tuple[jax.Array, tuple[jax.Array, Metrics]]]
# Metrics are averaged with the loss's weights, except these: sums, and means over all rows.
SUMS = ("tokens", "pairs")
OF_ROWS = ("ties", "prompt_truncated", "response_length", "share_finished", "kl", "log_ratio")


@struct.dataclass
class Gradients:
    """Gradients of a mean loss over a batch or a microbatch.

    Attributes:
        weight: what the mean counts: tokens, or pairs.
    """

    loss: Any  # arrays of rank 0, or their shapes
    weight: Any
    metrics: dict[str, Any]
    gradients: Any


def over_microbatches(
    compute: Callable[[Any, Any], Gradients], batch: Any, keys: Any, number: int
) -> Gradients:
    """Gradients of the whole batch's mean loss, of `number` parts that are computed in turn.

    Memory is that of a part, and one more copy of the gradients. The parts take alternate rows, so
    that each is spread over all devices as the batch is; they draw with keys of their own.

    Args:
        keys: of the step, one or a tree of them.
    """
    if number == 1:
        return compute(batch, keys)
    parts = alternate_rows(batch, number)

    def add(sums: Gradients, part: tuple[Any, jax.Array]) -> tuple[Gradients, None]:
        rows, index = part
        return jax.tree.map(jnp.add, sums, _weighted(compute(rows, folded(keys, index)))), None

    first = jax.eval_shape(lambda: _weighted(compute(jax.tree.map(lambda x: x[0], parts), keys)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    sums, _ = jax.lax.scan(add, zeros, (parts, jnp.arange(number)))
    total = jnp.maximum(sums.weight, 1.0)
    metrics = {k: x / (_weight_of(k, total, number)) for k, x in sums.metrics.items()}
    gradients = jax.tree.map(lambda x: x / total, sums.gradients)
    return Gradients(sums.loss / total, sums.weight, metrics, gradients)


def alternate_rows(tree: Any, number: int) -> Any:
    """Arrays [B, ...] as [number, B / number, ...]: part i has the rows i, i + number and so on."""
    return jax.tree.map(lambda x: x.reshape(-1, number, *x.shape[1:]).swapaxes(0, 1), tree)


def rows_in_order(tree: Any) -> Any:
    """Undoes `alternate_rows`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def folded(keys: Any, number: Any) -> Any:
    """Every key of a tree with a number folded in: a step's, a microbatch's."""
    return jax.tree.map(lambda key: jax.random.fold_in(key, number), keys)


def _weighted(found: Gradients) -> Gradients:
    """Undoes the averaging: multiplies by the weight."""
    metrics = {k: x * _weight_of(k, found.weight, 1) for k, x in found.metrics.items()}
    gradients = jax.tree.map(lambda x: x * found.weight, found.gradients)
    return Gradients(found.loss * found.weight, found.weight, metrics, gradients)


def _weight_of(metric: str, weight: Any, number: int) -> Any:
    """Weight of a metric where `number` microbatches are summed."""
    return 1 if metric in SUMS else number if metric in OF_ROWS else weight


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
    keys: Keys,
    *,
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    num_microbatches: int = 1,
) -> tuple[TrainState, Metrics]:
    """Gradient of a loss on a batch, and the update. Randomness comes of (keys, state.step)."""
    gradient = jax.value_and_grad(loss_function, has_aux=True)

    def compute(rows: Any, keys: Keys) -> Gradients:
        (loss, (weight, metrics)), gradients = gradient(state.params, rows, keys)
        return Gradients(loss, weight, metrics, gradients)

    found = over_microbatches(compute, batch, folded(keys, state.step), num_microbatches)
    state, norms = apply_gradients(state, found.gradients, learning_rate, optimizer)
    return state, {"loss": found.loss, **found.metrics, **norms}
