"""The whole study at toy lengths, by the command line: what it writes, twice, and after kills."""

import dataclasses

import numpy as np
import pytest

from pagap_jax.data.reading import read_token_pairs
from pagap_jax.study.rows import read_csv
from tests.fixtures import toy
from tests.fixtures.faults import Fault

ARMS = {"golden", "offline", "online", "sft"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return toy.toy_study(tmp_path_factory)


def test_every_checkpoint_has_its_row(study):
    frame = read_csv(study.directory / "rows.csv")
    assert set(frame["arm"]) == ARMS
    steps = {run: tuple(rows["step"]) for run, rows in frame.groupby("run")}
    assert steps == {
        "sft": (6,),
        "golden_policy": (6,),
        toy.ONLINE: toy.SAVED_STEPS,
        toy.OFFLINE: toy.SAVED_STEPS,
        "offline_lr0.01_beta0.5": toy.SAVED_STEPS,
    }
    for row in frame.itertuples():
        assert (study.directory / row.checkpoint / "params").is_dir()
        assert row.kl_prompts == row.win_rate_prompts == 16
    (sft,) = frame[frame["arm"] == "sft"].itertuples()
    assert (sft.kl, sft.chosen_log_prob_shift, sft.rejected_log_prob_shift) == (0.0, 0.0, 0.0)
    assert (frame[frame["arm"] != "sft"]["kl"] > 0).all()


def test_the_report_shows_the_rows(study):
    page = (study.directory / "report.html").read_text()
    assert "Toy lengths" in page and "the numbers mean nothing" in page
    assert "KL of π_sft from itself (seed 0)" in page
    for method in ("online", "offline"):
        assert method in page
    assert (study.directory / "figures/fig_1.svg").read_text().lstrip().startswith("<?xml")
    assert (study.directory / "figures/fig_1.png").read_bytes().startswith(b"\x89PNG")


def test_the_study_prints_its_gates_and_where_the_results_are(study):
    assert "KL of π_sft from itself (seed 0): 0.0000, needs exactly 0: passed" in study.first
    assert study.first.endswith(f"report: {study.directory / 'report.html'}\n")


def test_again_skips_everything_and_changes_nothing(study):
    assert toy.results(study.directory) == study.before_second
    assert study.first.count(" s\n") == study.second.count(" s\n") == 16
    for run in study.seed.iterdir():
        if (run / "metrics.jsonl").exists():
            steps = [row["step"] for row in toy.metrics(run)]
            assert steps == sorted(set(steps))


# Where the study is killed, one after another in the same directory; the exit code; workers.
KILLS = [
    (Fault("saving", "seed_0/sft", 4), 42, 2),  # this worker alone, the other is at something else
    (Fault("flushed", f"seed_0/{toy.ONLINE}", 8, group=True), -9, 1),
    (Fault("finishing", f"rows/{toy.ONLINE}", group=True), -9, 1),
]


@pytest.fixture(scope="module")
def killed_study(study, tmp_path_factory):
    """A study that was killed at each of `KILLS` and then finished."""
    directory = tmp_path_factory.mktemp("killed")
    for fault, exit_code, workers in KILLS:
        argv = [*toy.study_argv(directory), f"--gin.study.workers={workers}"]
        killed = toy.pagap(*argv, fault=fault)
        assert killed.returncode == exit_code, killed.stderr
        (folder,) = directory.glob(f"**/{fault.folder}")
        assert not (folder / "result.json").exists()
        if exit_code == 42:
            assert "a worker died while seed_0/" in killed.stderr
            assert "Traceback" not in killed.stderr
    finished = toy.pagap(*toy.study_argv(directory), "--gin.study.workers=1")
    assert finished.returncode == 0, finished.stderr
    return directory


def test_rows_are_those_of_an_uninterrupted_study(study, killed_study):
    assert toy.results(killed_study) == toy.results(study.directory)


def test_checkpoints_are_those_of_an_uninterrupted_study(study, killed_study):
    checkpoints = sorted(study.seed.glob("*/checkpoints/[0-9]*"))
    assert len(checkpoints) == 3 + 3 + 1 + 1 + 3 * 3
    for checkpoint in checkpoints:
        killed = killed_study / checkpoint.relative_to(study.directory)
        toy.assert_same_checkpoint(checkpoint, killed)


def test_d_online_is_that_of_an_uninterrupted_run(study, killed_study):
    name = f"seed_0/{toy.ONLINE}/d_online"
    ours, killed = (read_token_pairs(d / name, "train") for d in (study.directory, killed_study))
    assert len(ours) == 8 * toy.TRAIN_STEPS
    # Row for row. The files' bytes differ: protobuf writes maps in an order of the process's own.
    for field in dataclasses.fields(ours):
        columns = [getattr(pairs, field.name) for pairs in (ours, killed)]
        np.testing.assert_array_equal(*columns, err_msg=field.name)
    assert not (killed_study / f"seed_0/{toy.ONLINE}/stream").exists()
