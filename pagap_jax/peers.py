"""The other processes of a launch: which of them is silent, and which one the others wait for.

JAX ends a process whose peers are lost, but doesn't say on which host, and one that waits for a
stuck peer waits for ever. So each process writes a beat into JAX's key-value store, which the first
process holds, and reads those of the others. Nothing is ended here.
"""

import ctypes
import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pagap_jax import stopping
from pagap_jax.errors import RetryError

BEAT_EVERY = 2.0  # seconds; longer for many processes, each of which reads the beats of all
READS_A_SECOND = 64  # of all processes together, about
SILENT_AFTER = 8.0  # seconds, of four beats; a thread that imports may hold up the beats as long
STUCK_AFTER = 600.0  # seconds in which nobody got further; a compilation may take minutes
AGAIN = "Start the same command on all hosts again: it goes on from what was saved"
_KEY = "pagap/beat"
_OVER = "over"  # looks of a process that waits for the others at its end


@dataclasses.dataclass
class Peer:
    """What is known of one process.

    Attributes:
        looks: how often it asked whether to stop; it does so as often as the others.
        beat: what it wrote last.
        heard: when that changed, in seconds of this process's monotonic clock.
        moved: when `looks` changed.
    """

    host: str = "an unknown host"
    looks: str = "0"
    beat: str = ""
    heard: float = 0.0
    moved: float = 0.0


class Peers:
    """Beats of all processes of a launch, by their numbers."""

    def __init__(self, index: int, count: int, now: float):
        self.index = index
        self.period = max(BEAT_EVERY, count / READS_A_SECOND)
        self.looks = 0
        self.is_over = False
        self._known = {i: Peer(heard=now, moved=now) for i in range(count)}
        self._read_at = now  # silence counts until then: this process may have been busy since
        self._warned: dict[str, float] = {}

    def hear(self, beats: Mapping[int, str], now: float) -> None:
        """Takes 'TIME LOOKS HOST' of each process that has written one."""
        self._read_at = now
        for index, beat in beats.items():
            peer = self._known[index]
            if beat == peer.beat:
                continue
            _, looks, peer.host = beat.split(" ", 2)
            if looks != peer.looks:
                peer.moved = now
            peer.beat, peer.looks, peer.heard = beat, looks, now

    def silent(self) -> list[int]:
        """Those of which nothing is heard, the first one being gone where nobody answers."""
        limit = self._read_at - SILENT_AFTER / BEAT_EVERY * self.period
        return [i for i, p in self._known.items() if p.heard < limit and p.looks != _OVER]

    def waited_for(self) -> list[int]:
        """Those that are behind where nobody has moved for long."""
        if self._read_at - max(p.moved for p in self._known.values()) < STUCK_AFTER:
            return []
        looks = {i: int(p.looks) for i, p in self._known.items() if p.looks != _OVER}
        behind = [i for i, n in looks.items() if n < max(looks.values())]
        return [i for i in behind if i not in self.silent()]

    def named(self, indices: list[int], what: str) -> str:
        """'process 1 of 2 (host b) was last heard of at 2026-01-31 23:59:59 (9 s ago)', of each."""
        now, lines = time.monotonic(), []
        for index in indices:
            peer = self._known[index]
            seconds = now - (peer.heard if what == "was last heard of" else peer.moved)
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - seconds))
            lines.append(
                f"process {index} of {len(self._known)} (host {peer.host}) {what} at {at}"
                f" ({seconds:.0f} s ago)"
            )
        return "; ".join(lines)

    def loss(self) -> str:
        """The sentence on those that are silent; '' where all are heard of."""
        silent = [i for i in self.silent() if i != self.index]
        return f"{self.named(silent, 'was last heard of')}. {AGAIN}" if silent else ""

    def warnings(self, now: float) -> list[str]:
        """What is new: silent processes once, those that all others wait for every now and then."""
        found, again = {}, {"silent": float("inf"), "stuck": STUCK_AFTER}
        if loss := self.loss():
            found["silent"] = loss
        if waited_for := self.waited_for():
            found["stuck"] = (
                f"nobody got further for {STUCK_AFTER:.0f} s, and the others wait for"
                f" {self.named(waited_for, 'moved last')}. If it's stuck end it, and all others"
                f" end too. {AGAIN}"
            )
        due = [k for k in found if k not in self._warned or now - self._warned[k] > again[k]]
        self._warned = {k: now if k in due else self._warned[k] for k in found}
        return [found[kind] for kind in due]


class Watch:
    """The thread that writes and reads beats while a launch of several processes runs."""

    def __init__(self, index: int, count: int):
        self.peers = Peers(index, count, time.monotonic())
        self._client: Any = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="peers", daemon=True)
        self._handler: Callable | None = None

    def start(self, client: Any) -> None:
        """Beats from now on, by JAX's client of the key-value store: all have joined."""
        self._client = client
        self._thread.start()

    def explain_aborts(self) -> None:
        """Says from now on why JAX aborts this process, which it does where another one is lost."""
        libc = _libc()
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._on_abort)
        libc.signal(signal.SIGABRT, ctypes.cast(self._handler, ctypes.c_void_p))

    def end(self, shut_down: Callable[[], None]) -> None:
        """Waits for the others by JAX's `shut_down`; where one is lost a restart is worth it.

        Before Python shuts down: no thread may then be in a call of JAX's.
        """
        self.peers.is_over = True
        self._over.set()
        self._thread.join()
        try:
            shut_down()
        except RuntimeError:
            stopping.say(f"the others aren't there to end together. {AGAIN}")
            os._exit(stopping.exit_code_or(RetryError.exit_code))
        _libc().signal(signal.SIGABRT, None)

    def wait_for_loss(self) -> str:
        """The sentence on those that are lost, once it's known; '' where all are heard of."""
        until = time.monotonic() + SILENT_AFTER + 3 * self.peers.period
        while not (said := self.peers.loss()) and time.monotonic() < until:
            time.sleep(0.1)
        return said

    def _beat(self) -> None:
        while True:
            is_last = self._over.is_set()
            now = time.monotonic()
            try:
                self._write_and_read(now)
            except Exception:  # the first process is gone, or JAX shuts down
                self.peers.hear({}, now)
            for text in self.peers.warnings(now):
                stopping.say(text)
            if is_last:
                return
            self._over.wait(self.peers.period)

    def _write_and_read(self, now: float) -> None:
        host = socket.gethostname()
        looks = _OVER if self.peers.is_over else self.peers.looks
        beat = f"{now:.3f} {looks} {host}"
        self._client.key_value_set(f"{_KEY}/{self.peers.index}", beat, allow_overwrite=True)
        found = self._client.key_value_dir_get(f"{_KEY}/")
        self.peers.hear({int(key.rpartition("/")[2]): text for key, text in found}, now)

    def _on_abort(self, _: int) -> None:
        """In a thread of JAX's, which aborts the process where this returns."""
        said = self.peers.loss()
        if self._client is None:
            said = f"JAX ended this process: another one is gone that hadn't joined yet. {AGAIN}"
        elif not said and self.peers.index:
            first = self.peers.named([0], "was last heard of")
            said = f"JAX ended this process, most often because the first one is gone: {first}. "
            said += AGAIN
        if said:
            stopping.say(said)
            os._exit(stopping.exit_code_or(RetryError.exit_code))


def _libc() -> Any:
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    return libc
