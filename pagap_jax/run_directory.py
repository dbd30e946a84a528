"""The folder of one job: who made it, from what, and whether it is finished.

MODEL_DIR/run.json        job, fingerprint of its configuration, parents; written when it starts
MODEL_DIR/result.json     what it measured; written last, so it exists only when all else does
MODEL_DIR/metrics.jsonl   a row each few steps      MODEL_DIR/checkpoints/STEP   Orbax
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.files import located, write_atomically
from pagap_jax.processes import check_same, first_alone, is_first

SHOWN_DIFFERENCES = 5
RUN_FILE, RESULT_FILE = "run.json", "result.json"
SAMPLED_FILES, SAMPLED_BYTES = 16, 4096  # of an artefact that no run of ours made


class ConfigurationText(str):
    """A job's configuration as text, with the settings that later jobs may take from its run."""

    provides: Mapping[str, list[str]] = {}  # lines of gin by name

    def __add__(self, more: str) -> "ConfigurationText":
        """Longer, with the same settings for later jobs."""
        longer = ConfigurationText(str(self) + more)
        longer.provides = self.provides
        return longer


class RunDirectory:
    """A job's folder, and in a `with` block this process's alone."""

    def __init__(
        self,
        path: str,
        job: str,
        configuration: str,
        parents: Mapping[str, str | None] | None = None,
    ):
        """Names the folder; nothing is looked at or written before the `with` block.

        Args:
            path: the folder.
            job: the job's name.
            configuration: the job's, a line 'NAME = VALUE' a parameter, without places and devices.
            parents: path of each artefact that the job reads, by role; None where there is none.
                Their fingerprints enter this run's own, so a run notices when what it was made
                from has been made anew.
        """
        self.path = epath.Path(path)
        self.job = job
        lineage = {
            role: {"path": str(parent), "fingerprint": fingerprint_of(parent)}
            for role, parent in sorted((parents or {}).items())
            if parent is not None
        }
        digest = hashlib.sha256(configuration.encode()).hexdigest()[:12]
        self.fingerprint = _combine(digest, lineage)
        self.identity: dict[str, Any] = {
            "job": job,
            "fingerprint": self.fingerprint,
            "configuration": configuration.splitlines(),
            "parents": lineage,
        }
        self._provides = getattr(configuration, "provides", {})
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> "RunDirectory":
        """Claims the folder for this run and for this process.

        Raises:
            ConfigError: the folder holds a run of another configuration, or what no run of ours
                made, or it can't be written.
            RetryError: another process of this machine is at it.
        """
        check_same("the configuration", json.dumps(self.identity, sort_keys=True))
        first_alone(self._enter)
        return self

    def _enter(self) -> None:
        if self._differences() == [] and self.result() is not None:
            print(f"{self.job}: was finished before, {self.path}", flush=True)
            return  # only to be read
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                # Claimed under the lock: two runs that find the folder empty can't both have it.
                stack.enter_context(locked(self.path))
                self._claim()
            except OSError as error:
                raise ConfigError(f"{self.path} can't be written: {error}") from error
            self._exit = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def checkpoints(self) -> epath.Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> epath.Path:
        return self.path / "metrics.jsonl"

    def result(self) -> dict[str, Any] | None:
        """What the finished job measured; None while it isn't finished."""
        return read_result(self.path)

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Marks the job as finished. The last thing that a job does."""
        if is_first():
            _write_json(self.path / RESULT_FILE, dict(result))
            print(f"{self.job}: finished, {self.path}", flush=True)
        return dict(result)

    def _claim(self) -> None:
        # A run that ended before it made anything (a setting that didn't fit) claims nothing.
        if self._made_something():
            differences = self._differences()
            if differences is None:
                raise ConfigError(
                    f"{self.path} holds files and no {RUN_FILE}: no run of ours made them."
                    " Give another MODEL_DIR"
                )
            if differences:
                raise ConfigError(
                    f"{self.path} holds another run: {'; '.join(differences)}."
                    " Give another MODEL_DIR, or delete this one"
                )
        if self._differences() != []:
            _write_json(self.path / RUN_FILE, self.identity | {"provides": self._provides})

    def _differences(self) -> list[str] | None:
        """How the run already in this folder differs from this one; None if there is none."""
        if not (self.path / RUN_FILE).exists():
            return None
        found, now = json.loads((self.path / RUN_FILE).read_text()), self.identity
        differences = _changed_lines(found["configuration"], now["configuration"])
        if found["job"] != now["job"]:
            differences = [f"job was {found['job']!r}, is now {now['job']!r}"]
        for role in sorted({*found["parents"], *now["parents"]}):
            was, is_now = (parents["parents"].get(role, {}) for parents in (found, now))
            if was.get("fingerprint") != is_now.get("fingerprint"):
                path = (is_now or was)["path"]
                if is_now and not is_now["fingerprint"]:
                    differences.append(f"{role}: nothing is at {path}")
                    continue
                differences.append(
                    f"{role} ({path}) was {was.get('fingerprint')!r},"
                    f" is now {is_now.get('fingerprint')!r}"
                )
        return differences

    def _made_something(self) -> bool:
        def empty(path: epath.Path) -> bool:
            return path.is_dir() and not any(path.iterdir())

        return any(
            path.name != RUN_FILE and not path.name.startswith(".") and not empty(path)
            for path in self.path.iterdir()
        )


@contextlib.contextmanager
def locked(folder: epath.PathLike) -> Iterator[None]:
    """Holds a folder against other processes of this machine.

    Raises:
        RetryError: another process holds it.
    """
    if "://" in os.fspath(folder):  # a bucket has no locks
        yield
        return
    with open(Path(folder) / ".lock", "a") as lock:  # "w" would touch a file that others hold
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RetryError(f"{folder}: another process is working on this run") from error
        yield


def read_result(path: epath.PathLike) -> dict[str, Any] | None:
    """The result of the run in a folder, None where there is none yet."""
    file = epath.Path(path) / RESULT_FILE
    return json.loads(file.read_text()) if file.exists() else None


def fingerprint_of(path: epath.PathLike) -> str:
    """The fingerprint of the run that made an artefact; of any other artefact that of its content.

    What is inside of a run has its place added: one of its checkpoints isn't another.
    """
    if run := _run_around(path):
        place = epath.Path(path).relative_to(run[0]).as_posix()
        found = run[1]["fingerprint"]
        return found if place == "." else f"{found}/{place}"
    return _content_fingerprint(located(path))


def identity_of(path: epath.PathLike) -> dict[str, Any] | None:
    """What run.json says of the run that an artefact is, or is a part of; None for others'."""
    found = _run_around(path)
    return found and found[1]


