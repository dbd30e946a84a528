"""The start of a launch: who is missing is named, and nobody waits for ever."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from jax.errors import JaxRuntimeError

from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.processes import exit_code_of, join_processes
from pagap_jax.roll_call import code_digest, meet
from tests.fixtures import toy


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def meeting(address, count, those, within=20.0, codes=None):
    """What each of the processes that came was told: None, or the error."""
    told = {}

    def come(index):
        try:
            told[index] = meet(address, count, index, within, (codes or {}).get(index, "same"))
        except (ConfigError, RetryError) as error:
            told[index] = error

    threads = [threading.Thread(target=come, args=(index,)) for index in those]
    for thread in threads:
        thread.start()
        time.sleep(0.05)  # one after another
    for thread in threads:
        thread.join()
    return told


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_go_on_when_all_have_come(address, order):
    assert meeting(address, 3, order) == {0: None, 1: None, 2: None}
    assert meeting(address, 3, order) == {0: None, 1: None, 2: None}  # the port is free again


def test_those_who_came_are_told_who_is_missing(address):
    told = meeting(address, 4, (0, 2), within=1.0)
    for index in (0, 2):
        assert isinstance(told[index], RetryError)
        said = str(told[index])
        assert f"process {index} of 4" in said
        assert "started on 2 of 4 hosts: nothing was heard of process 1, 3 within 1 s" in said
        assert "--worker=all" in said and "JAX_COORDINATOR_PORT" in said


def test_without_the_first_process(address):
    (error,) = meeting(address, 2, (1,), within=0.5).values()
    assert isinstance(error, RetryError)
    assert "nothing was heard of the first process within 0 s" in str(error)


def test_other_code_is_refused(address):
    told = meeting(address, 3, (0, 1, 2), codes={2: "another"})
    assert all(isinstance(error, ConfigError) for error in told.values())
    assert "process 2 runs other code than the first" in str(told[1])


def test_a_port_that_another_program_has_is_worth_a_retry(address):
    """What that program answers isn't taken for the first process's word."""
    host, port = address.split(":")

    def answer():
        with contextlib.suppress(OSError):
            while True:
                line, _ = taken.accept()
                with line:
                    line.sendall(b"HTTP/1.1 400 Bad Request")

    with socket.create_server((host, int(port))) as taken:
        threading.Thread(target=answer, daemon=True).start()
        told = meeting(address, 2, (0, 1), within=1.0)
        taken.shutdown(socket.SHUT_RDWR)
    assert all(isinstance(error, RetryError) for error in told.values())
    assert f"port {port} can't be listened on (Address already in use)" in str(told[0])
    assert "nothing was heard of the first process" in str(told[1])


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", b"77 x", b"0 evil", b""])
def test_a_stray_connection_disturbs_nobody(greeting, address):
    host, port = address.split(":")

    def stray():
        time.sleep(0.1)
        with socket.create_connection((host, int(port)), timeout=5) as line:
            line.sendall(greeting)

    thread = threading.Thread(target=stray)
    thread.start()
    error = meeting(address, 2, (0,), within=1.0)[0]
    assert "started on 1 of 2 hosts: nothing was heard of process 1" in str(error)
    thread.join()


def test_the_digest_is_of_the_code():
    assert code_digest() == code_digest()
    assert len(code_digest()) == 12


def start(**environment):
    """A job that would do nothing but join."""
    command = [sys.executable, "-m", "pagap_jax.main", "sft", "--gin_file=nothing.gin"]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, cwd=toy.ROOT,
        timeout=60,
    )  # fmt: skip


def test_one_of_two_hosts_ends_with_42_and_says_so(address):
    result = start(
        JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="0",
        PAGAP_START_WITHIN="1",
    )  # fmt: skip
    assert result.returncode == 42
    assert "started on 1 of 2 hosts: nothing was heard of process 1 within 1 s" in result.stderr


@pytest.mark.parametrize("gone", [0, 1])
def test_one_that_is_gone_before_it_joined_is_worth_a_restart(gone, address):
    """It was asked to stop after the roll call; JAX aborts those who wait for it."""
    told = []
    other = threading.Thread(
        target=lambda: told.append(meet(address, 2, gone, 30.0)), name="comes and goes"
    )
    other.start()
    result = start(
        JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=f"{1 - gone}",
        PAGAP_START_WITHIN="2",
    )  # fmt: skip
    other.join()
    assert told == [None]
    assert result.returncode == 42
    assert "another one is gone that hadn't joined yet" in result.stderr


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES: found 'two'"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID: found 2"),
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_PROCESS_ID: found ''"),
        (
            {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0", "PAGAP_START_WITHIN": "soon"},
            "PAGAP_START_WITHIN: found 'soon', expected a whole number",
        ),
        (
            {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0", "JAX_COORDINATOR_ADDRESS": "host"},
            "JAX_COORDINATOR_ADDRESS: found 'host', expected HOST:PORT",
        ),
        (
            {"PAGAP_PROCESSES": "auto", "JAX_COORDINATOR_PORT": "65536"},
            "JAX_COORDINATOR_PORT: found '65536', expected a port from 1 to 65535",
        ),
        (
            {
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": "0",
                "JAX_ENABLE_PREEMPTION_SERVICE": "false",
            },
            "JAX_ENABLE_PREEMPTION_SERVICE: found false, expected true",
        ),
    ],
)
def test_a_launch_that_cannot_be_is_exit_2(environment, said, address):
    result = start(**{"JAX_COORDINATOR_ADDRESS": address} | environment)
    assert result.returncode == 2
    assert said in result.stderr


def test_nothing_to_detect_is_exit_2():
    result = start(PAGAP_PROCESSES="auto")
    assert result.returncode == 2
    assert "PAGAP_PROCESSES=auto: JAX found neither a TPU VM nor another cluster" in result.stderr


@pytest.mark.parametrize("failing", [0, 1])
def test_what_one_process_ends_with_is_not_lost(failing, tmp_path):
    """Not in JAX's wait for the others, which ends with 134, as if it were worth a restart."""
    (argv,) = (s.argv(str(tmp_path)) for s in toy.stages(tmp_path) if s.job == "sft")
    last = ["--gin.NUM_PARTITIONS=1"] * 2
    last[failing] = "--gin_file=nothing.gin"
    running = toy.launch(["-m", "pagap_jax.main", *argv], 2, 2, *last)
    try:
        said = running[failing].communicate(timeout=60)[1]
        assert failing == 0 or running[0].poll() is None  # it waits for the other
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert running[failing].returncode == ConfigError.exit_code
    assert "nothing.gin" in said


