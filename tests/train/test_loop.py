"""The training loop on a job of two numbers: checkpoints, stops, resuming, what isn't a number."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax.checkpoints.saving import Checkpoints
from pagap_jax.errors import NotANumberError, StoppedError
from pagap_jax.model.sharding import make_mesh, replicated
from pagap_jax.run_directory import RunDirectory
from pagap_jax.streams import Purpose
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.optimizer import adam
from pagap_jax.train.state import abstract_state, init_state
from pagap_jax.train.step import supervised_step
from tests.fixtures.stops import watched_patiently

MESH = make_mesh()
OPTIMIZER = adam()
START = {"w": jnp.array([3.0, -2.0], jnp.float32)}
LOOP = TrainLoop(train_steps=6, checkpoint_steps=(2, 4), metrics_period=1)


class Killed(Exception):
    """Stands for SIGKILL: nothing of the job runs after it."""


def loss_of(params, batch, keys):
    """Depends on parameters, the batch and the key."""
    noise = jax.random.normal(keys[Purpose.DROPOUT], (2,))
    return jnp.sum((params["w"] - batch + 0.1 * noise) ** 2), (jnp.float32(1), {})


@jax.jit
def update(state, batch):
    keys = {Purpose.DROPOUT: jax.random.key(0)}
    return supervised_step(state, batch, 0.1, keys, loss_function=loss_of, optimizer=OPTIMIZER)


class Job:
    """Runs the loop in a folder, with something to happen before a step."""

    def __init__(self, folder, loop=LOOP):
        configuration = f"TrainLoop.train_steps = {loop.train_steps}"
        with RunDirectory(str(folder), "toy", configuration) as self.run:
            pass
        self.loop = loop
        self.steps = []

    def train(
        self, before_step=None, recorder=None, batch=lambda step: np.float32(step), validator=None
    ):
        """The last state; `before_step(step)` may raise or send a signal."""

        def step_function(state, step):
            if before_step:
                before_step(step)
            self.steps.append(step)
            state, metrics = update(state, np.full(2, batch(step)))
            return state, metrics, step

        params = jax.device_put(START, replicated(MESH))
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params
        )
        abstract = abstract_state(shapes, OPTIMIZER, MESH)
        return self.loop.run(
            self.run,
            lambda: init_state(params, OPTIMIZER, MESH),
            abstract,
            step_function,
            recorder,
            validator,
        )

    @property
    def saved(self):
        return sorted(int(p.name) for p in self.run.checkpoints.iterdir() if p.name.isdigit())

    @property
    def rows(self):
        """Those of the metrics, without the time at which each was written."""
        rows = map(json.loads, self.run.metrics.read_text().splitlines())
        return [{k: v for k, v in row.items() if k != "wall_time"} for row in rows]


def at(step, action):
    """Calls `action` before that step."""
    return lambda current: action() if current == step else None


def kill():
    raise Killed


def assert_same_state(one, other):
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("loop") / "whole")
    return job, job.train()


def test_saves_and_logs_where_it_should(uninterrupted):
    job, state = uninterrupted
    assert job.saved == [2, 4, 6] and int(state.step) == 6
    assert [row["step"] for row in job.rows] == [1, 2, 3, 4, 5, 6]
    assert not np.allclose(state.params["w"], START["w"], atol=0.1)


def test_periods(tmp_path):
    job = Job(tmp_path, TrainLoop(5, checkpoint_period=2, max_to_keep=2, metrics_period=3))
    job.train()
    assert job.saved == [4, 5]
    assert [row["step"] for row in job.rows] == [2, 3, 4, 5]  # wherever it saves, too


@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_killed_and_run_again_ends_the_same(step, uninterrupted, tmp_path):
    whole, expected = uninterrupted
    job = Job(tmp_path)
    with pytest.raises(Killed):
        job.train(at(step, kill))
    job.steps.clear()
    again = job.train()
    assert job.steps[0] == 2 * (step // 2)  # where the last checkpoint was
    assert_same_state(again, expected)
    assert job.saved == whole.saved
    assert [row["loss"] for row in job.rows] == [row["loss"] for row in whole.rows]


def test_without_older_optimizer_states_a_killed_run_ends_the_same(uninterrupted, tmp_path):
    whole, expected = uninterrupted
    job = Job(tmp_path, dataclasses.replace(LOOP, keep_optimizer_states=False))
    with pytest.raises(Killed):
        job.train(at(5, kill))
    assert_same_state(job.train(), expected)
    assert job.saved == whole.saved
    assert [p.parent.name for p in job.run.checkpoints.glob("*/optimizer")] == ["6"]


def test_a_finished_loop_only_restores(uninterrupted, tmp_path):
    _, expected = uninterrupted
    job = Job(tmp_path)
    job.train()
    job.steps.clear()
    assert_same_state(job.train(), expected)
    assert job.steps == []


def test_sigterm_saves_at_once_and_leaves_no_trace_in_the_end(uninterrupted, tmp_path):
    whole, expected = uninterrupted
    job = Job(tmp_path)
    with pytest.raises(StoppedError, match="asked to stop; saved step 3"), watched_patiently():
        job.train(at(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert job.saved == [2, 3] and job.steps == [0, 1, 2]
    assert_same_state(job.train(), expected)
    assert job.steps == [0, 1, 2, 3, 4, 5]
    # Who evaluates every checkpoint finds those of an unstopped run.
    assert job.saved == whole.saved


def test_a_stop_evicts_no_planned_checkpoint(tmp_path):
    """Nor does a kill between a save and the deletion of what it replaces leave one too many."""
    loop = TrainLoop(6, checkpoint_period=2, max_to_keep=2, metrics_period=1)
    job = Job(tmp_path / "stopped", loop)
    with pytest.raises(StoppedError, match="saved step 5"), watched_patiently():
        job.train(at(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert job.saved == [2, 4, 5]
    job.train()
    assert job.saved == [4, 6]
    late = Job(tmp_path / "late", dataclasses.replace(loop, max_to_keep=None))
    late.train()
    late.loop = loop
    late.train()
    assert late.saved == [4, 6]


def test_sigterm_in_the_last_step_ends_the_run(uninterrupted, tmp_path):
    job = Job(tmp_path)
    with watched_patiently():
        state = job.train(at(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert_same_state(state, uninterrupted[1])


def test_checkpoints_to_go_on_from_leave_no_trace_in_the_end(uninterrupted, tmp_path):
    """Nor in the rows of metrics, though a row was half full."""
    _, expected = uninterrupted
    loop = dataclasses.replace(LOOP, checkpoint_steps=(), save_period=1, metrics_period=4)
    job = Job(tmp_path / "killed", loop)
    with pytest.raises(Killed):
        job.train(at(3, kill))
    assert job.saved == [3] and job.rows == []
    job.steps.clear()
    assert_same_state(job.train(), expected)
    assert job.steps == [3, 4, 5] and job.saved == [6]
    one = Job(tmp_path / "one", dataclasses.replace(loop, save_period=0))
    one.train()
    assert [row["step"] for row in one.rows] == [4, 6]
    assert job.rows == one.rows


def test_an_extended_run_is_the_longer_run(uninterrupted, tmp_path):
    """The checkpoint it had ended with stays: other runs may have started from it."""
    longer = dataclasses.replace(LOOP, train_steps=9)
    Job(tmp_path / "extended").train()
    job, whole = Job(tmp_path / "extended", longer), Job(tmp_path / "whole", longer)
    assert_same_state(job.train(), whole.train())
    assert job.steps == [6, 7, 8]
    assert job.saved == [2, 4, 6, 9] and whole.saved == [2, 4, 9]
    assert job.rows == whole.rows


def test_what_is_not_a_number_is_never_saved(tmp_path):
    job = Job(tmp_path)
    with pytest.raises(NotANumberError, match=r"loss is nan at step 4: stopped; the checkpoints"):
        job.train(batch=lambda step: np.float32("nan" if step == 3 else step))
    assert job.saved == [2]
    assert [row["loss"] is None for row in job.rows] == [False, False, False, True]


def test_an_update_that_bursts_is_never_saved(tmp_path, monkeypatch):
    """The loss of the only step is fine; the parameters after it would not be."""
    job = Job(tmp_path, TrainLoop(1, metrics_period=1))

    def burst(state, batch):
        state, metrics = update_once(state, batch)
        return state, {**metrics, "update_norm": jnp.float32("inf")}

    update_once = update
    monkeypatch.setattr(f"{__name__}.update", burst)
    with pytest.raises(NotANumberError, match="update_norm is inf at step 1"):
        job.train()
    assert job.saved == []


class Recorder:
    """Notes what it is told and what was saved by then."""

    def __init__(self, job):
        self.job, self.calls = job, []

    def resume(self, step):
        self.calls.append(("resume", step))

    def add(self, step, record):
        self.calls.append(("add", step, record))

    def flush(self):
        self.calls.append(("flush", self.job.steps[-1] + 1))


def test_a_recorder_is_on_disk_before_the_checkpoint_that_counts_on_it(tmp_path, monkeypatch):
    job = Job(tmp_path, TrainLoop(4, checkpoint_steps=(2,), metrics_period=1))
    recorder = Recorder(job)
    save = Checkpoints.save

    def noted(self, state, step, pending):
        recorder.calls.append(("save", step))
        save(self, state, step, pending)

    monkeypatch.setattr(Checkpoints, "save", noted)
    job.train(recorder=recorder)
    assert recorder.calls == [
        ("resume", 0), ("add", 0, 0), ("add", 1, 1), ("flush", 2), ("save", 2),
        ("add", 2, 2), ("add", 3, 3), ("flush", 4), ("save", 4),
    ]  # fmt: skip
    recorder.calls.clear()
    job.train(recorder=recorder)
    assert recorder.calls == [("resume", 4)]
