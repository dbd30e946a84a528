"""Requests to stop, in processes of their own: none is lost, none waits for what can't look."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from pagap_jax import stopping
from pagap_jax.errors import InterruptError, StoppedError
from tests.fixtures import toy
from tests.fixtures.stops import watched_patiently

EXIT_CODES = {signal.SIGTERM: 42, signal.SIGINT: 130}
TIME_LIMIT = 30  # seconds
# A process that says 'ready' and then works; `{}` is how.
PROGRAM = """\
import gc, sys, time
from pagap_jax import stopping
from pagap_jax.errors import StoppedError
stopping.ignore_at_the_very_end()
stopping.watch("pagap toy")
stopping.share(lambda: None, lambda code: None, 0.5)  # seconds of patience
def work():
{}
try:
    work()
except StoppedError as error:
    print(f"saved: {{error}}", file=sys.stderr)
    sys.exit(stopping.over(error.exit_code))
"""
LOOKS = """\
    with stopping.unsaved("the step under way"):
        print("ready", flush=True)
        while not stopping.is_requested():
            time.sleep(0.01)
        time.sleep(1)  # the save takes longer than the patience
        raise stopping.stopped("step 3")
"""
BLOCKED = """\
    import os
    console = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # as while TensorFlow is imported
    with stopping.said_on(console):
        print("ready", flush=True)
        time.sleep(60)  # as a compilation does, it never looks
"""
HOLDS = """\
    with stopping.unsaved("the step under way"):
        print("ready", flush=True)
        time.sleep(60)
"""
COLLECTS = """\
    class Loop: pass
    gc.callbacks.append(lambda *_: time.sleep(0.001))
    print("ready", flush=True)
    while not stopping.is_requested():
        it = Loop(); it.itself = it
        gc.collect()
    raise stopping.stopped("seen")
"""


@pytest.fixture
def start():
    """Starts the program, until it is ready; Ctrl-C isn't ignored, though the tests' shell may."""
    with contextlib.ExitStack() as ended:

        def started(body):
            process = subprocess.Popen(
                ["env", "--default-signal=INT", sys.executable, "-c", PROGRAM.format(body)],
                cwd=toy.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            ended.enter_context(process)
            ended.callback(process.kill)
            assert process.stdout.readline() == "ready\n"
            return process

        yield started


def end(process):
    """The exit code and what it said."""
    said = process.communicate(timeout=TIME_LIMIT)[1]
    return process.returncode, said


@pytest.mark.parametrize("number", EXIT_CODES)
def test_what_is_unsaved_is_waited_for(number, start):
    process = start(LOOKS)
    process.send_signal(number)
    said = select.select([process.stderr], [], [], TIME_LIMIT)[0] and process.stderr.readline()
    assert f"{stopping.NAMES[number]}: waits for the step under way" in said  # before it's saved
    assert process.poll() is None
    code, rest = end(process)
    assert code == EXIT_CODES[number] and rest == "saved: step 3\n"


@pytest.mark.parametrize("number", EXIT_CODES)
def test_what_cannot_look_and_has_nothing_to_save_ends(number, start):
    process, since = start(BLOCKED), time.monotonic()
    process.send_signal(number)
    code, said = end(process)
    assert code == EXIT_CODES[number] and time.monotonic() - since < TIME_LIMIT
    assert "stops; there is nothing to save" in said
    assert said.endswith(
        "ended where it was, all that was saved is kept: the same command goes on\n"
    )


def test_only_a_second_ctrl_c_ends_at_once(start):
    """A second SIGTERM is a study's or a cluster's own, while the first one is heeded."""
    process = start(HOLDS)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        time.sleep(2 * stopping.BOUNCE)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, said = end(process)
    assert code == 42 and "ended at once" in said  # by the first signal


def test_a_signal_in_a_collection_of_garbage_is_heeded(start):
    process = start(COLLECTS)
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130


def test_a_job_that_is_over_keeps_its_exit_code(start):
    body = '    stopping.over(0)\n    print("ready", flush=True)\n    time.sleep(60)\n'
    process = start(body)
    process.send_signal(signal.SIGTERM)
    code, said = end(process)
    assert code == 0 and "is over already" in said


ENDS = """\
    import os
    class Last:
        def __del__(self, write=os.write, sleep=time.sleep):
            write(1, b"ready\\n")
            sleep(2)
    sys.modules["last"] = Last()  # goes when Python has given the signals back
    stopping.over(0)
"""


@pytest.mark.parametrize("number", EXIT_CODES)
def test_a_signal_while_python_ends_changes_no_exit_code(number, start):
    process = start(ENDS)
    process.send_signal(number)
    assert end(process)[0] == 0


def test_a_job_that_is_over_has_its_patience_once_more(start):
    """While it waits for the others; JAX aborts them where it ends first."""
    body = (
        '    print("ready", flush=True)\n'
        "    while not stopping.is_requested():\n        time.sleep(0.01)\n"
        "    time.sleep(0.3)\n    stopping.over(0)\n    time.sleep(0.3)\n"
        '    print("met the others", flush=True)\n'
    )
    process = start(body)
    process.terminate()
    assert process.communicate(timeout=TIME_LIMIT)[0] == "met the others\n"
    assert process.returncode == 0


def test_an_ignored_ctrl_c_stays_ignored_and_handlers_come_back():
    before = [signal.getsignal(number) for number in EXIT_CODES]
    interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with watched_patiently(), stopping.watched():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not before[0]
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopping.is_requested() and type(stopping.stopped("")) is StoppedError
        assert not stopping.is_requested()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, interrupts)
    assert [signal.getsignal(number) for number in EXIT_CODES] == before


def test_the_others_are_told_also_of_what_came_before_they_were_there():
    told = []
    with stopping.watched():
        stopping.share(lambda: told.append("nobody"), lambda code: None, 60.0)
        os.kill(os.getpid(), signal.SIGTERM)
        while not told:
            time.sleep(0.01)
        stopping.share(lambda: told.append("others"), lambda code: None, 60.0)
    assert told == ["nobody", "others"]


@pytest.fixture
def _ctrl_c_is_heard():
    """Also where a script's background job, which ignores it, runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_is_heard")
@pytest.mark.parametrize("number", EXIT_CODES)
def test_what_a_signal_may_have_caused_ends_by_the_signal(number):
    """A peer that had the same Ctrl-C may be lost before this process looks."""
    with watched_patiently():
        assert stopping.exit_code_or(134) == 134
        os.kill(os.getpid(), number)
        assert stopping.exit_code_or(134) == EXIT_CODES[number]


def test_ctrl_c_is_worth_no_restart():
    assert issubclass(InterruptError, StoppedError) and InterruptError.exit_code == 130
