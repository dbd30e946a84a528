"""Optimizers at a rate of one, and the schedule of rates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from pagap_jax.losses.log_probs import token_log_probs
from pagap_jax.model.sharding import make_mesh
from pagap_jax.streams import Purpose
from pagap_jax.train.optimizer import LearningRate, adafactor, adam
from pagap_jax.train.state import abstract_params, abstract_state
from pagap_jax.train.step import supervised_step
from pagap_jax.train.supervised import continued_state
from tests.fixtures import t5x


def test_constant_rate():
    assert [LearningRate(3e-4).at(step) for step in (0, 1, 10**6)] == [np.float32(3e-4)] * 3


def test_linear_warm_up():
    """Update n of 4 has n quarters of the peak: no update is lost to a rate of 0."""
    rate = LearningRate(2.0, warmup_steps=4)
    assert [rate.at(step) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert rate.at(0).dtype == np.float32


def test_cosine_decay():
    rate = LearningRate(2.0, decay_steps=10, final_fraction=0.25)
    np.testing.assert_allclose(
        [rate.at(step) for step in (0, 5, 10, 99)], [2.0, 2.0 * (1 + 0.25) / 2, 0.5, 0.5]
    )
    both = LearningRate(2.0, warmup_steps=4, decay_steps=10)
    np.testing.assert_allclose(both.at(1), 2.0 * 0.5 * 0.5 * (1 + np.cos(0.1 * np.pi)), rtol=1e-6)


def test_adam_against_numpy():
    """Kingma & Ba's update at a rate of one, with the house's b2 of 0.99."""
    generator = np.random.default_rng(0)
    gradients = generator.normal(size=(3, 5)).astype(np.float32)
    optimizer, m, v = adam(), np.zeros(5), np.zeros(5)
    state = optimizer.init(np.zeros(5, np.float32))
    for t, gradient in enumerate(gradients, start=1):
        update, state = optimizer.update(gradient, state)
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient.astype(np.float64) ** 2
        expected = -(m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
        np.testing.assert_allclose(update, expected, rtol=1e-5)


@pytest.mark.parametrize("name", t5x.NAMES)
def test_adafactor_is_t5x_s(name):
    """Three steps of a T5X run, from its own optimizer state at step 10."""
    example = t5x.t5x_example(name)
    expected = t5x.read_arrays(t5x.DIRECTORY / name / "adafactor_3_steps.npz")
    optimizer, rate, mesh = adafactor(), np.float32(1e-3), make_mesh(8)

    def loss_function(params, batch, key):
        logits = example.transformer.apply({"params": params}, *batch)
        return -jnp.sum(token_log_probs(logits, batch[2])) / jnp.sum(batch[2] > 0), (1.0, {})

    step = jax.jit(
        functools.partial(supervised_step, loss_function=loss_function, optimizer=optimizer)
    )
    abstract = abstract_state(abstract_params(example.transformer, mesh), optimizer, mesh)
    state = continued_state(str(t5x.DIRECTORY / name / "checkpoint_10"), abstract)
    assert int(state.step) == 10
    losses = []
    for _ in range(4):
        previous = state
        state, metrics = step(state, example.batch, rate, {Purpose.DROPOUT: jax.random.key(0)})
        losses.append(metrics["loss"])
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-5)
    ours = traverse_util.flatten_dict(previous.params, sep="/")
    assert {f"params/{key}" for key in ours} | {"losses"} == expected.keys()
    for key, found in ours.items():
        scale = np.max(np.abs(expected[f"params/{key}"]))
        np.testing.assert_allclose(
            found, expected[f"params/{key}"], rtol=1e-4, atol=1e-5 * scale, err_msg=key
        )
