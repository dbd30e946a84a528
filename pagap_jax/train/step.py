"""The one update that every training job makes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pagap_jax.array_types import Scalar
from pagap_jax.train.state import TrainState

Metrics = dict[str, jax.Array]
# (params, batch, key) -> (mean loss, (number of what it is the mean of, metrics))
LossFunction = Callable[[Any, Any, jax.Array], tuple[jax.Array, tuple[jax.Array, Metrics]]]
# Metrics are means of what the loss is a mean of, but for these: sums, and means over all rows.
SUMS = ("tokens",)
OF_ROWS = ("ties", "prompt_truncated", "response_length", "share_finished")


@struct.dataclass
class Gradients:
    """Of a mean loss over a batch or a microbatch.

    Attributes:
        weight: what the mean counts: tokens, or pairs.
        rest: whatever else is known of each row of the batch.
    """

    loss: Any  # arrays of rank 0, or their shapes
    weight: Any
    metrics: dict[str, Any]
    gradients: Any
    rest: Any = None


def over_microbatches(
    compute: Callable[[Any, jax.Array], Gradients], batch: Any, key: jax.Array, number: int
) -> Gradients:
    """Gradients of the whole batch's mean loss, of `number` parts that are computed in turn.

    Memory is that of a part, and one more copy of the gradients. The parts take alternate rows, so
    that each is spread over all devices as the batch is; they draw with keys of their own.
    """
    if number == 1:
        return compute(batch, key)
    parts = jax.tree.map(lambda x: x.reshape(-1, number, *x.shape[1:]).swapaxes(0, 1), batch)

    structure = None

    def add(sums: Gradients, part: tuple[Any, jax.Array]) -> tuple[Gradients, list]:
        nonlocal structure
        rows, index = part
        found = compute(rows, jax.random.fold_in(key, index))
        # As leaves: a class may check the shapes that it is made of, and these get an axis more.
        leaves, structure = jax.tree.flatten(found.rest)
        return jax.tree.map(jnp.add, sums, _weighted(found)), leaves

    first = jax.eval_shape(lambda: _weighted(compute(jax.tree.map(lambda x: x[0], parts), key)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
    sums, rest = jax.lax.scan(add, zeros, (parts, jnp.arange(number)))
    total = jnp.maximum(sums.weight, 1.0)
    metrics = {k: x / (_weight_of(k, total, number)) for k, x in sums.metrics.items()}
    assert structure is not None
    rest = structure.unflatten([x.swapaxes(0, 1).reshape(-1, *x.shape[2:]) for x in rest])
    gradients = jax.tree.map(lambda x: x / total, sums.gradients)
    return Gradients(sums.loss / total, sums.weight, metrics, gradients, rest)


def _weighted(found: Gradients) -> Gradients:
    """Sums of which the means are means of, without what is of single rows."""
    metrics = {k: x * _weight_of(k, found.weight, 1) for k, x in found.metrics.items()}
    gradients = jax.tree.map(lambda x: x * found.weight, found.gradients)
    return Gradients(found.loss * found.weight, found.weight, metrics, gradients)


def _weight_of(metric: str, weight: Any, number: int) -> Any:
    """Of a part, or of `number` parts together, in a sum over parts."""
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
    key: jax.Array,
    *,
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    num_microbatches: int = 1,
) -> tuple[TrainState, Metrics]:
    """Gradient of a loss on a batch, and the update. Randomness comes of (key, state.step)."""
    gradient = jax.value_and_grad(loss_function, has_aux=True)

    def compute(rows: Any, key: jax.Array) -> Gradients:
        (loss, (weight, metrics)), gradients = gradient(state.params, rows, key)
        return Gradients(loss, weight, metrics, gradients)

    step_key = jax.random.fold_in(key, state.step)
    found = over_microbatches(compute, batch, step_key, num_microbatches)
    state, norms = apply_gradients(state, found.gradients, learning_rate, optimizer)
    return state, {"loss": found.loss, **found.metrics, **norms}
