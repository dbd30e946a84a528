"""The one training loop: batches in, updates, metrics, checkpoints, resume."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import gin
import jax

from pagap_jax import stopping
from pagap_jax.checkpoints.saving import Checkpoints, TrainState
from pagap_jax.errors import StoppedError
from pagap_jax.processes import asked_to_stop, is_first
from pagap_jax.progress import TrainingProgress
from pagap_jax.ranges import Count, CountOrZero
from pagap_jax.run_directory import RunDirectory
from pagap_jax.run_warnings import check_limits
from pagap_jax.train.metrics import MetricsLog
from pagap_jax.train.writers import Destination, check_installed, open_writers

UNSAVED = "the step under way, to save it"
# (state, step) -> (state, metrics, record): `record` is what a recorder is given of the step.
StepFunction = Callable[[TrainState, int], tuple[TrainState, dict[str, jax.Array], Any]]


@runtime_checkable  # so that the tests can check it
class Recorder(Protocol):
    """Takes what each step puts out; what it was given is on disk when `flush` returns."""

    def resume(self, step: int) -> None: ...

    def add(self, step: int, record: Any) -> None: ...

    def flush(self) -> None: ...


@runtime_checkable
class Validator(Protocol):
    """Looks at the parameters now and then, and may end training; see `train.validation`."""

    def resume(self, step: int) -> None: ...

    def lacks(self, step: int) -> bool: ...

    def after(self, step: int, params: Any) -> bool: ...

    def has_ended(self) -> bool: ...

    def best_of(self, steps: Sequence[int]) -> int | None: ...


@gin.configurable
@dataclasses.dataclass(frozen=True)
class TrainLoop:
    """How long a run trains and what it leaves behind.

    Attributes:
        train_steps: updates in all; with a validator the most there may be.
        checkpoint_period: saves each so many steps; 0 only where `checkpoint_steps` says.
        checkpoint_steps: further steps to save at; the last step always is.
        max_to_keep: the newest of these checkpoints to keep; None keeps all.
        save_period: saves also each so many steps, only to go on from if the run is killed: such a
            checkpoint goes as soon as a later one is whole. 0 saves none.
        keep_optimizer_states: in all of them; else in the newest alone, which is all that going
            on needs.
        metrics_period: steps that one row of metrics averages.
        metrics: where rows go beside metrics.jsonl; it changes nothing of the run.
        restore_step: what a run that is started again goes on from: a saved step, or 'previous' for
            the one before the last. Later ones are made again. None: from the last one.
    """

    train_steps: Count
    checkpoint_period: CountOrZero = 0
    checkpoint_steps: tuple[Count, ...] = ()
    max_to_keep: Count | None = None
    save_period: CountOrZero = 0
    keep_optimizer_states: bool = True
    metrics_period: Count = 20
    metrics: tuple[Destination, ...] = ("jsonl",)
    restore_step: CountOrZero | Literal["previous"] | None = None

    def __post_init__(self):
        check_installed(self.metrics)

    def run(
        self,
        run: RunDirectory,
        fresh_state: Callable[[], TrainState],
        abstract: TrainState,
        step_function: StepFunction,
        recorder: Recorder | None = None,
        validator: Validator | None = None,
    ) -> TrainState:
        """Trains to the end, from the last committed checkpoint if there is one.

        Returns:
            The last state, or the validator's best one.

        Raises:
            NotANumberError: the loss or its gradient stopped being a number.
            StoppedError: asked to stop; a checkpoint of the step was saved.
        """
        best_of = validator.best_of if validator else lambda steps: None
        earlier_ends = run.earlier_ends  # other runs may have started from there

        def stays(step: int) -> bool:
            return self._saves_at(step) or step in earlier_ends

        checkpoints = Checkpoints(
            run.checkpoints, stays, self.max_to_keep, best_of, self.keep_optimizer_states
        )
        # Closing waits for a save under way, also where a step fails (it was a good one).
        with contextlib.ExitStack() as until_saved, contextlib.closing(checkpoints):
            start = checkpoints.chosen(self.restore_step)
            if validator and self._had_ended(start, validator):
                return _best_state(checkpoints, None, abstract)
            state = fresh_state() if start is None else checkpoints.restore(start, abstract)
            # A fresh state may be that of another run, to be gone on with.
            first = int(state.step)
            if recorder:
                recorder.resume(first)
            if validator:
                validator.resume(first)
            if start is not None and self.restore_step is not None:
                checkpoints.end_with(start)
            if first and is_first():
                print(f"{run.job}: goes on from step {first} of {self.train_steps}", flush=True)
            writers = open_writers(self.metrics, run)
            log = MetricsLog(run.metrics, first, checkpoints.pending(start), writers)
            hooks = Hooks(checkpoints, recorder, validator, log, until_saved)
            state = self._run_from(first, run, state, step_function, hooks)
            return _best_state(checkpoints, state, abstract)

    def _had_ended(self, latest: int | None, validator: Validator) -> bool:
        """Whether all that is left of an earlier process's run is to keep the best checkpoint.

        Then nobody goes on from the latest one: its deletion may have been cut short.
        """
        if latest is None or validator.best_of(range(latest + 1)) is None:
            return False
        if validator.lacks(latest):
            return False
        return validator.has_ended() or latest >= self.train_steps

    def _run_from(
        self,
        start: int,
        run: RunDirectory,
        state: TrainState,
        step_function: StepFunction,
        hooks: "Hooks",
    ) -> TrainState:
        progress = TrainingProgress(run.job, start, self.train_steps)
        with contextlib.closing(hooks.log), progress:
            if asked_to_stop(start):
                raise stopping.stopped(f"asked to stop; the same command goes on from step {start}")
            if start and hooks.lacks_validation(start):  # stopped while it was validated
                hooks.save(state, start, False)
            for step in range(start, self.train_steps):
                if hooks.has_ended():
                    break
                state, metrics, record = step_function(state, step)
                if step == start:  # from here on there is something to lose
                    hooks.until_saved.enter_context(stopping.unsaved(UNSAVED))
                hooks.log.add(metrics)
                hooks.record(step, record)
                done = step + 1
                is_planned = self._saves_at(done)
                if is_planned or done % self.metrics_period == 0:
                    row = hooks.log.write(done)
                    progress.show(done, row)
                    check_limits(run, row, done)
                stopping_here = asked_to_stop(done) and done < self.train_steps
                try:
                    if not stopping_here:
                        hooks.save(state, done, is_planned or self._saves_between(done))
                except StoppedError:  # between two batches of the validation
                    stopping_here = True
                if stopping_here:
                    hooks.save_at_once(state, done)
                    raise stopping.stopped(
                        f"{run.path}: asked to stop; saved step {done}, from which the same command"
                        " goes on"
                    )
        return state

    def _saves_at(self, step: int) -> bool:
        periodic = self.checkpoint_period and step % self.checkpoint_period == 0
        return bool(periodic) or step in self.checkpoint_steps or step == self.train_steps

    def _saves_between(self, step: int) -> bool:
        return bool(self.save_period) and step % self.save_period == 0


def _best_state(
    checkpoints: Checkpoints, state: TrainState | None, abstract: TrainState
) -> TrainState:
    """The state that is used, which is then the last one on disk.

    Args:
        state: the last; None where it is on disk alone.
    """
    best = checkpoints.best()
    if best is None:
        assert state is not None
        return state
    checkpoints.end_with(best)
    if state is not None and int(state.step) == best:
        return state
    return checkpoints.restore(best, abstract)


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What happens between two steps."""

    checkpoints: Checkpoints
    recorder: Recorder | None
    validator: Validator | None
    log: MetricsLog
    until_saved: contextlib.ExitStack

    def record(self, step: int, record: Any) -> None:
        """Hands over what a step put out."""
        if self.recorder:
            self.recorder.add(step, record)

    def save(self, state: TrainState, step: int, is_time: bool) -> None:
        """Saves where it is time to, or where these parameters are the best so far.

        Raises:
            StoppedError: while they were validated; nothing was saved.
        """
        is_best = self.validator is not None and self.validator.after(step, state.params)
        if is_time or is_best:
            self.save_at_once(state, step)

    def save_at_once(self, state: TrainState, step: int) -> None:
        """Saves if this step isn't yet."""
        if self.checkpoints.latest() == step:
            return
        if self.recorder:
            self.recorder.flush()  # before the checkpoint that counts on it
        self.checkpoints.save(state, step, self.log.pending(step))

    def lacks_validation(self, step: int) -> bool:
        """Whether the run was stopped before the validation of this step had ended."""
        return self.validator is not None and self.validator.lacks(step)

    def has_ended(self) -> bool:
        """Whether training ends before its last step."""
        return self.validator is not None and self.validator.has_ended()
