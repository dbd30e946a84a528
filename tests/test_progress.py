"""What is said while a job trains: lines in a log, a bar on a terminal."""

import os
import pty
import re
import subprocess
import sys

import pytest

from pagap_jax.progress import TrainingProgress

ROW = {
    "loss": 0.23104, "margin": 1.5, "chosen_probability": 0.71, "kl": 3.205,
    "tokens_per_second": 5123.4, "gradient_norm": 2.0,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    return now


def test_a_log_has_the_first_row_one_each_thirty_seconds_and_the_last(clock, capsys):
    with TrainingProgress("align", 0, 400) as shown:
        for step in range(20, 401, 20):
            clock[0] += 7.0
            shown.show(step, ROW)
    out, err = capsys.readouterr()
    assert err == ""
    steps = [int(re.match(r"align: step (\d+) of 400: ", line)[1]) for line in out.splitlines()]
    assert steps == [20, 120, 220, 320, 400]  # 35 seconds apart


def test_a_line_says_what_the_job_has_and_the_time_left(clock, capsys):
    with TrainingProgress("align", 100, 800) as shown:
        for step, time in ((120, 50.0), (140, 81.0)):
            clock[0] = time
            shown.show(step, ROW)
    told = "loss 0.2310, margin 1.50, judge 0.71, KL 3.21, 5,123 tokens/s"
    assert capsys.readouterr().out.splitlines() == [
        f"align: step 120 of 800: {told}",  # the first 50 seconds are no measure: they compile
        f"align: step 140 of 800: {told}, 0:17:03 left",  # 660 steps at 20 in 31 seconds
    ]
    with TrainingProgress("preference_model", 0, 8) as shown:
        shown.show(8, {"loss": 0.5, "pairs_per_second": 12.34, "chosen_probability": float("nan")})
    assert capsys.readouterr().out == "preference_model: step 8 of 8: loss 0.5000, 12.3 pairs/s\n"


def test_on_a_terminal_it_is_a_bar_and_no_lines():
    code = (
        "from pagap_jax.progress import TrainingProgress\n"
        "with TrainingProgress('sft', 0, 4) as shown: shown.show(2, {'loss': 0.5})\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "120", "TERM": "xterm"}
    finished = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert finished.returncode == 0 and finished.stdout == b""
    assert "2/4" in shown and "loss 0.5000" in shown
