"""Parameters of any checkpoint onto the devices, each process reading its own slices only."""

import concurrent.futures
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util

from pagap_jax.checkpoints.architecture import OPTIONAL_PARAMETERS, differences
from pagap_jax.checkpoints.opening import check_params, open_checkpoint
from pagap_jax.checkpoints.stored import Format, Index, StoredArray, StoredCheckpoint
from pagap_jax.checkpoints.t5x import NO_MOMENT
from pagap_jax.errors import ConfigError

READERS = 8  # arrays read at the same time: buckets answer slowly


def restore_params(path: str, abstract: Any) -> Any:
    """Parameters of a checkpoint of any format, straight into the shardings of `abstract`.

    Raises:
        ConfigError: the checkpoint isn't of this model; names the first parameters that differ.
        DataError: it is damaged.
    """
    check_params(path)
    return _params(open_checkpoint(path), abstract)


def restore_t5x_state(path: str, params: Any, opt_state: Any) -> tuple[Any, Any, int]:
    """Parameters, Adafactor's state and step of a T5X run, to go on where it stopped.

    Args:
        params: abstract, with shardings.
        opt_state: the same, of `adafactor`.

    Raises:
        ConfigError: it has no state of Adafactor, or that of another model.
    """
    check_params(path)
    checkpoint = open_checkpoint(path)
    if checkpoint.step is None or not checkpoint.optimizer:
        raise ConfigError(
            f"{path} holds no optimizer state to go on with: expected a T5X checkpoint of"
            " unstacked layers that was trained with Adafactor"
        )
    if any(
        k.endswith("/m") and x.shape != NO_MOMENT.shape for k, x in checkpoint.optimizer.items()
    ):
        raise ConfigError(f"{path} holds Adafactor's momentum (beta1), expected a state without")
    moments = {}
    for name in ("v", "v_row", "v_col"):
        expected = optax.tree.get(opt_state, name)
        if expected is None:
            raise ConfigError(f"{path} holds Adafactor's state, OPTIMIZER is another")
        flat = traverse_util.flatten_dict(expected, sep="/")
        keyed = {f"{key}/{name}": leaf for key, leaf in flat.items()}
        found = {key: checkpoint.optimizer[key] for key in keyed if key in checkpoint.optimizer}
        _check_same(f"{path}: optimizer", keyed, found)
        placed = _placed(keyed, found)
        tree = {key.removesuffix(f"/{name}"): array for key, array in placed.items()}
        moments[name] = traverse_util.unflatten_dict(tree, sep="/")
    counter = optax.tree.get(opt_state, "count")
    count = jax.device_put(np.asarray(checkpoint.step, counter.dtype), counter.sharding)
    state = optax.tree.set(opt_state, **moments, count=count)
    return _params(checkpoint, params), state, checkpoint.step


def _params(checkpoint: StoredCheckpoint, abstract: Any) -> Any:
    expected = traverse_util.flatten_dict(abstract, sep="/")
    _check_same(checkpoint.path, expected, checkpoint.params, checkpoint.format)
    found = dict(checkpoint.params)
    for key in OPTIONAL_PARAMETERS:
        if key in expected and key not in found:
            found[key] = StoredArray.of(np.zeros(expected[key].shape, expected[key].dtype))
    return traverse_util.unflatten_dict(_placed(expected, found), sep="/")


def _check_same(
    path: str, expected: Mapping[str, Any], found: Mapping[str, Any], format: Format = "t5x"
) -> None:
    different = differences(
        {key: leaf.shape for key, leaf in expected.items()},
        {key: array.shape for key, array in found.items()},
        format,
    )
    if different:
        raise ConfigError(f"{path} is a checkpoint of another model:\n  {different}")


def _placed(expected: Mapping[str, Any], found: Mapping[str, StoredArray]) -> dict[str, jax.Array]:
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        arrays = pool.map(lambda key: _place(expected[key], found[key]), expected)
        return dict(zip(expected, arrays, strict=True))


def _place(leaf: Any, stored: StoredArray) -> jax.Array:
    slices: dict[str, np.ndarray] = {}  # devices that hold the same slice share one reading

    def read(index: Index | None) -> np.ndarray:
        index = index or ()
        if str(index) not in slices:
            slices[str(index)] = np.asarray(stored.read_slice(index), leaf.dtype)
        return slices[str(index)]

    return jax.make_array_from_callback(leaf.shape, leaf.sharding, read)
