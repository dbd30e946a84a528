"""Who works in a folder: a lock of the file system, or in a bucket an object that is renewed.

In a bucket a claim is an object that one process can create, since the bucket takes a write only
of the generation that the writer knows. Its owner renews it. A claim that isn't renewed while
another process watches it for PAGAP_CLAIM_SECONDS belongs to nobody and is taken over; no clocks of
two machines are compared. An owner that couldn't renew for three quarters of that time, because it
was suspended or the network was away, ends before anyone can take its place.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from pagap_jax.buckets import in_bucket, told
from pagap_jax.errors import ConfigError, RetryError

CLAIM = ".claim"
SECONDS_VARIABLE = "PAGAP_CLAIM_SECONDS"
DEFAULT_SECONDS = 120.0


@contextlib.contextmanager
def claimed(folder: epath.PathLike) -> Iterator[None]:
    """Holds a folder against other processes: of this machine, in a bucket of all machines.

    Raises:
        RetryError: another process holds it.
    """
    if in_bucket(folder):
        with _BucketClaim(os.fspath(folder)):
            yield
        return
    with open(Path(folder) / ".lock", "a") as lock:  # "w" would touch a file that others hold
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RetryError(f"{folder}: another process is working on this run") from error
        yield


class _BucketClaim:
    def __init__(self, folder: str):
        self._folder = folder
        self._name = f"{folder.rstrip('/')}/{CLAIM}"
        self._generation = 0  # of our last write; 0 where there is no object
        self._seconds = float(os.environ.get(SECONDS_VARIABLE, DEFAULT_SECONDS))
        self._owner = {
            **_this_process(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="claim", daemon=True)

    def __enter__(self) -> "_BucketClaim":
        with told(self._name, at_start=True):
            self._take()
        self._renewed = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()  # a renewal under way would find the claim given back, and end all
        with contextlib.suppress(Exception):  # it lapses by itself
            self._write({"released": True})

    def _take(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        found = self._read()
        if found is not None and not self._is_free(found):
            said = ", ".join(f"{k} {found[k]}" for k in ("host", "pid", "since") if k in found)
            print(f"{self._folder}: claimed by {said}; waits whether it is renewed", flush=True)
            if self._read_after(self._seconds) != self._generation:
                raise RetryError(f"{self._folder}: another process is working on this run ({said})")
        try:
            self._write(self._owner)
        except PreconditionFailed as error:
            raise RetryError(f"{self._folder}: another process took this run first") from error

    def _read_after(self, seconds: float) -> int:
        """The claim's generation after a wait, or as soon as it is another one."""
        watched, until = self._generation, time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(seconds / 20, 2.0))
            if self._read() is None or self._generation != watched:
                break
        now, self._generation = self._generation, watched
        return now

    def _is_free(self, found: dict[str, Any]) -> bool:
        """Whether it was given back, or its owner was a process of this machine that is dead."""
        if found.get("released"):
            return True
        here = _this_process()
        if any(found.get(name) != here[name] for name in ("boot", "namespace")):
            return False
        return _started(int(found.get("pid", 0))) != found.get("started")

    def _read(self) -> dict[str, Any] | None:
        blob = _bucket(self._name).get_blob(_key(self._name))
        self._generation = 0 if blob is None else int(blob.generation)
        if blob is None:
            return None
        try:
            return dict(json.loads(blob.download_as_bytes()))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self._name}: found {error}, expected a claim of ours") from error

    def _write(self, content: dict[str, Any]) -> None:
        blob = _bucket(self._name).blob(_key(self._name))
        blob.upload_from_string(
            json.dumps(content),
            if_generation_match=self._generation,
            timeout=self._seconds / 4,
            retry=None,  # the next renewal is one; and its own go on for two minutes
        )
        self._generation = int(blob.generation)

    def _renew(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        while not self._ended.wait(self._seconds / 5):
            why = "couldn't renew its claim in the bucket"
            try:
                if time.monotonic() - self._renewed < self._seconds * 3 / 4:
                    self._write(self._owner)
                    self._renewed = time.monotonic()
            except PreconditionFailed:
                why, self._renewed = "lost its claim to another process", -self._seconds
            except Exception:  # the network; tried again
                pass
            if time.monotonic() - self._renewed > self._seconds * 3 / 4:
                os.write(2, f"{self._folder}: {why}: ends, so that no two write\n".encode())
                os._exit(RetryError.exit_code)


def _this_process() -> dict[str, Any]:
    """What tells this process from all others, of this machine or of another."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "namespace": os.readlink("/proc/self/ns/pid"),
    }


def _started(pid: int) -> str | None:
    """When a process of this machine was started, in ticks since the boot; None if it's gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _bucket(name: str) -> Any:
    from google.cloud import storage

    return storage.Client().bucket(name.removeprefix("gs://").partition("/")[0])


def _key(name: str) -> str:
    return name.removeprefix("gs://").partition("/")[2]
