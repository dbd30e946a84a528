"""The align job by itself: the tandem of online and offline (App. F), SIGTERM, frozen models."""

import hashlib
import json
import re

import numpy as np
import pytest

from pagap_jax.data.reading import read_token_pairs
from tests.fixtures import toy
from tests.fixtures.faults import Fault

FILES_READ = {}


def replay_argv(study, model_dir, online=None):
    """Offline on the online run's own pairs, in their order."""
    pairs = (online or study.seed / toy.ONLINE) / "d_online"
    return toy.align_argv(model_dir, study.directory, pairs, ARM="replay", DATA_ORDER="recorded")


def files_of(study):
    """Name, time and content of every file that the replay reads, or could write."""
    folders = [study.seed / "sft", study.seed / toy.ONLINE]
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    return [
        (str(f), f.stat().st_mtime_ns, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files
    ]


@pytest.fixture(scope="module")
def replay(study, tmp_path_factory):
    directory = tmp_path_factory.mktemp("align") / "replay"
    FILES_READ["before"] = files_of(study)
    assert toy.job_runner().run(replay_argv(study, directory)) == (0, "")
    FILES_READ["after"] = files_of(study)
    return directory


def test_replayed_losses_are_those_of_the_online_run(study, replay):
    online, replayed = toy.metrics(study.seed / toy.ONLINE), toy.metrics(replay)
    assert [row["step"] for row in replayed] == list(range(1, toy.TRAIN_STEPS + 1))
    for name in ("loss", "margin", "chosen_log_prob", "rejected_log_prob", "gradient_norm", "ties"):
        np.testing.assert_allclose(
            [row[name] for row in replayed], [row[name] for row in online], rtol=1e-5, err_msg=name
        )
    assert len({row["loss"] for row in online}) > 6  # it did learn, or there were nothing to see


def test_online_runs_estimate_their_kl_and_offline_runs_have_a_log_ratio(study, replay):
    """Of the same responses it is the same number; before the first update there is none."""
    online, replayed = toy.metrics(study.seed / toy.ONLINE), toy.metrics(replay)
    kl, log_ratio = ([row[name] for row in rows] for name, rows in
                     (("kl", online), ("log_ratio", replayed)))  # fmt: skip
    np.testing.assert_allclose(log_ratio, kl, rtol=1e-4, atol=1e-5)
    assert kl[0] == pytest.approx(0, abs=1e-4) and max(map(abs, kl)) > 0.1
    assert not any("log_ratio" in row for row in online) and not any(
        "kl" in row for row in replayed
    )
    times = [row["wall_time"] for row in online]
    assert times == sorted(times)


def test_replayed_parameters_are_those_of_the_online_run(study, replay):
    for step in toy.SAVED_STEPS:
        toy.assert_same_checkpoint(
            study.seed / toy.ONLINE / "checkpoints" / str(step), replay / "checkpoints" / str(step)
        )


def test_with_xla_s_own_flags_the_replay_is_the_online_run_too(study, tmp_path):
    """As users compile; the toy study's programs aren't optimised."""
    (online,) = (s for s in toy.stages(study.directory) if s.name == f"seed_0/{toy.ONLINE}")
    own = toy.bindings({"MODEL_DIR": str(tmp_path / "online")})
    runner = toy.job_runner(xla_flags="")
    assert runner.run([*online.argv(str(study.directory)), *own])[0] == 0
    assert runner.run(replay_argv(study, tmp_path / "replay", tmp_path / "online"))[0] == 0
    for step in toy.SAVED_STEPS:
        saved = (tmp_path / run / "checkpoints" / str(step) for run in ("online", "replay"))
        toy.assert_same_checkpoint(*saved)


def test_replay_depends_on_the_recorded_order(study, tmp_path_factory):
    """The tandem can fail: shuffled, the same pairs make another run."""
    directory = tmp_path_factory.mktemp("align") / "shuffled"
    argv = [*replay_argv(study, directory), "--gin.DATA_ORDER='shuffled'"]
    assert toy.job_runner().run(argv) == (0, "")
    online, shuffled = toy.metrics(study.seed / toy.ONLINE), toy.metrics(directory)
    assert abs(online[-1]["loss"] / shuffled[-1]["loss"] - 1) > 1e-3


def test_d_online_is_what_was_trained_on(study):
    run = study.seed / toy.ONLINE
    pairs = read_token_pairs(run / "d_online", "train")
    assert pairs.step.tolist() == np.repeat(np.arange(toy.TRAIN_STEPS), 8).tolist()
    prompts = {tuple(row) for row in read_token_pairs(study.seed / "d_golden", "train").prompt}
    assert {tuple(row) for row in pairs.prompt} <= prompts
    # The logged metrics can be computed from the record.
    for row in toy.metrics(run):
        of_step = pairs.step == row["step"] - 1
        assert row["ties"] == pytest.approx(np.mean(pairs.choice[of_step] < 0), abs=1e-6)
        responses = np.stack([pairs.response_a[of_step], pairs.response_b[of_step]])
        assert row["response_length"] == pytest.approx(np.mean(np.sum(responses > 0, axis=-1)))
        assert row["share_finished"] == pytest.approx(np.mean(np.any(responses == 1, axis=-1)))
    decided = pairs.choice >= 0
    assert ((pairs.probability < 0.5) == (pairs.choice == 1))[decided].all()


def test_sigterm_saves_and_the_same_command_goes_on(study, replay, tmp_path_factory):
    directory = tmp_path_factory.mktemp("align") / "stopped"
    argv = replay_argv(study, directory)
    stopped = toy.pagap(*argv, fault=Fault("metrics", "stopped", 5, signal="SIGTERM"))
    assert stopped.returncode == 42
    # The signal came while step 5 ended: it or the next one was saved, though neither is planned.
    said = stopped.stderr.splitlines()[-1]
    expected = f"pagap align: {directory}: asked to stop; saved step (5|6), from which the same"
    step = int(re.match(expected, said)[1])
    names = {folder.name for folder in (directory / "checkpoints").iterdir()}
    assert names == {"4", str(step)}
    assert [row["step"] for row in toy.metrics(directory)] == list(range(1, step + 1))
    assert not (directory / "result.json").exists()

    assert toy.job_runner().run(argv) == (0, "")
    names = {folder.name for folder in (directory / "checkpoints").iterdir()}
    assert names == {str(step) for step in toy.SAVED_STEPS}  # as if nothing had been
    for planned in names:
        toy.assert_same_checkpoint(
            replay / "checkpoints" / planned, directory / "checkpoints" / planned
        )
    losses = [[row["loss"] for row in toy.metrics(run)] for run in (replay, directory)]
    assert losses[0] == losses[1]


def test_a_job_changes_nothing_that_it_reads(study, replay):
    """`replay` looked at the files before and after."""
    assert FILES_READ["before"] == FILES_READ["after"]
    assert len(FILES_READ["before"]) > 20
    run = json.loads((replay / "run.json").read_text())
    assert set(run["parents"]) == {"initial", "pairs"}


def scores_argv(study, model_dir, pairs_dir):
    macros = {
        "MODEL_DIR": str(model_dir),
        "SFT_DIR": str(study.seed / "sft"),
        "PAIRS_DIR": str(pairs_dir),
        "EVAL_BATCH_SIZE": 8,
    }
    files = ("jobs/reference_scores.gin", "test/toy/models_and_data.gin")
    return ["reference_scores", *[f"--gin_file={f}" for f in files], *toy.bindings(macros)]


@pytest.fixture(scope="module")
def scores(study, tmp_path_factory):
    directory = tmp_path_factory.mktemp("align") / "scores"
    assert toy.job_runner().run(scores_argv(study, directory, study.seed / "d_golden")) == (0, "")
    return directory


def test_stored_reference_log_probs_train_as_the_reference_does(study, scores, tmp_path):
    argv = toy.align_argv(
        tmp_path / "run",
        study.directory,
        study.seed / "d_golden",
        REFERENCE_SCORES_DIR=str(scores),
    )
    assert toy.job_runner().run(argv) == (0, "")
    expected, stored = toy.metrics(study.seed / toy.OFFLINE), toy.metrics(tmp_path / "run")
    for name in ("loss", "margin", "gradient_norm"):
        np.testing.assert_allclose(
            [row[name] for row in stored],
            [row[name] for row in expected],
            rtol=1e-4,
            atol=1e-5,
            err_msg=name,
        )
    assert len(expected) == toy.TRAIN_STEPS


@pytest.mark.parametrize("changed", ["pairs", "checkpoint"])
def test_reference_log_probs_of_something_else_are_refused(study, scores, tmp_path, changed):
    settings = {"REFERENCE_SCORES_DIR": str(scores)}
    pairs = study.seed / "d_golden"
    if changed == "pairs":
        pairs = study.seed / toy.ONLINE / "d_online"
    else:
        settings["SFT_DIR"] = str(study.seed / toy.OFFLINE)
    argv = toy.align_argv(tmp_path / "run", study.directory, pairs, **settings)
    code, message = toy.job_runner().run(argv)
    assert code == 2
    assert f"were made with another {changed}" in message
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_folder_without_reference_log_probs_is_refused(study, tmp_path):
    argv = toy.align_argv(
        tmp_path / "run",
        study.directory,
        study.seed / "d_golden",
        REFERENCE_SCORES_DIR=str(study.seed / "sft"),
    )
    code, message = toy.job_runner().run(argv)
    assert code == 2
    assert "expected reference log-probs, of reference_scores" in message
