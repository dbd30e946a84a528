"""Orbax checkpoints: the whole state of a run, and parameters for whoever starts from one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util

from pagap_jax.errors import ConfigError
from pagap_jax.files import PACKAGED, located
from pagap_jax.run_directory import RUN_FILE, read_result
from pagap_jax.train.state import TrainState

# Parameters that a plain T5 doesn't have; they start at zero.
OPTIONAL_PARAMETERS = ("segment_embedder/embedding",)


class Checkpoints:
    """The checkpoints of one run. Only committed steps count; a killed save leaves none."""

    def __init__(
        self,
        directory: epath.PathLike,
        is_planned: Callable[[int], bool] = lambda step: True,
        max_to_keep: int | None = None,
    ):
        """Opens or makes the folder.

        Args:
            is_planned: steps that stay; another one (saved because the run was stopped) goes as
                soon as a later one is committed.
            max_to_keep: the newest planned steps that stay; None for all. Not left to Orbax, which
                would count the others too: a stopped run would keep other steps than an unstopped.
        """
        self._is_planned = is_planned
        self._max_to_keep = max_to_keep
        self._manager = ocp.CheckpointManager(
            epath.Path(directory).resolve(),
            options=ocp.CheckpointManagerOptions(create=True),
            item_names=("params", "optimizer"),
        )

    def save(self, state: TrainState, step: int) -> None:
        """Starts saving; returns once the arrays are copied off the devices."""
        self._manager.wait_until_finished()
        self._delete_surplus()
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                optimizer=ocp.args.StandardSave({"opt_state": state.opt_state}),
            ),
        )

    def latest(self) -> int | None:
        """The last committed step."""
        return self._manager.latest_step()

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state at a step, straight into the shardings of `abstract`."""
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(abstract.params),
                optimizer=ocp.args.StandardRestore({"opt_state": abstract.opt_state}),
            ),
        )
        counter = jax.device_put(jnp.asarray(step, jnp.int32), abstract.step.sharding)
        return TrainState(counter, restored.params, restored.optimizer["opt_state"])

    def close(self) -> None:
        """Waits for saves under way."""
        self._manager.wait_until_finished()
        self._delete_surplus()
        self._manager.close()

    def _delete_surplus(self) -> None:
        """Deletes what isn't to stay; all that is listed is committed."""
        steps = sorted(self._manager.all_steps())
        planned = [step for step in steps if self._is_planned(step)]
        kept = {*planned[-(self._max_to_keep or len(steps)) :], *steps[-1:]}
        for step in steps:
            if step not in kept:
                self._manager.delete(step)


def saved_steps(run: str) -> list[int]:
    """Committed steps of a run's folder, ascending."""
    folder = epath.Path(run) / "checkpoints"
    if not folder.exists():
        raise ConfigError(f"{run} holds no checkpoints")
    return sorted(ocp.utils.checkpoint_steps(folder))


def checkpoint_path(path: str) -> epath.Path:
    """The folder that holds 'params': of a step, of a run's last step, or of a packaged checkpoint.

    Raises:
        ConfigError: there is no checkpoint.
    """
    folder = located(path).resolve()
    if (folder / "checkpoints").exists():
        # Later checkpoints of a run under way would be another start under the same name.
        if (folder / RUN_FILE).exists() and read_result(folder) is None:
            raise ConfigError(
                f"{path} isn't finished: run its job to the end, or name one of its"
                " checkpoints/STEP"
            )
        steps = saved_steps(str(folder))
        if not steps:
            raise ConfigError(f"{path} holds no committed checkpoint yet")
        folder = folder / "checkpoints" / str(steps[-1])
    if not (folder / "params").exists():
        raise ConfigError(
            f"no checkpoint at {path}: expected a run's folder, one of its checkpoints/STEP,"
            f" or {PACKAGED}NAME"
        )
    return folder


def restore_params(path: str, abstract: Any) -> Any:
    """Parameters of a checkpoint, restored straight into the shardings of `abstract`.

    Raises:
        ConfigError: the checkpoint isn't of this model; names the first parameters that differ.
    """
    folder = checkpoint_path(path) / "params"
    expected = traverse_util.flatten_dict(abstract, sep="/")
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
        found = traverse_util.flatten_dict(tree, sep="/")
        absent = [k for k in OPTIONAL_PARAMETERS if k in expected and k not in found]
        _check_same_model(path, expected, found, absent)
        wanted = {k: v for k, v in expected.items() if k not in absent}
        restored = checkpointer.restore(folder, traverse_util.unflatten_dict(wanted, sep="/"))
    params = traverse_util.flatten_dict(restored, sep="/")
    for key in absent:
        zeros = jnp.zeros(expected[key].shape, expected[key].dtype)
        params[key] = jax.device_put(zeros, expected[key].sharding)
    return traverse_util.unflatten_dict({k: params[k] for k in expected}, sep="/")


def save_params(path: epath.PathLike, params: Any) -> None:
    """Parameters alone, as `restore_params` reads them; takes the place of what was there."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(epath.Path(path).resolve() / "params", params, force=True)


def _check_same_model(path: str, expected: dict, found: dict, absent: list[str]) -> None:
    lines = [
        f"{k}: the checkpoint has {tuple(found[k].shape)}, the model {expected[k].shape}"
        for k in expected
        if k in found and tuple(found[k].shape) != expected[k].shape
    ]
    lines += [
        f"{k}: missing from the checkpoint" for k in expected if k not in found and k not in absent
    ]
    lines += [f"{k}: in the checkpoint, not in the model" for k in found if k not in expected]
    if lines:
        more = f"\n  and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise ConfigError(
            f"{path} is a checkpoint of another model:\n  " + "\n  ".join(lines[:5]) + more
        )
