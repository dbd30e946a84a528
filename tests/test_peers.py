"""Beats of the processes of a launch: who is lost and who is stuck is named, with host and time."""

import time

import pytest

from pagap_jax import peers
from pagap_jax.peers import Peers


def heard(looks, at):
    """Process 0 of 3 that has heard beats; `looks` by process, at each of some times."""
    found = Peers(0, 3, 0.0)
    for now in at:
        found.hear({i: f"{now} {n} host{i}" for i, n in looks(now).items()}, float(now))
    return found


def test_a_silent_process_is_named_with_its_host_and_since_when(monkeypatch):
    """Process 2 is killed after 4 s, process 1 has come to its end before."""
    monkeypatch.setattr("time.monotonic", lambda: 20.0)
    monkeypatch.setattr("time.time", lambda: 1e9 + 20)
    monkeypatch.setattr("time.localtime", time.gmtime)

    def looks(now):
        return {0: now, 1: "over", **({2: now} if now <= 4 else {})}

    found = heard(looks, (2, 4, 12))
    found.hear({0: "12 12 host0", 1: "4 over host1"}, 12.0)
    assert found.silent() == [] and found.loss() == ""
    found.hear({0: "14 14 host0", 1: "4 over host1"}, 14.0)
    assert found.loss() == (
        "process 2 of 3 (host host2) was last heard of at 2001-09-09 01:46:44 (16 s ago)."
        f" {peers.AGAIN}"
    )
    assert len(found.warnings(14.0)) == 1 and not found.warnings(1000.0)  # once


def test_time_in_which_this_process_heard_nobody_is_no_silence_of_others():
    found = heard(lambda now: {0: now, 1: now, 2: now}, (2, 4))
    assert found.silent() == []
    found.hear({i: f"900 900 host{i}" for i in range(3)}, 900.0)
    assert found.silent() == []


def test_the_process_that_all_others_wait_for_is_named_now_and_then():
    limit = peers.STUCK_AFTER

    def looks(now):
        return {0: min(now, 8), 1: min(now, 6), 2: min(now, 8)}

    found = heard(looks, range(2, int(limit) + 6, 2))
    assert found.waited_for() == []
    found = heard(looks, range(2, int(limit) + 10, 2))
    assert found.waited_for() == [1]
    (said,) = found.warnings(0.0)
    assert "others wait for process 1 of 3 (host host1) moved last at" in said
    assert not found.warnings(limit) and found.warnings(limit + 1)


def test_all_that_wait_together_wait_for_nobody():
    """A compilation, say."""
    found = heard(lambda now: {i: min(now, 8) for i in range(3)}, range(2, 2000, 2))
    assert found.waited_for() == []


@pytest.mark.parametrize(("count", "period"), [(2, 2.0), (128, 2.0), (1024, 16.0)])
def test_many_processes_beat_less_often(count, period):
    assert Peers(0, count, 0.0).period == period
