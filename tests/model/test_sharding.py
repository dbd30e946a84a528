"""Axes to meshes, and the same arithmetic on every mesh."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.online import OnlinePairs
from pagap_jax.align.step import AlignStep, FrozenModels, Reduction
from pagap_jax.errors import ConfigError
from pagap_jax.jobs.align import compile_align_step
from pagap_jax.jobs.sft import fine_tuning_loss
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.model.sharding import (
    batch_sharding,
    check_batch_size,
    constrain,
    logical_axis_rules,
    make_mesh,
    partition_spec,
    put_batch,
    replicated,
)
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.streams import Purpose
from pagap_jax.train.optimizer import adam
from pagap_jax.train.state import abstract_params, abstract_state, init_params, init_state
from pagap_jax.train.step import supervised_step
from tests.fixtures.tiny import CONFIG, JUDGE, POLICY, pair_batch, random_params

MESHES = [(8, 1), (4, 2), (1, 8)]  # 'data' x 'model'
PARAMS, REFERENCE, JUDGE_PARAMS = (random_params(CONFIG, seed) for seed in range(3))
KEY = jax.random.key(5)


def mesh_of(data: int, model: int) -> Mesh:
    """A mesh of the first `data` x `model` devices."""
    return jax.make_mesh(
        (data, model),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=jax.devices()[: data * model],
    )


def test_rules_are_t5x_s_standard_ones():
    """t5x/partitioning.py: standard_logical_axis_rules, by what they make of T5's arrays."""
    sharded = {
        # activation and parameter dims: kernel, embedding, scale, activation, heads
        (1, 1): ("- model", "model -", "-", "data - -", "data - model -"),
        (2, 1): ("- model", "model -", "model", "data - model", "data - model -"),
        (1, 2): ("data model", "model data", "data", "data - -", "data - model -"),
        (2, 2): ("data model", "model data", "model", "data - model", "data - model -"),
    }
    axes = (
        ("embed", "mlp"), ("vocab", "embed"), ("embed",),
        ("batch", "length", "embed"), ("batch", "length", "heads", "kv"),
    )  # fmt: skip
    for dims, expected in sharded.items():
        mesh = make_mesh(
            2, activation_partitioning_dims=dims[0], parameter_partitioning_dims=dims[1]
        )
        for names, spec in zip(axes, expected, strict=True):
            found = partition_spec(names, (8,) * len(names), mesh.shape)
            assert found == PartitionSpec(*[None if n == "-" else n for n in spec.split()]), dims
    with pytest.raises(ConfigError, match="found 3, 1, expected 1 or 2"):
        logical_axis_rules(3, 1)


def test_slices_cut_batches_and_not_parameters():
    mesh = make_mesh(2, num_slices=2, parameter_partitioning_dims=2)
    assert dict(mesh.shape) == {"slice": 2, "data": 2, "model": 2, "parameters_2d": 1}
    batch = partition_spec(("batch", "length"), (8, 8), mesh.shape)
    assert batch == PartitionSpec(("slice", "data"), None)
    assert batch_sharding(mesh).spec == PartitionSpec(("slice", "data"))
    assert partition_spec(("embed", "mlp"), (8, 8), mesh.shape) == PartitionSpec("data", "model")


def test_rules_go_with_the_mesh_into_traces():
    """Two meshes beside each other, each by its own; also where only a trace knows the mesh."""
    x = np.zeros((8, 8), np.float32)
    for dims, expected in ((1, PartitionSpec("data")), (2, PartitionSpec("data", "model"))):
        mesh = make_mesh(2, activation_partitioning_dims=dims)
        other = make_mesh(2, activation_partitioning_dims=3 - dims)
        with jax.set_mesh(mesh):
            y = jax.jit(lambda x: constrain(x, "batch", "embed"))(x)
        assert y.sharding.is_equivalent_to(NamedSharding(mesh, expected), 2)
        assert mesh.shape != other.shape


def test_an_axis_that_does_not_divide_stays_whole():
    shape = {"data": 4, "model": 2}
    axes = ("batch", "length", "heads", "kv")
    assert partition_spec(axes, (8, 5, 6, 3), shape) == PartitionSpec("data", None, "model", None)
    assert partition_spec(axes, (8, 5, 3, 3), shape) == PartitionSpec("data", None, None, None)
    assert partition_spec(axes, (6, 5, 6, 3), shape) == PartitionSpec(None, None, "model", None)
    with pytest.raises(AssertionError, match="no such axis"):
        partition_spec(("no such axis",), (2,), shape)


def test_make_mesh_takes_all_devices():
    assert dict(make_mesh(2).shape) == {"data": 4, "model": 2}
    assert dict(make_mesh().shape) == {"data": 8, "model": 1}
    for partitions in (3, 16):
        with pytest.raises(ConfigError, match="8 devices"):
            make_mesh(partitions)


def test_batch_must_divide():
    check_batch_size(8, mesh_of(4, 2))
    with pytest.raises(ConfigError, match="BATCH_SIZE=6 isn't a multiple of the 4"):
        check_batch_size(6, mesh_of(4, 2))


def test_put_batch_keeps_rows_in_order():
    mesh, x = mesh_of(4, 2), np.arange(24, dtype=np.int32).reshape(8, 3)
    placed = put_batch({"x": x}, mesh)["x"]
    np.testing.assert_array_equal(placed, x)
    for shard in placed.addressable_shards:  # 4 parts of 2 rows, each on 2 devices
        np.testing.assert_array_equal(shard.data, x[shard.index])
        assert shard.data.shape == (2, 3)


