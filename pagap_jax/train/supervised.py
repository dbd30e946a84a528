"""Training on batches from the host: what SFT, preference models and pretraining share."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from pagap_jax.array_types import Scalar
from pagap_jax.checkpoints.restoring import restore_params, restore_t5x_state
from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.errors import ConfigError
from pagap_jax.model.sharding import batch_sharding, check_batch_size, put_batch, replicated
from pagap_jax.model.transformer import Transformer
from pagap_jax.run_directory import RunDirectory
from pagap_jax.streams import Purpose, key_for
from pagap_jax.train.loop import TrainLoop, Validator
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.prefetch import Prefetch
from pagap_jax.train.state import abstract_params, abstract_state, init_params, init_state
from pagap_jax.train.step import Keys, LossFunction, supervised_step

Batch = dict[str, np.ndarray]


def initial_params(
    transformer: Transformer, initial_checkpoint_path: str | None, seed: int, mesh: Mesh
) -> Any:
    """Parameters of a checkpoint, or random ones where None is given."""
    if initial_checkpoint_path is None:
        return init_params(transformer, key_for(seed, Purpose.PARAMETERS), mesh)
    return restore_params(initial_checkpoint_path, abstract_params(transformer, mesh))


def continued_state(path: str | None, abstract: TrainState) -> TrainState:
    """The state in which a T5X run stopped.

    Raises:
        ConfigError: there is no T5X run, or it holds no state of this optimizer.
    """
    if path is None:
        raise ConfigError("CONTINUE_TRAINING needs INITIAL_CHECKPOINT_PATH, a T5X checkpoint")
    params, opt_state, step = restore_t5x_state(path, abstract.params, abstract.opt_state)
    return TrainState(jax.device_put(np.int32(step), abstract.step.sharding), params, opt_state)


def compile_supervised_step(
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    num_microbatches: int,
    abstract: TrainState,
    mesh: Mesh,
) -> Callable:
    """Jits the update `(state, batch, learning_rate, keys)` with explicit shardings.

    Keys are arguments, not constants: runs of other seeds find this program compiled.
    """
    state_shardings = jax.tree.map(lambda x: x.sharding, abstract)

    def update(state: TrainState, batch: Any, learning_rate: Scalar, keys: Keys) -> tuple:
        return supervised_step(
            state,
            batch,
            learning_rate,
            keys,
            loss_function=loss_function,
            optimizer=optimizer,
            num_microbatches=num_microbatches,
        )

    return jax.jit(
        update,
        in_shardings=(state_shardings, batch_sharding(mesh), *[replicated(mesh)] * 2),
        out_shardings=(state_shardings, replicated(mesh)),
        donate_argnums=0,
    )


def train_supervised(
    run: RunDirectory,
    *,
    transformer: Transformer,
    mesh: Mesh,
    loss_function: LossFunction,
    purposes: Sequence[Purpose],
    batch_at: Callable[[int], Batch],
    batch_size: int,
    num_microbatches: int = 1,
    optimizer: optax.GradientTransformation,
    learning_rate: LearningRate,
    loop: TrainLoop,
    seed: int,
    initial_checkpoint_path: str | None,
    continue_training: bool = False,
    validator: Validator | None = None,
) -> TrainState:
    """Trains to the end and returns the state that is used: the last, or a validator's best.

    Args:
        purposes: what the loss draws random numbers for.
        batch_at: the batch of a step, a function of the step alone: arrays with the batch first.
        seed: of initial parameters (where random) and of what the loss draws.
        continue_training: takes step and optimizer state as well from the initial checkpoint, a
            T5X run's; `loop.train_steps` counts its steps too.
    """
    check_batch_size(batch_size, mesh, num_microbatches)
    params = abstract_params(transformer, mesh)
    abstract = abstract_state(params, optimizer, mesh)
    keys = {purpose: key_for(seed, purpose) for purpose in purposes}
    step_function = compile_supervised_step(
        loss_function, optimizer, num_microbatches, abstract, mesh
    )
    batches = Prefetch(lambda index: put_batch(batch_at(index), mesh), loop.train_steps)

    def step(state: TrainState, index: int):
        state, metrics = step_function(state, batches(index), learning_rate.at(index), keys)
        return state, metrics, None

    def fresh_state() -> TrainState:
        if continue_training:
            return continued_state(initial_checkpoint_path, abstract)
        return init_state(
            initial_params(transformer, initial_checkpoint_path, seed, mesh), optimizer, mesh
        )

    with jax.set_mesh(mesh):
        return loop.run(run, fresh_state, abstract, step, validator=validator)
