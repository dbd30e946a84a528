"""Logical axes to mesh axes: one table, T5X's standard rules."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import gin
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from pagap_jax.array_types import AnyArray
from pagap_jax.errors import ConfigError
from pagap_jax.ranges import Count, Dims

BATCH_AXES = ("slice", "data")  # of the mesh; 'slice' only where there are several
# Axes of size 1 of a mesh that is for other rules: they go wherever the mesh goes, into traces too.
MARKS = ("activations_2d", "parameters_2d")
WHOLE = ("kv", "relpos_buckets", "segments", "samples", "length")  # never cut

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]


def logical_axis_rules(
    activation_partitioning_dims: int = 1, parameter_partitioning_dims: int = 1
) -> Rules:
    """T5X's four sets of rules: logical axes to mesh axes, in order of precedence.

    Args:
        activation_partitioning_dims: 2 cuts activations by 'model' between layers as well.
        parameter_partitioning_dims: 2 cuts parameters by 'data' as well: fully sharded.

    Raises:
        ConfigError: one is neither 1 nor 2.
    """
    dims = (activation_partitioning_dims, parameter_partitioning_dims)
    if not {*dims} <= {1, 2}:
        raise ConfigError(
            "activation_partitioning_dims, parameter_partitioning_dims: found"
            f" {dims[0]}, {dims[1]}, expected 1 or 2"
        )
    cut = [(axis, "model") for axis in ("vocab", "mlp", "heads", "joined_kv")]
    embed = [("embed", "model")] * (dims[0] - 1) + [("embed", "data")] * (dims[1] - 1)
    # A logical axis takes the first mesh axis of its rules that its array hasn't used yet.
    return (("batch", BATCH_AXES), *cut, *embed, *[(axis, None) for axis in (*WHOLE, "embed")])


def mesh_shape(num_devices: int, num_partitions: int = 1, num_slices: int = 1) -> dict[str, int]:
    """Sizes of a mesh's axes, by name: 'slice' where there are several, 'data', 'model'.

    Raises:
        ConfigError: the number of devices isn't a multiple of slices and partitions.
    """
    if num_slices < 1 or num_devices % num_slices:
        raise ConfigError(f"num_slices={num_slices} doesn't divide the {num_devices} devices")
    within = num_devices // num_slices
    if num_partitions < 1 or within % num_partitions:
        raise ConfigError(f"num_partitions={num_partitions} doesn't divide the {within} devices")
    shape = {"data": within // num_partitions, "model": num_partitions}
    return {"slice": num_slices, **shape} if num_slices > 1 else shape


def rules_of(mesh_shape: Mapping[str, int]) -> Rules:
    """Those that a mesh's marks ask for."""
    return logical_axis_rules(*(1 + (mark in mesh_shape) for mark in MARKS))