def test_constrain_follows_the_mesh_around():
    x = np.zeros((8, 6), np.float32)
    assert constrain(x, "batch", "embed") is x  # no mesh, nothing to do
    mesh = mesh_of(4, 2)
    with jax.set_mesh(mesh):
        y = jax.jit(lambda x: constrain(x, "batch", "mlp"))(x)
    assert y.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("data", "model")), 2)


def test_initial_parameters_lie_where_their_axes_say():
    mesh = mesh_of(4, 2)
    params = init_params(POLICY.transformer, jax.random.key(0), mesh)
    specs = {
        "token_embedder/embedding": PartitionSpec("model", None),
        "decoder/layers_0/self_attention/query/kernel": PartitionSpec(None, "model"),
        "decoder/layers_0/self_attention/out/kernel": PartitionSpec("model", None),
        "encoder/layers_0/mlp/wi_0/kernel": PartitionSpec(None, "model"),
        "encoder/relpos_bias/rel_embedding": PartitionSpec("model", None),
        "encoder/encoder_norm/scale": PartitionSpec(None),
    }
    for name, spec in specs.items():
        leaf = functools.reduce(lambda tree, key: tree[key], name.split("/"), params)
        assert leaf.sharding.is_equivalent_to(NamedSharding(mesh, spec), leaf.ndim), name
        assert leaf.dtype == np.float32
    state = init_state(params, adam(), mesh)
    for moment in (state.opt_state[0].mu, state.opt_state[0].nu):
        same = jax.tree.map(
            lambda m, p: m.sharding.is_equivalent_to(p.sharding, p.ndim), moment, params
        )
        assert all(jax.tree.leaves(same))
    # T5's initial scales: queries have 1 / sqrt(K) folded in.
    attention = params["encoder"]["layers_0"]["attention"]
    ratio = np.std(attention["key"]["kernel"]) / np.std(attention["query"]["kernel"])
    np.testing.assert_allclose(ratio, np.sqrt(CONFIG.head_dim), rtol=0.2)
    np.testing.assert_allclose(np.std(params["token_embedder"]["embedding"]), 1, rtol=0.2)
    assert (params["encoder"]["encoder_norm"]["scale"] == 1).all()


def place(params, mesh):
    """Host parameters where they belong on a mesh."""
    abstract = abstract_params(POLICY.transformer, mesh)
    return jax.tree.map(lambda x, a: jax.device_put(x, a.sharding), params, abstract)


def run_supervised(mesh):
    """Two updates of fine-tuning, as train/supervised.py jits them."""
    optimizer = adam()
    abstract = abstract_state(abstract_params(POLICY.transformer, mesh), optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    update = jax.jit(
        functools.partial(
            supervised_step,
            loss_function=functools.partial(fine_tuning_loss, POLICY),
            optimizer=optimizer,
        ),
        in_shardings=(shardings, batch_sharding(mesh), *[replicated(mesh)] * 2),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
    with jax.set_mesh(mesh):
        state = init_state(place(PARAMS, mesh), optimizer, mesh)
        history = []
        for seed in range(2):
            batch = put_batch(pair_batch(seed=seed), mesh)
            state, metrics = update(state, batch, np.float32(1e-3), {Purpose.DROPOUT: KEY})
            history.append(metrics)
    return jax.device_get((state.params, history))


def run_align(source, mesh):
    """Two updates of the align step, as its job jits them."""
    optimizer = adam()
    step = AlignStep(POLICY, source, AlignmentLoss.IPO, Reduction.SUM, optimizer)
    update = compile_align_step(step, mesh, source is not offline_pairs)
    with jax.set_mesh(mesh):
        state = init_state(place(PARAMS, mesh), optimizer, mesh)
        frozen = FrozenModels(place(REFERENCE, mesh), place(JUDGE_PARAMS, mesh))
        history = []
        for seed in range(2):
            batch = put_batch(pair_batch(seed=seed), mesh)
            rates = np.float32(1e-3), np.float32(0.1)
            state, metrics, pairs = update(state, batch, *rates, KEY, frozen)
            history.append((metrics, pairs))
    return jax.device_get((state.params, history))


RUNS = {
    "supervised": run_supervised,
    "offline": functools.partial(run_align, offline_pairs),
    "online": functools.partial(run_align, OnlinePairs(POLICY, JUDGE, SamplingMethod())),
}


@functools.cache
def on_one_device(name):
    return RUNS[name](mesh_of(1, 1))


@pytest.mark.parametrize("shape", MESHES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
@pytest.mark.parametrize("name", RUNS)
def test_eight_devices_compute_what_one_computes(name, shape):
    """Losses and updated parameters to 1e-5, samples and choices exactly."""
    expected, found = on_one_device(name), RUNS[name](mesh_of(*shape))
    leaves = jax.tree_util.tree_leaves_with_path(expected)
    for (path, one), eight in zip(leaves, jax.tree.leaves(found), strict=True):
        label = jax.tree_util.keystr(path)
        if np.issubdtype(one.dtype, np.floating):
            np.testing.assert_allclose(eight, one, rtol=1e-5, atol=1e-5, err_msg=label)
        else:
            np.testing.assert_array_equal(eight, one, err_msg=label)
    params, _ = found
    moved = jax.tree.map(lambda new, old: float(np.abs(new - old).max()), params, PARAMS)
    assert min(jax.tree.leaves(moved)) > 1e-4
