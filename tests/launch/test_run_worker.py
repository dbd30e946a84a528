"""run_worker.sh and setup_worker.sh, run for real in a home of their own."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

TPU_VM = Path(__file__).resolve().parents[2] / "launch" / "tpu_vm"


@pytest.fixture
def home(tmp_path):
    """A worker's home; whatever runs there is ended with the test."""
    (tmp_path / "pagap" / "venv" / "bin").mkdir(parents=True)
    yield tmp_path
    worker(tmp_path, "stop", "0")


def worker(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One call of run_worker.sh, as ssh makes it."""
    return subprocess.run(
        ["bash", TPU_VM / "run_worker.sh", *arguments], env={**os.environ, "HOME": str(home)},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip


def status(home: Path) -> list[str]:
    return worker(home, "status").stdout.split()[1:3]


def wait_until_ended(home: Path):
    until = time.monotonic() + 10
    while status(home)[0] == "running":
        assert time.monotonic() < until
        time.sleep(0.02)


def pid_of(home: Path) -> int:
    file = home / "pagap" / "run" / "pid"
    until = time.monotonic() + 10
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return int(file.read_text())


def test_a_run_from_start_to_end(home):
    program = home / "pagap" / "venv" / "bin" / "pagap"
    program.write_text('#!/bin/sh\necho "$PWD" "$@"; exit 3\n')
    program.chmod(0o755)
    assert status(home) == ["none", "0"]
    before = time.time()
    assert worker(home, "start", "pagap", "sft", "--gin.A='b c'").returncode == 0
    wait_until_ended(home)
    assert status(home) == ["ended", "3"]
    assert abs(int(worker(home, "status").stdout.split()[3]) - before) < 15
    log = (home / "pagap" / "run" / "log").read_text()
    assert f"{home}/pagap/work sft --gin.A='b c'\n" in log and "exit code 3" in log


def test_a_second_start_goes_on_in_the_same_log(home):
    for code in ("42", "0"):
        worker(home, "start", "sh", "-c", f"echo run {code}; exit {code}")
        wait_until_ended(home)
        assert status(home) == ["ended", code]
    log = (home / "pagap" / "run" / "log").read_text()
    assert "run 42\n" in log and "run 0\n" in log


def test_the_same_command_finds_its_run_and_another_is_refused(home):
    assert "started" in worker(home, "start", "sleep", "20").stdout
    pid = pid_of(home)
    again = worker(home, "start", "sleep", "20")
    assert again.returncode == 0 and "under way already" in again.stdout
    other = worker(home, "start", "sleep", "21")
    assert other.returncode == 2 and "another run under way: sleep 20" in other.stderr
    assert status(home)[0] == "running" and pid_of(home) == pid


def test_a_lost_connection_does_not_end_the_run(home):
    with subprocess.Popen(
        ["bash", TPU_VM / "run_worker.sh", "start", "sleep", "20"],
        env={**os.environ, "HOME": str(home)}, start_new_session=True, stdout=subprocess.PIPE,
    ) as connection:  # fmt: skip
        assert connection.stdout and b"started" in connection.stdout.read()  # no pipe stays open
    assert (home / "pagap" / "run" / "pid").read_text(), "said to be started before it was"
    for number in (signal.SIGHUP, signal.SIGTERM):
        try:
            os.killpg(connection.pid, number)
        except ProcessLookupError:
            pass  # nothing of the connection is left
    assert status(home)[0] == "running"


def test_stop_lets_the_run_save(home):
    saving = "trap 'sleep 0.3; echo saved; exit 42' TERM; echo ready; while :; do sleep 0.05; done"
    worker(home, "start", "bash", "-c", saving)
    log = home / "pagap" / "run" / "log"
    until = time.monotonic() + 10
    while "\nready" not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    worker(home, "stop")
    assert status(home) == ["ended", "42"] and "saved" in log.read_text()


def test_a_run_that_went_away_without_a_code_is_lost(home):
    worker(home, "start", "sleep", "20")
    os.killpg(pid_of(home), signal.SIGKILL)
    wait_until_ended(home)
    assert status(home) == ["lost", "0"]
    assert worker(home, "start", "true").returncode == 0
    wait_until_ended(home)
    assert status(home) == ["ended", "0"]


def test_setup_installs_with_the_constraints(home, programs, monkeypatch):
    shutil.rmtree(home / "pagap" / "venv")
    # uv itself would fetch a Python and half of PyPI.
    programs.add(
        "uv",
        """\
        os.makedirs("venv/bin", exist_ok=True)
        for name in ("python", "pagap"):
            open(f"venv/bin/{name}", "w").write("#!/bin/sh\\n")
            os.chmod(f"venv/bin/{name}", 0o755)
        """,
    )
    install = [
        "uv", "pip", "install", "--quiet", "--python", "venv/bin/python", "--constraint",
        "source/constraints.txt", "--reinstall-package", "pagap_jax", "./source[tpu]",
    ]  # fmt: skip
    monkeypatch.setenv("HOME", str(home))
    for _ in range(2):
        subprocess.run(["bash", TPU_VM / "setup_worker.sh"], check=True)
    make = ["uv", "venv", "--quiet", "--python", "3.11", "venv"]
    assert programs.calls() == [make, install, install]
    assert (home / "pagap" / "work").is_dir()
