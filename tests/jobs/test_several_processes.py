"""Each job on 2 processes of 2 devices, or on one of 8, makes what one device makes.

Fully sharded, with a copy of the model across both processes, and with two slices.

The one device's are those of the toy study; the others read the same folders and write their own.
"""

import dataclasses
import json
import shutil
import signal
import socket
import time

import numpy as np
import pytest

from launch.options import RESTART_CODES
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.data.reading import read_token_pairs
from pagap_jax.data.stored import TOKEN_COLUMNS
from pagap_jax.errors import ConfigError
from tests.fixtures import toy
from tests.fixtures.faults import Fault

OTHERS = ("d_golden", "golden_responses", f"rows/{toy.ONLINE}")
# Offline on one process: the replay is an offline run on two.
TRAINED = {"1 x 8": ("golden", toy.ONLINE, toy.OFFLINE), "2 x 2": ("sft", "golden", toy.ONLINE)}
# Processes and devices in all; with more of them toys spend their time in waiting for each other.
LAUNCHES = {"1 x 8": (1, 8, TRAINED["1 x 8"]), "2 x 2": (2, 4, (*TRAINED["2 x 2"], *OTHERS))}
SHARDED = {"NUM_PARTITIONS": 2, "PARAMETER_PARTITIONING_DIMS": 2}
SPREAD = {
    ("1 x 8", "golden"): {"NUM_SLICES": 2, "NUM_PARTITIONS": 2},
    ("1 x 8", toy.ONLINE): {"NUM_SLICES": 2, **SHARDED},
    ("2 x 2", "sft"): {"NUM_PARTITIONS": 4},  # each process has all rows, and a part of the model
}
D_ONLINE = f"{toy.ONLINE}/d_online"
CONTINUED = f"continued/{toy.ONLINE}"  # begun on one device, killed, and ended on 2 x 2
KEPT_OF_RELABEL = "kept_of_relabel.json"  # when one of two processes was asked to stop
KILLED_AT, LAST_CHECKPOINT = 10, 4  # the one of step 8 may not be whole by then
# Adam divides gradients near 0 by their own size: rounding there is worth some 1e-6.
TOLERANCE = {"rtol": 1e-4, "atol": 5e-6}


@pytest.fixture(scope="module")
def folders(study, tmp_path_factory):
    """What each launch wrote."""
    stages = toy.stages(study.directory)
    found = {}
    for name, (processes, devices, wanted) in LAUNCHES.items():
        folder = tmp_path_factory.mktemp("launched")
        jobs = []
        for stage in stages:
            own = stage.name.removeprefix("seed_0/")
            if own in wanted:
                macros = {"MODEL_DIR": str(folder / own), **SPREAD.get((name, own), SHARDED)}
                jobs.append([*stage.argv(str(study.directory)), *toy.bindings(macros)])
            if own == "d_golden" and own in wanted:
                stop_one_of_two(jobs[-1], folder)
            if own == toy.ONLINE and processes > 1:
                again = [
                    *stage.argv(str(study.directory)),
                    f"--gin.MODEL_DIR={str(folder / CONTINUED)!r}",
                ]
                fault = Fault("metrics", CONTINUED, KILLED_AT)
                assert toy.pagap(*again, fault=fault).returncode == -signal.SIGKILL
                shutil.copy(folder / CONTINUED / "metrics.jsonl", folder)  # as it was then
                jobs.append([*again, *toy.bindings(SHARDED)])
        if processes > 1:
            recorded = {"ARM": "replayed", "DATA_ORDER": "recorded", **SHARDED}
            pairs = folder / D_ONLINE
            jobs.append(toy.align_argv(folder / "replay", study.directory, pairs, **recorded))
        command = ["tests/fixtures/launched.py", json.dumps(jobs)]
        toy.end(toy.launch(command, processes, devices), 0)
        found[name] = folder
    return found


def stop_one_of_two(argv, folder):
    """SIGTERM to the second process at its first look; both end, and what is kept is noted."""
    struck = dataclasses.asdict(Fault("batch", "", 0, signal="SIGTERM"))
    commands = ["-m", "pagap_jax.main"], [str(toy.FAULTS), json.dumps(struck)]
    toy.end(toy.launch_each([[*command, *argv] for command in commands], 4), 42)
    kept = [file.name for file in (folder / "d_golden" / "kept").iterdir()]
    (folder / KEPT_OF_RELABEL).write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("launch", "run"), [(launch, run) for launch, runs in TRAINED.items() for run in runs]
)
def test_losses_and_parameters(run, launch, folders, study):
    folder = folders[launch]
    expected, found = toy.metrics(study.seed / run), toy.metrics(folder / run)
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for name in ("loss", "gradient_norm"):
        ours, theirs = ([row[name] for row in rows] for rows in (found, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, err_msg=name)
    ours, theirs = (open_checkpoint(str(path / run)).params for path in (folder, study.seed))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name].read(), array.read(), err_msg=name, **TOLERANCE)


