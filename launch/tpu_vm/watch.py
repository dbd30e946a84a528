"""Follows a run on a TPU VM to its end, through preemptions: makes the machine anew and goes on."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launch.options import RESTART_CODES
from launch.runner import CommandError, Runner
from launch.tpu_vm.commands import Machine
from pagap_jax.errors import RetryError

ABSENT, ACTIVE = "absent", "ACTIVE"
GONE = ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING")  # none of them becomes active again
FAILED_LOOKS = 10  # in a row, after which there is something else wrong than a bad moment
# Seconds that the other workers get to end by themselves; JAX needs 60 to miss a lost one.
END_WITHIN = 180.0
LOST = 137  # what a run counts as whose worker went away under it: as if killed


class Status(NamedTuple):
    """How the run on one worker is."""

    state: str  # none, running, ended or lost
    code: int
    ended_at: int


def parse_statuses(text: str) -> list[Status]:
    """The lines of all workers among whatever else ssh prints."""
    found = re.findall(r"^pagap_status (none|running|ended|lost) (\d+) (\d+)\s*$", text, re.M)
    return [Status(state, int(code), int(at)) for state, code, at in found]


def exit_code(statuses: Sequence[Status]) -> int | None:
    """0 if all ended well, None if none ended badly yet; else that of the first which did.

    What ends after the first ends because of it: its code says less. A worker that lost its run
    without a code went away, and so was before all that missed it.
    """
    if any(status.state in ("lost", "none") for status in statuses):
        return LOST
    bad = [status for status in statuses if status.state == "ended" and status.code]
    if bad:
        return min(bad, key=lambda status: status.ended_at).code
    return 0 if all(status.state == "ended" for status in statuses) else None


class Watch:
    """One run on one machine.

    Attributes:
        poll: seconds between two looks.
    """

    def __init__(
        self,
        runner: Runner,
        machine: Machine,
        environment: Mapping[str, str],
        arguments: Sequence[str],
        poll: float,
    ):
        self._runner = runner
        self._machine = machine
        self._start = machine.start(environment, arguments)
        self._poll = poll
        self._is_set_up = False

    def run(self) -> int:
        """Starts the run, or finds it under way, and returns its exit code."""
        self._runner.run(self._start)
        _say(f"log: {' '.join(self._machine.show_log())}")
        code = self._follow()
        _say(f"the run ended with {code}" if code is not None else "the machine is gone")
        return LOST if code is None else code

    def watch(self, max_restarts: int) -> int:
        """Creates, sets up and runs, again where that helps; returns the last exit code."""
        for restart in range(max_restarts + 1):
            if restart:
                _say(f"restart {restart} of {max_restarts}")
                self._sleep()
            try:
                code = self.run() if self._prepare() else LOST
            except CommandError as error:  # a machine that comes or goes doesn't answer, say
                _say(f"{error}")
                code = LOST
            if code not in RESTART_CODES:
                return code
        _say(f"gives up after {max_restarts} restarts")
        return code

    def _prepare(self) -> bool:
        """An active machine that is set up; False where it went away meanwhile."""
        state = self._state()
        if state in GONE:
            self._runner.run(self._machine.delete())
            state = ABSENT
        if state == ABSENT:
            self._is_set_up = False
            self._runner.run(self._machine.create())
        while (state := self._state()) != ACTIVE:
            if state in GONE or state == ABSENT:
                return False
            self._sleep()
        if not self._is_set_up and not self._is_running():
            for command in self._machine.setup():
                self._runner.run(command)
        self._is_set_up = True
        return True

    def _is_running(self) -> bool:
        """Whether an earlier watch left a run: nothing may be installed under it."""
        try:
            statuses = parse_statuses(self._runner.read(self._machine.status()))
        except CommandError:
            return False
        return any(status.state == "running" for status in statuses)

    def _follow(self) -> int | None:
        """The run's exit code once all workers ended; None where the machine went away."""
        failed_looks, first_bad = 0, None
        while True:
            statuses = self._look()
            if len(statuses) == self._machine.slice.hosts:
                failed_looks = 0
                code = exit_code(statuses)
                are_running = any(status.state == "running" for status in statuses)
                if code is not None and not are_running:
                    return code
                if code:
                    first_bad = first_bad or time.monotonic()
                    if time.monotonic() - first_bad > END_WITHIN:
                        self._runner.run(self._machine.stop())
            elif self._state() in (*GONE, ABSENT):
                return None
            else:
                failed_looks += 1
                if failed_looks == FAILED_LOOKS:
                    raise RetryError(
                        f"found {len(statuses)} of {self._machine.slice.hosts} workers, expected"
                        f" all to answer; {FAILED_LOOKS} times in a row. The run may go on"
                    )
            self._sleep()

    def _look(self) -> list[Status]:
        try:
            return parse_statuses(self._runner.read(self._machine.status()))
        except CommandError as error:
            _say(f"{error}")
            return []

    def _state(self) -> str:
        for look in range(1, FAILED_LOOKS + 1):
            try:
                return self._runner.read(self._machine.describe()).strip()
            except CommandError as error:
                if "NOT_FOUND" in str(error):
                    return ABSENT
                _say(f"{error}")
                if look == FAILED_LOOKS:
                    raise
            self._sleep()
        raise AssertionError

    def _sleep(self) -> None:
        time.sleep(self._poll)


def _say(text: str) -> None:
    print(f"{time.strftime('%F %T')} {text}", file=sys.stderr, flush=True)