def folder_of_run(path: epath.PathLike) -> epath.Path | None:
    """The folder of the run of ours that an artefact is, or is a part of."""
    found = _run_around(path)
    return found and found[0]


def require_job(path: epath.PathLike, role: str, *jobs: str) -> None:
    """Raises ConfigError where a run of ours made an artefact that is no such thing.

    What others made has no such record, and passes.
    """
    run = _run_around(path)
    if run and run[1]["job"] not in jobs:
        raise ConfigError(
            f"{path}: found a run of `{run[1]['job']}`, expected {role}, of {' or '.join(jobs)}"
        )


def _run_around(path: epath.PathLike) -> tuple[epath.Path, dict[str, Any]] | None:
    """The run that an artefact is, or is a part of: its folder and its identity."""
    folder = epath.Path(path)
    for candidate in (folder, *list(folder.parents)[:2]):
        if (candidate / RUN_FILE).exists():
            return candidate, json.loads((candidate / RUN_FILE).read_text())
    return None


def _changed_lines(before: list[str], now: list[str]) -> list[str]:
    """'NAME was VALUE, is now VALUE' for the first few parameters that differ."""
    was, is_now = (dict(line.partition(" = ")[::2] for line in lines) for lines in (before, now))
    keys = [key for key in sorted({*was, *is_now}) if was.get(key) != is_now.get(key)]
    lines = [f"{k} was {was.get(k, 'not set')}, is now {is_now.get(k, 'not set')}" for k in keys]
    hidden = len(lines) - SHOWN_DIFFERENCES
    return lines[:SHOWN_DIFFERENCES] + [f"and {hidden} more"] * (hidden > 0)


def _combine(fingerprint: str, lineage: Mapping[str, Mapping[str, str]]) -> str:
    parents = {role: parent["fingerprint"] for role, parent in lineage.items()}
    text = json.dumps([fingerprint, parents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content_fingerprint(artefact: epath.Path) -> str:
    """Digest of names, sizes and both ends of the largest files: all of XXL would take long.

    In buckets only the path is hashed. A missing path gives ''; the reader reports it.
    """
    if "://" in os.fspath(artefact):
        return hashlib.sha256(os.fspath(artefact).encode()).hexdigest()[:12]
    folder = Path(artefact)
    if not folder.exists():
        return ""
    files = [file for file in folder.rglob("*") if file.is_file()] or [folder]
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    digest = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode())
    for name in sorted(sizes, key=lambda name: (-sizes[name], name))[:SAMPLED_FILES]:
        with (folder / name).open("rb") as file:
            digest.update(file.read(SAMPLED_BYTES))
            file.seek(max(0, sizes[name] - SAMPLED_BYTES))
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:12]


def _write_json(path: epath.Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())
