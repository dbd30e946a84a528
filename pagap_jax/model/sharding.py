"""Logical axes to mesh axes: one table, T5X's standard rules."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import gin
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pagap_jax.array_types import AnyArray
from pagap_jax.errors import ConfigError

# T5X's standard_logical_axis_rules at activation and parameter partitioning dims of 1.
LOGICAL_AXIS_RULES: dict[str, str | None] = {
    "batch": "data",
    "vocab": "model",
    "embed": None,
    "mlp": "model",
    "heads": "model",
    "kv": None,
    "joined_kv": "model",
    "relpos_buckets": None,
    "segments": None,
    "samples": None,
    "length": None,
}


@gin.configurable
def make_mesh(num_partitions: int = 1) -> Mesh:
    """All devices as a ('data', 'model') mesh.

    Args:
        num_partitions: devices that share one copy of the model, T5X's `num_partitions`.

    Raises:
        ConfigError: the number of devices isn't a multiple of `num_partitions`.
    """
    devices = jax.device_count()
    if num_partitions < 1 or devices % num_partitions:
        raise ConfigError(f"num_partitions={num_partitions} doesn't divide the {devices} devices")
    return jax.make_mesh(
        (devices // num_partitions, num_partitions),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
    )


def partition_spec(
    axes: Sequence[str | None], shape: Sequence[int], mesh_shape: Any
) -> PartitionSpec:
    """The mesh axes of an array with these logical axes.

    An axis that its mesh axis doesn't divide stays whole, so that two heads run on eight devices.
    """
    spec = []
    for axis, size in zip(axes, shape, strict=True):
        mesh_axis = LOGICAL_AXIS_RULES[axis] if axis is not None else None
        spec.append(mesh_axis if mesh_axis and size % mesh_shape[mesh_axis] == 0 else None)
    return PartitionSpec(*spec)


def num_devices() -> int:
    """Of the surrounding `jax.set_mesh`; outside of one, 1."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.size


def num_shards(axis: str, size: int) -> int:
    """Into how many pieces the surrounding `jax.set_mesh` cuts an axis of this size."""
    mesh = jax.sharding.get_abstract_mesh()
    (mesh_axis,) = partition_spec([axis], [size], mesh.shape) if not mesh.empty else (None,)
    return mesh.shape[mesh_axis] if mesh_axis else 1


def constrain(x: AnyArray, *axes: str | None) -> AnyArray:
    """Pin an activation to the mesh of the surrounding `jax.set_mesh`; outside of one, nothing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(axes, x.shape, mesh.shape))


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
    """Rows spread over the 'data' axis."""
    return NamedSharding(mesh, PartitionSpec(LOGICAL_AXIS_RULES["batch"]))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ConfigError where a batch is none, or can't be spread evenly over the data axis."""
    rows = mesh.shape["data"]
    if batch_size < 1:
        raise ConfigError(f"BATCH_SIZE: found {batch_size}, expected 1 or more")
    if batch_size % rows:
        raise ConfigError(f"BATCH_SIZE={batch_size} isn't a multiple of the {rows} data shards")


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Host arrays, the same on every process, to device arrays spread over the data axis."""
    sharding = batch_sharding(mesh)

    def put(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, batch)