def test_one_that_is_done_and_whose_peer_is_lost_is_worth_a_restart():
    """The first one may have had more to write; JAX aborts the other in its wait at the end."""
    code = (
        "import os, time; from pagap_jax import processes; processes.join_processes()\n"
        "if processes.is_first(): time.sleep(3); os._exit(0)"
    )
    first, other = toy.launch(["-c", code], 2, 2)
    _, said = (process.communicate(timeout=60)[1] for process in (first, other))
    assert (first.returncode, other.returncode) == (0, 42), said
    assert said.splitlines()[-1].endswith("it goes on from what was saved")


@pytest.mark.parametrize("error", [RuntimeError("no such host"), OSError("no metadata")])
def test_a_machine_that_does_not_know_its_others_yet_is_worth_a_retry(error, monkeypatch):
    from jax._src.clusters import ClusterEnv

    def fail(*_):
        raise error

    monkeypatch.setattr(ClusterEnv, "auto_detect_unset_distributed_params", fail)
    monkeypatch.setenv("PAGAP_PROCESSES", "auto")
    with pytest.raises(RetryError, match=f"JAX didn't find the other processes: {error}"):
        join_processes()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer"), 134),
        (JaxRuntimeError("UNAVAILABLE: Socket closed"), 134),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), 134),
        (ValueError("UNKNOWN option"), 1),
        (JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm"), 1),
        (JaxRuntimeError("INVALID_ARGUMENT: shapes"), 1),
        (ZeroDivisionError("UNKNOWN: not JAX's"), 1),
    ],
)
def test_errors_of_a_lost_process_are_told_from_a_fault_of_the_program(error, code):
    assert exit_code_of(error) == code
