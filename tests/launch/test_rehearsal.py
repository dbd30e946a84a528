"""rehearsal.sh with programs that say what they see and end as they are told."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

REHEARSAL = Path(__file__).resolve().parents[2] / "launch" / "rehearsal.sh"

# As a shell starts its background jobs, and as tests in one are started.
IGNORING_INTERRUPTS = ("env", "--ignore-signal=INT")

# Arguments: how each process ends, 'CODE' or 'wait' (for SIGTERM) or 'deaf' (to it).
PROGRAM = """\
#!/usr/bin/env bash
for name in JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES JAX_PROCESS_ID JAX_PLATFORMS XLA_FLAGS \\
    JAX_CPU_COLLECTIVES_IMPLEMENTATION PAGAP_PROCESSES; do
  echo "$name=${!name-unset}"
done
how=("$@")
how=${how[$JAX_PROCESS_ID]}
case $how in
  wait) trap 'echo saved; exit 42' TERM ;;
  deaf) trap '' TERM ;;
  *) exit "$how" ;;
esac
echo ready
for ((i = 0; i < 400; i++)); do sleep 0.05; done
"""


@pytest.fixture
def start(tmp_path):
    """Starts a rehearsal with the program above in an empty folder."""
    program = tmp_path / "fake_pagap"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    variables = {**os.environ, "PAGAP": str(program), "PAGAP_PROCESSES": "auto"}
    variables.pop("XLA_FLAGS")

    def begin(*arguments: str, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*IGNORING_INTERRUPTS, REHEARSAL, *arguments], cwd=tmp_path, env={**variables, **more},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return begin


def seen(log: Path) -> dict[str, str]:
    """The environment as one process printed it."""
    return dict(line.split("=", 1) for line in log.read_text().splitlines() if "=" in line)


def wait_for(path: Path, text: str):
    """Until a log says something."""
    until = time.monotonic() + 10
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < until, f"{path} never said {text!r}"
        time.sleep(0.02)


def test_each_process_sees_its_place_among_the_others(start, tmp_path):
    process = start("--devices", "3", "2", "0", "0", XLA_FLAGS="--xla_a=1")
    shown, _ = process.communicate()
    assert process.returncode == 0
    logs = [tmp_path / "rehearsal_logs" / f"process_{i}.log" for i in range(2)]
    first, second = map(seen, logs)
    assert first.pop("JAX_PROCESS_ID") == "0" and second.pop("JAX_PROCESS_ID") == "1"
    assert first == second
    host, port = first.pop("JAX_COORDINATOR_ADDRESS").split(":")
    assert host == "localhost" and 20000 <= int(port) < 30000
    assert first == {
        "JAX_NUM_PROCESSES": "2",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_a=1 --xla_force_host_platform_device_count=3",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "PAGAP_PROCESSES": "unset",  # the three variables say it all
    }
    assert shown == logs[0].read_text()  # the first one's is on the screen


def test_devices_come_from_the_environment_too(start, tmp_path):
    process = start("--logs", "here", "1", "0", DEVICES_PER_PROCESS="5")
    process.communicate()
    assert seen(tmp_path / "here" / "process_0.log")["XLA_FLAGS"].endswith("count=5")


def test_the_first_bad_end_decides_and_ends_the_others(start, tmp_path):
    process = start("--grace", "1", "3", "wait", "3", "0")
    _, said = process.communicate()
    assert process.returncode == 3
    assert "process 1 ended with 3" in said and "process 0 ended with 42" in said
    assert "saved" in (tmp_path / "rehearsal_logs" / "process_0.log").read_text()


def test_a_process_deaf_to_sigterm_is_killed(start):
    process = start("--grace", "1", "2", "2", "deaf")
    _, said = process.communicate()
    assert process.returncode == 2 and "process 1 ended with 137" in said


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_signals_reach_every_process(start, tmp_path, number):
    process = start("2", "wait", "wait")
    logs = [tmp_path / "rehearsal_logs" / f"process_{i}.log" for i in range(2)]
    for log in logs:
        wait_for(log, "ready")
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 42
    assert all("saved" in log.read_text() for log in logs)


def test_dry_run_starts_nothing(start, tmp_path):
    process = start("--dry_run", "2", "sft", "--gin.MODEL_DIR='/tmp/x y'")
    shown, _ = process.communicate()
    assert process.returncode == 0 and not (tmp_path / "rehearsal_logs").exists()
    assert len(shown.splitlines()) == 2
    one = shown.splitlines()[1].replace(" &", "").replace("rehearsal_logs", ".")
    one = one.replace("'sft'", "0 0")  # what is printed can be pasted
    subprocess.run(["bash", "-c", one], cwd=tmp_path, check=True)
    assert seen(tmp_path / "process_1.log")["JAX_PROCESS_ID"] == "1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (("0", "sft"), "found '0', expected a whole number"),
        (("2",), "found '2', expected the number of processes and pagap's arguments"),
        (("--devices", "many", "2", "sft"), "--devices: found 'many', expected"),
        (("--device", "2", "sft"), "found option '--device', expected one of"),
        (("--logs",), "--logs: found nothing, expected a value"),
    ),
)
def test_bad_values_are_refused(start, tmp_path, arguments, message):
    process = start(*arguments)
    _, said = process.communicate()
    assert process.returncode == 2 and message in said
    assert not (tmp_path / "rehearsal_logs").exists()
