"""The folder of one job: who made it, from what, and whether it is finished.

MODEL_DIR/run.json        job, fingerprint of its configuration, parents; written when it starts; of
                          a run that was extended the earlier fingerprints and numbers of steps
MODEL_DIR/result.json     what it measured; written last, so it exists only when all else does
MODEL_DIR/metrics.jsonl   a row each few steps      MODEL_DIR/checkpoints/STEP   Orbax
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from pagap_jax.buckets import entries, told
from pagap_jax.claims import claimed
from pagap_jax.errors import ConfigError
from pagap_jax.extension import (
    CHECKPOINTS,
    EXTENDABLE,
    extends,
    history_with,
    values_by_name,
)
from pagap_jax.files import can_be_written, read_json, refuse_special, write_atomically
from pagap_jax.lineage import RUN_FILE, combined, fingerprint_of, read_run
from pagap_jax.processes import check_same, first_alone, is_first

SHOWN_DIFFERENCES = 5
RESULT_FILE, METRICS_FILE = "result.json", "metrics.jsonl"
KEPT = "kept"  # of a run that was stopped: what it did of its passes over data, until it has ended


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
        self.fingerprint = combined(digest, lineage)
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
                made, or it can't be written. More training steps alone are no other configuration.
            RetryError: another process of this machine is at it.
        """
        check_same("the configuration", json.dumps(self.identity, sort_keys=True))
        first_alone(self._enter)
        return self

    def _enter(self) -> None:
        with told(self.path, at_start=True):
            self._look_and_claim()

    def _look_and_claim(self) -> None:
        refuse_special(self.path)
        if self._differences() == [] and self.result() is not None:
            print(f"{self.job}: was finished before, {self.path}", flush=True)
            return  # only to be read
        with contextlib.ExitStack() as stack:
            with can_be_written(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                # Claimed under the lock: two runs that find the folder empty can't both have it.
                stack.enter_context(claimed(self.path))
                self._claim()
            self._exit = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def checkpoints(self) -> epath.Path:
        return self.path / CHECKPOINTS

    @property
    def metrics(self) -> epath.Path:
        return self.path / METRICS_FILE

    @property
    def earlier_ends(self) -> set[int]:
        """Steps at which the run had ended before it was extended."""
        return {one["train_steps"] for one in self._found().get("history", ())}

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
        if _made_something(self.path):
            differences = self._differences()
            if differences is None:
                raise ConfigError(
                    f"{self.path} holds files and no {RUN_FILE}: no run of ours made them."
                    " Give another MODEL_DIR"
                )
            if differences and not extends(self.identity, self._found()):
                raise ConfigError(
                    f"{self.path} holds another run: {'; '.join(differences)}."
                    " Give another MODEL_DIR, or delete this one"
                )
        if self._differences() != []:
            history = {}
            if _made_something(self.path):
                history["history"] = history_with(self._found())
                print(
                    f"{self.job}: had fewer steps, and is extended, {self.path}; runs that started"
                    " from its end were made from what it was",
                    flush=True,
                )
            (self.path / RESULT_FILE).unlink(missing_ok=True)  # first: a kill leaves what it was
            _write_json(
                self.path / RUN_FILE, self.identity | history | {"provides": self._provides}
            )

    def _found(self) -> dict[str, Any]:
        return read_run(self.path)

    def _differences(self) -> list[str] | None:
        """How the run already in this folder differs from this one; None if there is none."""
        if not (self.path / RUN_FILE).exists():
            return None
        found, now = self._found(), self.identity
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


def read_result(path: epath.PathLike) -> dict[str, Any] | None:
    """The result of the run in a folder, None where there is none yet."""
    file = epath.Path(path) / RESULT_FILE
    return read_json(file) if file.exists() else None


def changed_settings(path: epath.PathLike, configuration: str) -> list[str]:
    """'NAME was VALUE, is now VALUE': why the run in a folder can't go on with a configuration.

    Looks at settings alone, and at no parents. Empty where no run is or more training steps are all
    that is new.
    """
    folder = epath.Path(path)
    if not (folder / RUN_FILE).exists() or not _made_something(folder):
        return []
    found = read_run(folder)["configuration"]
    was, is_now = values_by_name(found), values_by_name(configuration.splitlines())
    changed = {name for name, value in is_now.items() if was.get(name) != value}
    if changed == {EXTENDABLE} and int(was[EXTENDABLE]) < int(is_now[EXTENDABLE]):
        return []
    return _changed_lines(
        [line for line in found if line.partition(" = ")[0] in changed],
        [f"{name} = {is_now[name]}" for name in sorted(changed)],
    )


def _made_something(folder: epath.Path) -> bool:
    def empty(path: epath.Path) -> bool:
        return path.is_dir() and not entries(path)

    return any(
        path.name != RUN_FILE and not path.name.startswith(".") and not empty(path)
        for path in entries(folder)
    )


def _changed_lines(before: list[str], now: list[str]) -> list[str]:
    """'NAME was VALUE, is now VALUE' for the first few parameters that differ."""
    was, is_now = values_by_name(before), values_by_name(now)
    keys = [key for key in sorted({*was, *is_now}) if was.get(key) != is_now.get(key)]
    lines = [f"{k} was {was.get(k, 'not set')}, is now {is_now.get(k, 'not set')}" for k in keys]
    hidden = len(lines) - SHOWN_DIFFERENCES
    return lines[:SHOWN_DIFFERENCES] + [f"and {hidden} more"] * (hidden > 0)


def _write_json(path: epath.Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())
