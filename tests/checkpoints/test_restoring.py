"""Checkpoints of others onto devices: each slice read by itself, and a T5X run gone on with."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.checkpoints.restoring import restore_params, restore_t5x_state
from pagap_jax.errors import ConfigError
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.train.optimizer import adafactor, adam
from pagap_jax.train.state import abstract_params, abstract_state
from tests.fixtures import t5x

T5X = str(t5x.DIRECTORY / "t5_1_1_tiny" / "checkpoint_10")
HF = str(t5x.DIRECTORY.parent / "hf" / "t5_1_1_tiny")
CONFIG = t5x.t5x_example("t5_1_1_tiny").config


@pytest.mark.parametrize("num_partitions", [1, 2, 8])
@pytest.mark.parametrize("path", [T5X, HF])
def test_restores_straight_into_shards(path, num_partitions, monkeypatch):
    """Each device's slice is read by itself: nobody holds a whole array that is spread."""
    read: list[tuple[str, int]] = []
    mesh = make_mesh(num_partitions)
    abstract = abstract_params(Transformer(CONFIG), mesh)
    checkpoint = open_checkpoint(path)
    expected = {key: array.read() for key, array in checkpoint.params.items()}
    monkeypatch.setattr(
        "pagap_jax.checkpoints.restoring.open_checkpoint",
        lambda path: dataclasses.replace(
            checkpoint,
            params={k: counting(k, array, read) for k, array in checkpoint.params.items()},
        ),
    )
    restored = traverse_util.flatten_dict(restore_params(path, abstract), sep="/")
    for key, array in restored.items():
        np.testing.assert_array_equal(array, expected[key])
        wanted = traverse_util.flatten_dict(abstract, sep="/")[key].sharding
        assert array.sharding == wanted
    for key, size in read:
        assert size == np.prod(restored[key].sharding.shard_shape(restored[key].shape))


def counting(key, array, sizes):
    """The same array, noting what is read of it."""

    def read_slice(index):
        part = array.read_slice(index)
        sizes.append((key, part.size))
        return part

    return dataclasses.replace(array, read_slice=read_slice)


def test_a_t5x_run_goes_on_where_it_stopped():
    """Moments, count and step; Adam's state it can't be."""
    mesh = make_mesh(8)
    abstract = abstract_params(Transformer(CONFIG), mesh)
    state = abstract_state(abstract, adafactor(), mesh)
    params, opt_state, step = restore_t5x_state(T5X, state.params, state.opt_state)
    assert step == int(optax.tree.get(opt_state, "count")) == 10
    for x, wanted in zip(jax.tree.leaves(opt_state), jax.tree.leaves(state.opt_state), strict=True):
        assert (x.shape, x.dtype, x.sharding) == (wanted.shape, wanted.dtype, wanted.sharding)
    expected = t5x.t5x_example("t5_1_1_tiny").params
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    state = abstract_state(abstract, adam(), mesh)
    with pytest.raises(ConfigError, match="holds Adafactor's state, OPTIMIZER is another"):
        restore_t5x_state(T5X, state.params, state.opt_state)
    with pytest.raises(ConfigError, match="holds no optimizer state to go on with"):
        restore_t5x_state(HF, state.params, state.opt_state)


def test_another_model_is_refused_with_the_first_parameters_that_differ():
    config = dataclasses.replace(CONFIG, mlp_dim=128, num_encoder_layers=3)
    abstract = abstract_params(Transformer(config), make_mesh(8))
    with pytest.raises(ConfigError) as caught:
        restore_params(T5X, abstract)
    message = str(caught.value)
    assert "is a checkpoint of another model" in message
    assert "the checkpoint has (32, 64), the model (32, 128)" in message and "more" in message
