"""TensorBoard and Weights & Biases beside metrics.jsonl: what they hold, also of resumed runs."""

import dataclasses
import sys
import types

import pytest

from pagap_jax.errors import ConfigError
from pagap_jax.run_directory import RunDirectory
from pagap_jax.train import writers
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.writers import check_installed, open_writers, settings_of
from tests.train.test_loop import LOOP, Job, Killed, at, kill, uninterrupted  # noqa: F401

SETTINGS = "Objective.beta = 0.1\nObjective.loss = 'ipo'\nTrainLoop.checkpoint_steps = (2, 4)\n"


@pytest.fixture
def run(tmp_path):
    with RunDirectory(str(tmp_path / "run"), "toy", SETTINGS) as run:
        yield run


def events_of(folder):
    """{tag: [(step, value)]} and texts of TensorBoard's files, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    import tensorflow as tf

    return {
        tag: [
            (event.step, tf.make_ndarray(event.tensor_proto).tolist())
            for event in accumulator.Tensors(tag)
        ]
        for tag in accumulator.Tags()["tensors"]
    }, accumulator.summary_metadata


def test_tensorboard_has_each_step_once_also_of_a_killed_run(tmp_path):
    job = Job(tmp_path / "job", dataclasses.replace(LOOP, metrics=("jsonl", "tensorboard")))
    with pytest.raises(Killed):
        job.train(at(3, kill))
    job.train()
    events, _ = events_of(job.run.path / "tensorboard")
    assert [step for step, _ in events["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in events["loss"]] == pytest.approx(
        [row["loss"] for row in job.rows]
    )
    assert "wall_time" not in events and "step" not in events


def test_tensorboard_has_the_settings(run):
    (writer,) = open_writers(("tensorboard", "jsonl", "tensorboard"), run)
    writer.close()
    events, metadata = events_of(run.path / "tensorboard")
    ((step, text),) = events["configuration"]
    assert step == 0 and b"    Objective.loss = 'ipo'\n" in text
    (plugin,) = {one.plugin_data.plugin_name for tag, one in metadata.items() if "hparams" in tag}
    assert plugin == "hparams"


def test_settings_are_numbers_where_they_are(run):
    assert settings_of(run) == {
        "Objective.beta": 0.1,
        "Objective.loss": "ipo",
        "TrainLoop.checkpoint_steps": "(2, 4)",
    }


class StandIn:
    """A run of W&B as far as it is used: `step` is the next one, as after a resumption."""

    def __init__(self, step):
        self.step, self.logged, self.is_finished = step, [], False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.is_finished = True


def test_wandb_goes_on_with_its_run_and_takes_no_step_twice(run, monkeypatch):
    """The package itself isn't installed here: a stand-in with the part of it that is called.

    The last time its server is out of reach, so that it doesn't know what it has.
    """
    asked, runs = [], [StandIn(0), StandIn(3), StandIn(0)]

    def init(**settings):
        asked.append(settings)
        return runs[len(asked) - 1]

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for steps in ((1, 2), (1, 2, 3), (2, 3, 4)):
        (writer,) = open_writers(("wandb",), run)
        for step in steps:
            writer.write_scalars(step, {"loss": 0.5})
        writer.close()
        run.metrics.write_text("".join(f'{{"step": {step}}}\n' for step in steps) + '{"st')
    assert [[step for step, _ in one.logged] for one in runs] == [[1, 2], [3], [4]]
    assert all(one.is_finished for one in runs)
    first, second, third = asked
    assert first == second == third and first["resume"] == "allow" and len(first["id"]) == 12
    assert first["config"]["Objective.beta"] == 0.1


def test_what_is_not_installed_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(writers.PACKAGES, "wandb", ("no_such_package",))
    with pytest.raises(ConfigError, match="METRICS: found 'wandb'.*`pip install no_such_package`"):
        TrainLoop(5, metrics=("jsonl", "wandb"))
    check_installed(("jsonl",))


def test_one_process_writes(run, monkeypatch):
    monkeypatch.setattr(writers, "is_first", lambda: False)
    assert open_writers(("tensorboard", "wandb"), run) == []
    assert not (run.path / "tensorboard").exists()
