"""A run's checkpoints: the whole state, saved and restored by Orbax."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from pagap_jax.train.state import TrainState


class Checkpoints:
    """The checkpoints of one run. Only committed steps count; a killed save leaves none."""

    def __init__(
        self,
        directory: epath.PathLike,
        is_planned: Callable[[int], bool] = lambda step: True,
        max_to_keep: int | None = None,
        best_of: Callable[[Sequence[int]], int | None] = lambda steps: None,
    ):
        """Opens or makes the folder.

        Args:
            is_planned: steps that stay; another one (saved because the run was stopped) goes as
                soon as a later one is committed.
            max_to_keep: the newest planned steps that stay; None for all. Not left to Orbax, which
                would count the others too: a stopped run would keep other steps than an unstopped.
            best_of: which of some committed steps stays whatever its age; None for none.
        """
        self._is_planned = is_planned
        self._max_to_keep = max_to_keep
        self._best_of = best_of
        self._manager = ocp.CheckpointManager(
            epath.Path(directory).resolve(),
            options=ocp.CheckpointManagerOptions(create=True),
            item_names=("params", "optimizer", "metrics"),
        )

    def save(self, state: TrainState, step: int, pending: dict[str, Any] | None = None) -> None:
        """Starts saving; returns once the arrays are copied off the devices.

        Args:
            pending: metrics of steps that no row holds yet, as JSON takes them.
        """
        self._manager.wait_until_finished()
        self._delete_surplus()
        items: dict[str, Any] = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave({"opt_state": state.opt_state}),
        }
        if pending:
            items["metrics"] = ocp.args.JsonSave(pending)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def pending(self, step: int | None) -> dict[str, Any]:
        """What `save` was given beside the state."""
        if step is None or not (self._manager.directory / str(step) / "metrics").exists():
            return {}
        found = self._manager.restore(step, args=ocp.args.Composite(metrics=ocp.args.JsonRestore()))
        return found.metrics

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

    def best(self) -> int | None:
        """The committed step that is used whatever its age, if there is one."""
        self._manager.wait_until_finished()
        return self._best_of(sorted(self._manager.all_steps()))

    def end_with(self, step: int) -> None:
        """Deletes what is later than a step, which is then the run's last one.

        What doesn't stay beside the later ones goes first: also where they were closed in between.
        """
        self._manager.wait_until_finished()
        self._delete_surplus()
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def close(self) -> None:
        """Waits for saves under way."""
        self._manager.wait_until_finished()
        self._delete_surplus()
        self._manager.close()

    def _delete_surplus(self) -> None:
        """Deletes what isn't to stay; all that is listed is committed."""
        steps = sorted(self._manager.all_steps())
        planned = [step for step in steps if self._is_planned(step)]
        kept = {*planned[-(self._max_to_keep or len(steps)) :], *steps[-1:], self._best_of(steps)}
        for step in steps:
            if step not in kept:
                self._manager.delete(step)
