"""Which run made an artefact, and from what: fingerprints, and what run.json says of a run."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from pagap_jax.buckets import checksums, in_bucket, told
from pagap_jax.errors import ConfigError
from pagap_jax.extension import fingerprint_at
from pagap_jax.files import located, read_json, refuse_special

RUN_FILE = "run.json"
SAMPLED_FILES, SAMPLED_BYTES = 16, 4096  # of an artefact that no run of ours made


def fingerprint_of(path: epath.PathLike) -> str:
    """The fingerprint of the run that made an artefact; of any other artefact that of its content.

    What is inside of a run has its place added: one of its checkpoints isn't another. A checkpoint
    from before a run was extended keeps the fingerprint that it had then.
    """
    if run := run_around(path):
        place = epath.Path(path).relative_to(run[0])
        found = fingerprint_at(place.parts, run[1])
        return f"{found}/{place.as_posix()}" if place.parts else found
    return _content_fingerprint(located(path))


def identity_of(path: epath.PathLike) -> dict[str, Any] | None:
    """What run.json says of the run that an artefact is, or is a part of; None for others'."""
    found = run_around(path)
    return found and found[1]


def folder_of_run(path: epath.PathLike) -> epath.Path | None:
    """The folder of the run of ours that an artefact is, or is a part of."""
    found = run_around(path)
    return found and found[0]


def require_job(path: epath.PathLike, role: str, *jobs: str) -> None:
    """Raises ConfigError where a run of ours made an artefact that is no such thing.

    What others made has no such record, and passes.
    """
    run = run_around(path)
    if run and run[1]["job"] not in jobs:
        raise ConfigError(
            f"{path}: found a run of `{run[1]['job']}`, expected {role}, of {' or '.join(jobs)}"
        )


def run_around(path: epath.PathLike) -> tuple[epath.Path, dict[str, Any]] | None:
    """The run of ours that an artefact is, or is a part of: its folder and its run.json."""
    folder = epath.Path(path)
    refuse_special(folder)
    with told(path, at_start=True):
        for candidate in (folder, *list(folder.parents)[:2]):
            refuse_special(candidate / RUN_FILE)
            if (candidate / RUN_FILE).exists():
                return candidate, read_run(candidate)
    return None


def read_run(folder: epath.PathLike) -> dict[str, Any]:
    """What the run.json of a run's folder holds.

    Raises:
        DataError: it is damaged; names it.
    """
    names = ("job", "fingerprint", "configuration", "parents")
    return read_json(epath.Path(folder) / RUN_FILE, *names)


def combined(fingerprint: str, lineage: Mapping[str, Mapping[str, str]]) -> str:
    """The fingerprint of a run, of its own and its parents'."""
    parents = {role: parent["fingerprint"] for role, parent in lineage.items()}
    text = json.dumps([fingerprint, parents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content_fingerprint(artefact: epath.Path) -> str:
    """Digest of names, sizes and both ends of the largest files: all of XXL would take long.

    In a bucket of names, sizes and the bucket's own checksums. A missing path gives ''; the reader
    reports it.
    """
    if in_bucket(artefact):
        found = checksums(artefact)
        return found and hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12] or ""
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
