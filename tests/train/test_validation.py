"""Validation while training: where it ends, what stays, and that kills change neither."""

import functools
import json
import shutil

import pytest

from pagap_jax import stopping
from pagap_jax.checkpoints.saving import Checkpoints
from pagap_jax.errors import ConfigError, StoppedError
from pagap_jax.train.loop import TrainLoop, Validator
from pagap_jax.train.validation import Plateau, Validation
from tests.train.test_loop import Job, assert_same_state

# By step. With patience 2 the best is 8: two validations later it is still.
LOSSES = {2: 0.9, 4: 0.5, 6: 0.7, 8: 0.4, 10: 0.6, 12: 0.5, 14: 0.3, 16: 0.8}
LOOP = TrainLoop(train_steps=16, checkpoint_steps=(3, 9), metrics_period=1, max_to_keep=1)


def looked(folder, losses, patience):
    """A curve of validations each two steps."""
    values = iter(losses)
    file = Job(folder).run.path / "validation.jsonl"
    curve = Validation(file, Plateau(2, None, patience), lambda params: {"loss": next(values)})
    for step in range(1, 2 * len(losses) + 1):
        curve.after(step, None)
    return curve


@pytest.mark.parametrize(
    ("losses", "patience", "ended", "best"),
    [
        ([0.9], 1, False, 2),
        ([0.9, 0.8], 1, False, 4),
        ([0.9, 0.9], 1, True, 2),  # as low isn't lower
        ([0.8, 0.9, 0.7, 0.8], 2, False, 6),
        ([0.8, 0.9, 0.7, 0.8, 0.71], 2, True, 6),
        ([0.5, float("nan"), 0.7], 3, False, 2),
        ([0.5, 0.6, 0.7, 0.8], None, False, None),  # the last one is used
    ],
)
def test_training_ends_at_the_plateau(losses, patience, ended, best, tmp_path):
    curve = looked(tmp_path, losses, patience)
    assert isinstance(curve, Validator)
    assert [row["step"] for row in curve.rows] == list(range(2, 2 * len(losses) + 1, 2))
    assert (curve.has_ended(), curve.best_of(range(99))) == (ended, best)
    assert curve.best_of([1, 3]) is None


def test_what_will_be_made_again_is_forgotten(tmp_path):
    curve = looked(tmp_path, [0.9, 0.5, 0.7], 1)
    assert curve.has_ended()
    again = Validation(curve._file, Plateau(2, None, 1), curve._measure)
    assert again.has_ended()
    again.resume(4)
    assert [row["step"] for row in again.rows] == [2, 4] and not again.has_ended()
    assert len(curve._file.read_text().splitlines()) == 2


def test_a_patience_that_makes_no_sense():
    with pytest.raises(ConfigError, match="PATIENCE: found 2 with VALIDATION_PERIOD 0"):
        Plateau(0, None, 2)


def train(folder, patience):
    """Runs the loop with its curve; the job, the state and the curve."""
    job = Job(folder, LOOP)
    curve = Validation(
        job.run.path / "validation.jsonl",
        Plateau(2, None, patience),
        lambda params: {"loss": LOSSES[job.steps[-1] + 1]},
    )
    return job, job.train(validator=curve), curve


@pytest.fixture(scope="module", params=[2, 4, None], ids=["plateau", "all steps", "no patience"])
def whole(request, tmp_path_factory):
    """An uninterrupted run, and its folder as a kill would have left it at many moments."""
    folder = tmp_path_factory.mktemp("validated")
    snapshots = []

    def snapshot(name):
        target = folder / f"{len(snapshots):03d}_{name}"
        shutil.copytree(folder / "whole", target)
        snapshots.append(target)

    def wrapped(owner, name):
        method = getattr(owner, name)

        @functools.wraps(method)
        def striking(self, *arguments):
            snapshot(f"before_{name}")
            result = method(self, *arguments)
            if isinstance(self, Checkpoints):
                self._manager.wait_until_finished()
            snapshot(f"after_{name}")
            return result

        patch.setattr(owner, name, striking)

    with pytest.MonkeyPatch.context() as patch:
        wrapped(Validation, "after")
        wrapped(Checkpoints, "save")
        wrapped(Checkpoints, "end_with")
        job, state, curve = train(folder / "whole", request.param)
    return request.param, job, state, curve, snapshots


def test_the_best_stays_and_is_what_training_returns(whole):
    patience, job, state, curve, _ = whole
    best, last = {2: (8, 12), 4: (14, 16), None: (16, 16)}[patience]
    assert int(state.step) == best and job.saved[-1] == best
    assert curve.has_ended() == (patience == 2) and len(job.steps) == last
    assert [row["step"] for row in curve.rows] == list(range(2, last + 1, 2))


def test_killed_at_any_moment_and_run_again_ends_the_same(whole):
    patience, job, state, curve, snapshots = whole
    assert len(snapshots) > 30
    seen = set()
    for folder in snapshots:
        left = tuple(sorted(str(p.relative_to(folder)) for p in folder.glob("checkpoints/*")))
        rows = (folder / "validation.jsonl").read_text()
        if (left, rows) in seen:  # many moments leave the same
            continue
        seen.add((left, rows))
        again = folder.with_name(f"again_{folder.name}")
        shutil.copytree(folder, again)
        resumed, found, curve_again = train(again, patience)
        assert_same_state(found, state)
        assert resumed.saved == job.saved, folder
        assert curve_again.rows == curve.rows, folder
        text = (again / "validation.jsonl").read_text()
        assert [json.loads(line) for line in text.splitlines()] == curve.rows
        shutil.rmtree(again)


@pytest.mark.parametrize("number", [1, 4, 8])
def test_stopped_amid_a_validation_it_is_made_again(number, whole, tmp_path):
    """The step is saved at once, and what it lacks is caught up with; also at the last step."""
    patience, job, state, curve, _ = whole
    if 2 * number > len(job.steps):
        return
    stopped = Job(tmp_path, LOOP)

    def measure(params):
        if stopped.steps[-1] + 1 == 2 * number:
            raise stopping.stopped("asked to stop")
        return {"loss": LOSSES[stopped.steps[-1] + 1]}

    file, plateau = stopped.run.path / "validation.jsonl", Plateau(2, None, patience)
    with pytest.raises(StoppedError, match=f"saved step {2 * number}, from which"):
        stopped.train(validator=Validation(file, plateau, measure))
    assert stopped.saved[-1] == 2 * number
    again = Job(tmp_path, LOOP)
    again.steps.append(2 * number - 1)  # what `measure` looks at
    caught_up = Validation(file, plateau, lambda params: {"loss": LOSSES[again.steps[-1] + 1]})
    assert_same_state(again.train(validator=caught_up), state)
    assert again.saved == job.saved and caught_up.rows == curve.rows


def test_killed_amid_the_deletion_of_what_does_not_stay(whole):
    """The last step of all is half gone, and nobody goes on from it."""
    patience, job, state, _, snapshots = whole
    if patience is None:
        return
    (ending,) = [folder for folder in snapshots if folder.name.endswith("before_end_with")]
    last = max(int(p.name) for p in (ending / "checkpoints").iterdir() if p.name.isdigit())
    again = ending.with_name("half")
    shutil.copytree(ending, again)
    if last > int(state.step):
        shutil.rmtree(again / "checkpoints" / str(last) / "params")
    resumed, found, _ = train(again, patience)
    assert_same_state(found, state)
    assert resumed.steps == [] and resumed.saved == job.saved