@gin.configurable(denylist=["devices"])
def make_mesh(
    num_partitions: Count = 1,
    num_slices: Count = 1,
    activation_partitioning_dims: Dims = 1,
    parameter_partitioning_dims: Dims = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """All devices as a ('data', 'model') mesh, marked with the rules that it is for (`MARKS`).

    Args:
        num_partitions: devices that share one copy of the model, T5X's `num_partitions`.
        num_slices: groups of chips without fast wires between them: a mesh axis 'slice' of its own,
            which batches are cut by and parameters are not.
        activation_partitioning_dims: see `logical_axis_rules`.
        parameter_partitioning_dims: see `logical_axis_rules`.
        devices: those of this launch where None is given.

    Raises:
        ConfigError: the number of devices isn't a multiple of the partitions.
    """
    dims = (activation_partitioning_dims, parameter_partitioning_dims)
    logical_axis_rules(*dims)  # checks them
    devices = jax.devices() if devices is None else devices
    shape = mesh_shape(len(devices), num_partitions, num_slices)
    shape |= {mark: 1 for mark, n in zip(MARKS, dims, strict=True) if n == 2}
    found = {device.slice_index for device in devices if hasattr(device, "slice_index")}
    if found and len(found) != num_slices:
        raise ConfigError(f"NUM_SLICES: found {num_slices}, expected {len(found)}: the slices here")
    sizes = tuple(shape.values())
    # An axis of 8 on a torus of 4 x 4 x 4 takes one and a half of its dimensions.
    split = {"allow_split_physical_axes": True}
    if num_slices == 1:
        grid = mesh_utils.create_device_mesh(sizes, devices, **split)
    elif hasattr(devices[0], "slice_index"):
        within, between = (1, *sizes[1:]), (num_slices, *[1] * len(sizes[1:]))
        grid = mesh_utils.create_hybrid_device_mesh(within, between, devices, **split)
    else:  # a rehearsal on CPUs, which are in no slice
        grid = np.reshape(np.asarray(devices), sizes)
    return Mesh(grid, tuple(shape), axis_types=(AxisType.Auto,) * len(shape))


def partition_spec(
    axes: Sequence[str | None], shape: Sequence[int], mesh_shape: Mapping[str, int]
) -> PartitionSpec:
    """The mesh axes of an array with these logical axes, by the rules that the mesh is for.

    An axis that its mesh axes don't divide stays whole, so that two heads run on eight devices.
    """
    rules = rules_of(mesh_shape)
    assert {*axes} - {None} <= {axis for axis, _ in rules}, axes
    spec: list[tuple[str, ...] | None] = []
    for cut, size in zip(nn.logical_to_mesh_axes(axes, rules), shape, strict=True):
        names = tuple(name for name in _names(cut) if name in mesh_shape)
        shards = math.prod(mesh_shape[name] for name in names)
        whole = not names or size % shards
        spec.append(None if whole else names)
    return PartitionSpec(*spec)


def _names(cut: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (cut,) if isinstance(cut, str) else cut or ()


def current_mesh_shape() -> Mapping[str, int]:
    """Sizes of the axes of the surrounding `jax.set_mesh`, by name; none outside of one."""
    return jax.sharding.get_abstract_mesh().shape


def is_for_tpu() -> bool:
    """Whether what is traced here is for TPUs: those of the mesh around, or else of this host."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is None:
        return jax.default_backend() == "tpu"
    return device.device_kind.startswith("TPU")


def num_devices() -> int:
    """Number of devices of the surrounding `jax.set_mesh`; outside of one, 1."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.size


def num_shards(axis: str, size: int) -> int:
    """Into how many pieces the surrounding `jax.set_mesh` cuts an axis of this size."""
    mesh = jax.sharding.get_abstract_mesh()
    (cut,) = partition_spec([axis], [size], mesh.shape) if not mesh.empty else (None,)
    return math.prod(mesh.shape[name] for name in _names(cut))


def constrain(x: AnyArray, *axes: str | None, num_heads: int | None = None) -> AnyArray:
    """Pin an activation to the mesh of the surrounding `jax.set_mesh`; outside of one, nothing.

    Args:
        num_heads: of the last axis, in which so many heads lie side by side: none is cut.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    shape = x.shape if num_heads is None else (*x.shape[:-1], num_heads)
    return jax.lax.with_sharding_constraint(x, partition_spec(axes, shape, mesh.shape))


def parameter_shardings(boxed: Any, mesh: Mesh) -> Any:
    """A sharding a parameter, from the logical axes that the modules declare.

    Args:
        boxed: abstract parameters with Flax's partitioning boxes, of `init` in `eval_shape`.
    """

    def sharding(leaf: Any) -> NamedSharding:
        if isinstance(leaf, nn.LogicallyPartitioned):
            return NamedSharding(mesh, partition_spec(leaf.names, leaf.value.shape, mesh.shape))
        return replicated(mesh)

    return jax.tree.map(
        sharding, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows spread over the 'data' axis of each slice."""
    return NamedSharding(mesh, PartitionSpec(tuple(n for n in BATCH_AXES if n in mesh.shape)))


def rows_of_process(batch_size: int, mesh: Mesh) -> np.ndarray:
    """bool[batch_size]: the rows of a batch that this process's devices hold."""
    mine = np.zeros(batch_size, bool)
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    for index in held.values():
        mine[index] = True
    return mine


def num_batch_shards(mesh: Mesh | AbstractMesh) -> int:
    """Into how many pieces a batch is cut."""
    return math.prod(mesh.shape[name] for name in BATCH_AXES if name in mesh.shape)


def check_batch_size(
    batch_size: int,
    mesh: Mesh | AbstractMesh,
    num_parts: int = 1,
    parts: str = "NUM_MICROBATCHES",
) -> None:
    """Raises ConfigError where a batch can't be spread evenly over the devices.

    Args:
        num_parts: into which it is cut, each of them spread over all devices.
        parts: the macro that says so.
    """
    shards = num_batch_shards(mesh)
    if batch_size % (shards * num_parts):
        of_parts = f" of each of {parts}={num_parts}" if num_parts > 1 else ""
        raise ConfigError(
            f"BATCH_SIZE={batch_size} isn't a multiple of the {shards} data shards{of_parts}"
        )


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Host arrays to device arrays spread over the data axis; of each, this process's rows."""
    sharding = batch_sharding(mesh)

    def put(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, batch)
