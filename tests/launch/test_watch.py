"""`watch`: what it makes of preemptions and exit codes, played by two workers on this machine."""

import subprocess

import pytest

from launch.tpu_vm.__main__ import main
from launch.tpu_vm.watch import Status, exit_code, parse_statuses

WORKERS = 2
MACHINE = ("--name=sft-0", "--project=my-project", "--zone=us-east5-a", "--slice=v5p:2x2x2")
JOB = ("--", "sft", "--gin_file=studies/tiny/sft.gin", "--gin.MODEL_DIR='/mnt/b/sft'",
       "--gin.PAIRS_DIR='/mnt/b/p'", "--gin.SEED=0")  # fmt: skip


def verbs(programs) -> list[str]:
    """What gcloud was asked for, looks left out."""
    found = []
    for program, *arguments in programs.calls():
        if program != "gcloud" or arguments[3] == "describe":
            continue
        command = next((a for a in arguments if a.startswith("--command=")), "")
        if " status" in command:
            continue
        names = {"setup_worker.sh": "setup", " start ": "start", "run_worker.sh stop": "stop"}
        found.append(next((n for text, n in names.items() if text in command), arguments[3]))
    return found


def watch(*more: str) -> int:
    return main(["watch", *MACHINE, "--poll=0.05", *more, *JOB])


def test_watch_makes_the_machine_and_reruns_after_42(programs, plan):
    plan(42, 0)
    assert watch() == 0
    assert verbs(programs) == ["create", "scp", "setup", "start", "start"]


def test_watch_makes_a_preempted_machine_anew(programs, plan):
    plan("preempted", 0)
    assert watch("--delete_after") == 0
    once = ["create", "scp", "setup", "start"]
    assert verbs(programs) == [*once, "delete", *once, "delete"]


def test_a_restart_waits_until_all_workers_ended(programs, plan, tmp_path):
    plan([42, "slow"], 0)
    assert watch() == 0
    assert verbs(programs) == ["create", "scp", "setup", "start", "start"]
    assert [(tmp_path / f"starts_worker_{i}").read_text() for i in range(2)] == ["xx", "xx"]


def test_workers_that_miss_a_lost_one_too_long_are_stopped(programs, plan, monkeypatch):
    monkeypatch.setattr("launch.tpu_vm.watch.END_WITHIN", 0.2)
    plan([42, "hangs"], 0)
    assert watch() == 0
    assert verbs(programs) == ["create", "scp", "setup", "start", "stop", "start"]


@pytest.mark.parametrize("code", (2, 3))
def test_watch_gives_up_where_no_restart_helps(programs, plan, code):
    plan(code, 0)
    assert watch() == code
    assert verbs(programs) == ["create", "scp", "setup", "start"]


def test_watch_gives_up_after_so_many_restarts(programs, plan, capfd):
    plan(42, 134, 137, 0)
    assert watch("--max_restarts=2") == 137
    assert verbs(programs).count("start") == 3
    assert "gives up after 2 restarts" in capfd.readouterr().err


def test_watch_sets_nothing_up_under_a_run(programs, plan, tmp_path):
    plan(42, 0, state="ACTIVE")
    main(["setup", *MACHINE])
    slow = "#!/bin/sh\nsleep 0.7\n"
    for i in range(WORKERS):
        program = tmp_path / f"worker_{i}" / "pagap" / "venv" / "bin" / "pagap"
        program.unlink()
        program.write_text(slow)
        program.chmod(0o755)
    start = ["bash", "launch/tpu_vm/run_worker.sh", "start", "pagap", *JOB[1:]]
    for i in range(WORKERS):
        home = str(tmp_path / f"worker_{i}")
        subprocess.run(start, env={"HOME": home, "PATH": "/usr/bin:/bin"}, check=True)
    assert watch() == 0
    assert verbs(programs) == ["scp", "setup", "start"]  # no second setup; start found the run
    assert not (tmp_path / "starts_worker_0").exists()


def test_statuses_are_found_among_what_ssh_says():
    text = "Warning: added\npagap_status running 0 0\nWarning\npagap_status ended 42 1700\r\n"
    assert parse_statuses(text) == [Status("running", 0, 0), Status("ended", 42, 1700)]


@pytest.mark.parametrize(
    ("statuses", "code"),
    (
        ([("running", 0, 0), ("ended", 0, 5)], None),
        ([("ended", 0, 9), ("ended", 0, 5)], 0),
        ([("ended", 134, 9), ("ended", 2, 5)], 2),
        ([("ended", 1, 9), ("ended", 42, 5)], 42),
        ([("ended", 1, 9), ("lost", 0, 0)], 137),
        ([("running", 0, 0), ("none", 0, 0)], 137),
    ),
)
def test_the_first_bad_end_decides(statuses, code):
    assert exit_code([Status(*status) for status in statuses]) == code