def test_a_run_goes_on_on_other_devices(folders, study):
    """From its last checkpoint, with the batches and samples that it would have had."""
    folder = folders["2 x 2"]
    before, found, whole = map(toy.metrics, (folder, folder / CONTINUED, study.seed / toy.ONLINE))
    assert found[:LAST_CHECKPOINT] == before[:LAST_CHECKPOINT]  # they weren't repeated
    assert [row["step"] for row in found] == [row["step"] for row in whole]
    ours, theirs = ([row["loss"] for row in rows] for rows in (found, whole))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_the_replay_is_the_online_run_of_two_processes(folders):
    """App. F: the same parameters, bit for bit, from the D_online that two processes recorded."""
    folder = folders["2 x 2"]
    assert toy.metrics(folder / "replay")[-1]["step"] == toy.TRAIN_STEPS
    online, replayed = (open_checkpoint(str(folder / run)).params for run in (toy.ONLINE, "replay"))
    assert online.keys() == replayed.keys()
    for name, array in online.items():
        np.testing.assert_array_equal(replayed[name].read(), array.read(), err_msg=name)


@pytest.mark.parametrize(
    ("launch", "name"),
    [
        ("1 x 8", D_ONLINE),
        ("2 x 2", D_ONLINE),
        ("2 x 2", f"continued/{D_ONLINE}"),
        ("2 x 2", "d_golden"),
        ("2 x 2", "golden_responses"),
    ],
)
def test_data_sets(launch, name, folders, study):
    """Samples, labels and D_online: the same tokens."""
    places = (study.seed / name.removeprefix("continued/"), folders[launch] / name)
    expected, found = (read_token_pairs(place, "train") for place in places)
    for column in (*TOKEN_COLUMNS, "choice", "step"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), column)
    np.testing.assert_allclose(found.probability, expected.probability, rtol=1e-4)


def test_rows_of_two_processes(folders, study):
    places = (path / "rows" / toy.ONLINE / "rows.jsonl" for path in (study.seed, folders["2 x 2"]))
    expected, found = (
        [json.loads(line) for line in place.read_text().splitlines()] for place in places
    )
    assert len(found) == len(expected) == len(toy.SAVED_STEPS)
    for ours, theirs in zip(found, expected, strict=True):
        measured = {k: v for k, v in theirs.items() if isinstance(v, int | float)}
        for name, value in measured.items():
            np.testing.assert_allclose(ours[name], value, err_msg=name, **TOLERANCE)


def test_one_that_is_asked_to_stop_stops_both(folders):
    """Together, in the midst of a data set; what came of it in the end is compared above."""
    kept = json.loads((folders["2 x 2"] / KEPT_OF_RELABEL).read_text())
    assert kept and not (folders["2 x 2"] / "d_golden" / "kept").exists()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_lost_process_is_worth_a_restart(killed, study, tmp_path):
    """What the other ends with is no fault of the program, however it notices."""
    (sft,) = (stage for stage in toy.stages(study.directory) if stage.job == "sft")
    argv = sft.argv(str(study.directory))
    own = {"MODEL_DIR": str(tmp_path / "sft"), "TRAIN_STEPS": 10**6}
    command = ["-m", "pagap_jax.main", *argv, *toy.bindings(own)]
    running = toy.launch(command, 2, 2)
    try:
        until = time.monotonic() + toy.TIME_LIMIT
        while not (tmp_path / "sft" / "metrics.jsonl").exists():
            assert time.monotonic() < until and running[0].poll() is None
            time.sleep(0.1)
        running[killed].kill()
        said = running[1 - killed].communicate(timeout=120)[1]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    code = running[1 - killed].returncode
    assert (-code + 128 if code < 0 else code) in RESTART_CODES, said
    last = said.splitlines()[-1]
    assert f"process {killed} of 2 (host {socket.gethostname()}) was last heard of at" in last
    assert last.endswith(
        "Start the same command on all hosts again: it goes on from what was saved"
    )


def test_processes_that_spread_a_job_differently_do_not_start(study, tmp_path):
    (sft,) = (stage for stage in toy.stages(study.directory) if stage.job == "sft")
    argv = sft.argv(str(study.directory))
    command = ["-m", "pagap_jax.main", *argv, f"--gin.MODEL_DIR={str(tmp_path / 'sft')!r}"]
    own = [f"--gin.NUM_PARTITIONS={number}" for number in (1, 2)]
    for said in toy.end(toy.launch(command, 2, 4, *own), ConfigError.exit_code):
        assert "the settings of processes [1] isn't that of the first" in said
    assert not (tmp_path / "sft").exists()
