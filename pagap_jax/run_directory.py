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


class RunDirectory:
    """A job's folder, opened for one configuration of the job."""

    def __init__(
        self, path: str, job: str, fingerprint: str, parents: Mapping[str, str] | None = None
    ):
        """Opens or makes the folder.

        Args:
            path: the folder.
            job: the job's name.
            fingerprint: of the job's configuration.
            parents: path of each artefact that the job reads, by role. Their fingerprints enter
                this run's own, so a run notices when what it was made from has been made anew.

        Raises:
            ConfigError: the folder holds a run of another configuration, or can't be written.
        """
        self.path = epath.Path(path)
        self.job = job
        lineage = {
            role: {"path": str(parent), "fingerprint": fingerprint_of(parent)}
            for role, parent in sorted((parents or {}).items())
        }
        self.fingerprint = _combine(fingerprint, lineage)
        self.identity: dict[str, Any] = {
            "job": job,
            "fingerprint": self.fingerprint,
            "configuration": fingerprint,
            "parents": lineage,
        }
        self._claim()

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
        _write_json(self.path / "result.json", dict(result))
        return dict(result)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder against a second process of the same job on this machine.

        Raises:
            RetryError: another process is at it.
        """
        if not os.path.isdir(self.path):  # a bucket has no locks
            yield
            return
        with open(Path(self.path) / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RetryError(f"{self.path}: another process is working on this run") from error
            yield

    def _claim(self) -> None:
        identity_file = self.path / "run.json"
        # A run that ended before it made anything (a setting that didn't fit) claims nothing.
        if identity_file.exists() and self._made_something():
            differences = self._differences(json.loads(identity_file.read_text()))
            if differences:
                raise ConfigError(
                    f"{self.path} holds another run: {'; '.join(differences)}."
                    " Give another MODEL_DIR, or delete this one"
                )
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _write_json(identity_file, self.identity)
        except OSError as error:
            raise ConfigError(f"{self.path} can't be written: {error}") from error

    def _differences(self, found: Mapping[str, Any]) -> list[str]:
        now = self.identity
        differences = [
            f"{key} was {found.get(key)!r}, is now {now[key]!r}"
            for key in ("job", "configuration")
            if found.get(key) != now[key]
        ]
        for role in sorted({*found["parents"], *now["parents"]}):
            was, is_now = (parents["parents"].get(role, {}) for parents in (found, now))
            # Of what no run of ours made, a path is all that is known.
            made = was.get("fingerprint") or is_now.get("fingerprint")
            key = "fingerprint" if made else "path"
            if was.get(key) != is_now.get(key):
                path = (is_now or was)["path"]
                differences.append(
                    f"{role} ({path}) was {was.get(key)!r}, is now {is_now.get(key)!r}"
                )
        return differences

    def _made_something(self) -> bool:
        def empty(path: epath.Path) -> bool:
            return path.is_dir() and not any(path.iterdir())

        return any(
            path.name not in ("run.json", ".lock") and not empty(path)
            for path in self.path.iterdir()
        )


def read_result(path: epath.PathLike) -> dict[str, Any] | None:
    """The result of the run in a folder, None where there is none yet."""
    file = epath.Path(path) / "result.json"
    return json.loads(file.read_text()) if file.exists() else None


def fingerprint_of(path: epath.PathLike) -> str:
    """The fingerprint of the run that made an artefact; '' for one that no run of ours made.

    What is inside of a run has its place added: one of its checkpoints isn't another.
    """
    folder = epath.Path(path)
    for candidate in (folder, *list(folder.parents)[:2]):
        if (candidate / "run.json").exists():
            found = json.loads((candidate / "run.json").read_text())["fingerprint"]
            place = folder.relative_to(candidate).as_posix()
            return found if place == "." else f"{found}/{place}"
    return ""


def _combine(fingerprint: str, lineage: Mapping[str, Mapping[str, str]]) -> str:
    parents = {role: parent["fingerprint"] for role, parent in lineage.items()}
    text = json.dumps([fingerprint, parents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write_json(path: epath.Path, value: Mapping[str, Any]) -> None:
    temporary = path.parent / f".{path.name}.tmp"
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)
