"""What a job's user sees of the libraries below: nothing, unless they fail."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pagap_jax.data.quiet_seqio import stderr_held_back
from tests.fixtures.stops import watched_patiently


def test_nothing_is_written_while_tensorflow_is_imported():
    code = "from pagap_jax.data.quiet_seqio import seqio; seqio.ByteVocabulary"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_shows_what_was_held_back_when_the_block_raises(capfd):
    with pytest.raises(ImportError), stderr_held_back():
        os.write(2, b"missing libsomething.so\n")
        raise ImportError
    assert capfd.readouterr().err == "missing libsomething.so\n"


def test_later_lines_are_shown(capfd):
    with stderr_held_back():
        os.write(2, b"a note\n")
    os.write(2, b"an error\n")
    assert capfd.readouterr().err == "an error\n"


def test_a_request_to_stop_is_told_meanwhile(capfd):
    with watched_patiently(), stderr_held_back():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    assert "SIGTERM: stops" in capfd.readouterr().err
