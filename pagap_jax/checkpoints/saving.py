"""A run's checkpoints: the whole state, saved and restored by Orbax."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from flax import struct

from pagap_jax.buckets import absolute, as_ours
from pagap_jax.checkpoints.digests import check_digests, write_digests
from pagap_jax.checkpoints.orbax import METADATA, OPTIMIZER, PARAMS, has_orbax_metadata
from pagap_jax.errors import ConfigError, DataError, NoRoomError, PagapError
from pagap_jax.files import read_json, room_for
from pagap_jax.processes import are_several, is_first

METRICS = "metrics"
_ASIDE = ".orbax-checkpoint-tmp"  # of a step under way; in a bucket it is where it will stay
MAX_FAILED_SAVES = 3  # without which a run goes on; the next one ends it


@struct.dataclass
class TrainState:
    """Parameters, optimizer state and the number of updates made. Nothing else is carried."""

    step: Any  # int32 []; like the rest, its shape or its sharding where a state is abstract
    params: Any
    opt_state: Any


@contextlib.contextmanager
def _rows_are_named(directory: epath.PathLike) -> Iterator[None]:
    """Where Orbax opens a folder, of which it reads all rows of metrics at once.

    Raises:
        DataError: one of them is damaged; names it.
    """
    try:
        yield
    except ValueError as error:
        for file in sorted(epath.Path(directory).glob(f"*/{METRICS}/{METRICS}")):
            try:
                read_json(file)
            except DataError as damaged:
                raise DataError(
                    f"{damaged}: the checkpoint is damaged. Delete {file.parent.parent}, and the"
                    " run goes on from the one before it"
                ) from error
        raise


class Checkpoints:
    """The checkpoints of one run. Only committed steps count; a killed save leaves none."""

    def __init__(
        self,
        directory: epath.PathLike,
        is_planned: Callable[[int], bool] = lambda step: True,
        max_to_keep: int | None = None,
        best_of: Callable[[Sequence[int]], int | None] = lambda steps: None,
        keep_optimizer_states: bool = True,
    ):
        """Opens or makes the folder.

        Args:
            is_planned: steps that stay; another one (saved because the run was stopped) goes as
                soon as a later one is committed.
            max_to_keep: the newest planned steps that stay; None for all. Not left to Orbax, which
                would count the others too: a stopped run would keep other steps than an unstopped.
            best_of: which of some committed steps stays whatever its age; None for none.
            keep_optimizer_states: of all steps that stay; else of the newest and the best alone,
                and nobody can go on training from the others.
        """
        self._is_planned = is_planned
        self._max_to_keep = max_to_keep
        self._best_of = best_of
        self._keep_optimizer_states = keep_optimizer_states
        with _rows_are_named(directory):
            self._manager = ocp.CheckpointManager(
                absolute(directory),
                options=ocp.CheckpointManagerOptions(
                    create=True,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._add_digests),
                ),
                item_names=(PARAMS, OPTIMIZER, METRICS),
            )
        self._saving, self._saving_bytes = 0, 0  # step and size of the last save
        self._failed = 0
        self._left: list[int] = []  # steps

    def save(self, state: TrainState, step: int, pending: dict[str, Any] | None = None) -> None:
        """Starts saving; returns once the arrays are copied off the devices.

        Args:
            pending: metrics of steps that no row holds yet, as JSON takes them.

        Raises:
            NoRoomError: the save before this one found no room. Where it was only to go on from,
                some such failures are told, and training goes on; what is planned is a result.
        """
        try:
            self._wait()
        except NoRoomError as error:
            self._failed += 1
            planned = self._is_planned(self._saving)
            if planned or are_several() or self._failed > MAX_FAILED_SAVES:
                raise
            print(f"step {self._saving} isn't saved, training goes on: {error}", file=sys.stderr)
        self._delete_surplus()
        arrays = jax.tree.leaves((state.params, state.opt_state))
        self._saving, self._saving_bytes = step, sum(array.nbytes for array in arrays)
        items: dict[str, Any] = {
            PARAMS: ocp.args.StandardSave(state.params),
            OPTIMIZER: ocp.args.StandardSave({"opt_state": state.opt_state}),
        }
        if pending:
            items[METRICS] = ocp.args.JsonSave(pending)
        with room_for(self._manager.directory / str(step), self._saving_bytes):
            self._manager.save(step, args=ocp.args.Composite(**items))

    def _wait(self) -> None:
        """Waits for the save under way; one that found no room leaves nothing."""
        try:
            with room_for(self._manager.directory / str(self._saving), self._saving_bytes):
                self._manager.wait_until_finished()
        except NoRoomError:
            self._left.append(self._saving)
            raise
        finally:
            self._delete_left()

    def _add_digests(self) -> None:
        """Called by Orbax in a thread of the first process, before a save is committed."""
        directory = self._manager.directory
        aside = [*directory.glob(f"{self._saving}{_ASIDE}*")]
        write_digests(aside[0] if aside else directory / str(self._saving))

    def _delete_left(self) -> None:
        """What failed saves left takes room; again later where threads of Orbax still write it."""
        for left in (p for step in self._left for p in self._manager.directory.glob(f"{step}.*")):
            with contextlib.suppress(OSError):
                left.rmtree()

    def pending(self, step: int | None) -> dict[str, Any]:
        """What `save` was given beside the state."""
        if step is None or not (self._manager.directory / str(step) / METRICS).exists():
            return {}
        arguments = ocp.args.Composite(metrics=ocp.args.JsonRestore())
        with self._intact(step, (METRICS,)):
            return self._manager.restore(step, args=arguments).metrics

    @contextlib.contextmanager
    def _intact(self, step: int, parts: Sequence[str]) -> Iterator[None]:
        """Where parts of a step are read; raises DataError where they are damaged."""
        folder, hint = self._manager.directory / str(step), self._way_back(step)
        check_digests(folder, parts, hint)
        try:
            yield
        except PagapError:
            raise
        except Exception as error:  # Orbax raises what it likes on spoilt files
            if as_ours(error) is not None:
                raise
            reason = str(error).partition("\n")[0][:200]
            raise DataError(
                f"{folder}: {' and '.join(parts)} can't be read: {reason}{hint}"
            ) from error

    def _way_back(self, step: int) -> str:
        earlier = [one for one in self._manager.all_steps() if one < step]
        if not earlier:
            return ". There is none before it: give another MODEL_DIR, or delete this one"
        return (
            f". --gin.RESTORE_STEP={max(earlier)} goes back to the one before it, and makes what"
            " came after again"
        )

    def chosen(self, wanted: int | str | None) -> int | None:
        """The step to go on from: the latest, 'previous' for the one before it, or a number.

        Raises:
            ConfigError: there is no such step.
        """
        steps = sorted(self._manager.all_steps())
        if wanted is None:
            return steps[-1] if steps else None
        step = steps[-2] if wanted == "previous" and len(steps) > 1 else wanted
        if step not in steps:
            raise ConfigError(
                f"RESTORE_STEP: found {wanted!r}, expected 'previous' or one of the saved steps,"
                f" {', '.join(map(str, steps)) or 'of which there are none'}"
            )
        return int(step)

    def latest(self) -> int | None:
        """The last committed step."""
        return self._manager.latest_step()

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state at a step, straight into the shardings of `abstract`.

        Raises:
            ConfigError: the optimizer's state of this step wasn't kept.
            DataError: the checkpoint is damaged; says which step can be gone back to.
        """
        if not has_orbax_metadata(self._optimizer_folder(step)):
            raise ConfigError(
                f"{self._manager.directory / str(step)}: found no {OPTIMIZER} in it, expected the"
                " optimizer's state: training can't go on from here"
                " (TrainLoop.keep_optimizer_states). The parameters are a start for another run"
            )
        arguments = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract.params),
            optimizer=ocp.args.StandardRestore({"opt_state": abstract.opt_state}),
        )
        with self._intact(step, (PARAMS, OPTIMIZER)):
            restored = self._manager.restore(step, args=arguments)
        counter = jax.device_put(jnp.asarray(step, jnp.int32), abstract.step.sharding)
        return TrainState(counter, restored.params, restored.optimizer["opt_state"])

    def best(self) -> int | None:
        """The committed step that is used whatever its age, if there is one."""
        self._wait()
        return self._best_of(sorted(self._manager.all_steps()))

    def end_with(self, step: int) -> None:
        """Deletes what is later than a step, which is then the run's last one.

        What doesn't stay beside the later ones goes first: also where they were closed in between.
        """
        self._wait()
        self._delete_surplus()
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def close(self) -> None:
        """Waits for saves under way."""
        self._wait()
        self._delete_surplus()
        self._manager.close()

    def _optimizer_folder(self, step: int) -> epath.Path:
        return self._manager.directory / str(step) / OPTIMIZER

    def _delete_surplus(self) -> None:
        """Deletes what isn't to stay; all that is listed is committed."""
        steps = sorted(self._manager.all_steps())
        planned = [step for step in steps if self._is_planned(step)]
        goes_on = {*steps[-1:], self._best_of(steps)}
        kept = {*planned[-(self._max_to_keep or len(steps)) :], *goes_on}
        for step in steps:
            if step not in kept:
                self._manager.delete(step)
            elif step not in goes_on and not self._keep_optimizer_states and is_first():
                self._delete_optimizer_state(self._optimizer_folder(step))

    def _delete_optimizer_state(self, folder: epath.Path) -> None:
        if folder.exists():
            # The tree goes first: a deletion that is cut short isn't taken for a state.
            (folder / METADATA).unlink(missing_ok=True)
            folder.rmtree()
