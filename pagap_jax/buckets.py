"""Buckets (gs://): what folders have and buckets lack, made of what buckets have.

A bucket holds whole objects: each appears when its upload is complete, or not at all. It has no
folders that could be empty, no locks (`claims.py`) and nothing to append to. gcsfs is what speaks
to it, through etils.epath; arrays go through tensorstore.

What only reads files (array_record, sentencepiece, safetensors, parsers of data) is given a copy on
this machine's disk.
"""

import base64
import concurrent.futures
import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
from etils import epath

from pagap_jax.errors import ConfigError, RetryError

CACHE_VARIABLE = "PAGAP_CACHE_DIR"
SIZE_VARIABLE = "PAGAP_CACHE_GIB"
DEFAULT_GIB = 200
STALLED_AFTER = 60.0  # seconds without a byte, after which a request is made again
_IN_USE = 24 * 3600  # seconds since its last use in which a copy isn't deleted
_GIB = 2**30
# With which tensorstore's messages begin, where a bucket didn't answer well.
_CODES = ("PERMISSION_DENIED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED")
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # else each failure is a page of traceback
_KNOWN = ".mirrored.json"  # checksums of what `mirror` has copied


def in_bucket(path: epath.PathLike) -> bool:
    """Whether a path names an object, or what would be a folder, in a bucket."""
    return "://" in os.fspath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """A path from the root on; a bucket's is so already."""
    return epath.Path(path) if in_bucket(path) else epath.Path(path).resolve()


def entries(folder: epath.PathLike) -> list[epath.Path]:
    """What lies in a folder, here or in a bucket; nothing where there is no folder."""
    folder = epath.Path(folder)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def checksums(path: epath.PathLike) -> dict[str, str]:
    """Size in bytes and CRC32C of the files below a path, by their names from there on.

    A file by itself has the name ''. A bucket tells them; local files are read.
    """
    if not in_bucket(path):
        return _local_checksums(Path(path))
    with told(path):
        found = _file_system(path).find(_without_scheme(path), detail=True)
    return {
        name[len(_without_scheme(path)) :].lstrip("/"): f"{info['size']} {_checksum(info)}"
        for name, info in sorted(found.items())
        if not name.endswith("/")  # a console makes such an object for an empty folder
    }


def matching(pattern: str) -> list[str]:
    """What a pattern matches in a bucket, or the one file or folder that it names."""
    scheme = pattern.partition("://")[0]
    with told(pattern):
        if any(sign in pattern for sign in "*?["):
            found = _file_system(pattern).glob(_without_scheme(pattern))
            return [f"{scheme}://{name}" for name in sorted(found)]
    return [pattern] if checksums(pattern) else []


def local_copy(path: epath.PathLike, names: Sequence[str] | None = None) -> Path:
    """A file or folder of a bucket on this machine's disk; what is there already as it is.

    A copy is made once and kept for later jobs, in PAGAP_CACHE_DIR (else ~/.cache/pagap_jax), as
    long as all copies together take no more than PAGAP_CACHE_GIB (200). Processes that make the
    same one at the same time each make it aside, and one of them is kept.

    Args:
        names: of the files of a folder that are copied; None for all.

    Raises:
        ConfigError: there is nothing.
        RetryError: the bucket gave something else than it lists.
    """
    if not in_bucket(path):
        return Path(path)
    found = checksums(path)
    if names is not None:
        found = {name: found[name] for name in names if name in found}
    if not found:
        raise ConfigError(f"nothing is at {os.fspath(path)}")
    text = json.dumps([os.fspath(path), found])
    place = cache_folder() / "copies" / hashlib.sha256(text.encode()).hexdigest()[:16]
    copy = place / epath.Path(path).name
    if not place.exists():
        _make_copy(path, found, place)
        _delete_oldest(place.parent, keep=place)
    os.utime(place)
    return copy


def upload(
    folder: Path,
    destination: epath.PathLike,
    files: Sequence[Path] | None = None,
    last: Sequence[str] = (),
) -> None:
    """Copies files of a folder into a bucket.

    Args:
        files: None for all that is in the folder and its folders.
        last: names of files that tell that all are there.
    """
    chosen = [file for file in folder.rglob("*") if file.is_file()] if files is None else files
    for file in sorted(chosen, key=lambda file: (file.name in last, file)):
        name = file.relative_to(folder).as_posix()
        with told(f"{os.fspath(destination)}/{name}"):
            _file_system(destination).put_file(
                os.fspath(file), f"{_without_scheme(destination)}/{name}"
            )


def mirror(path: epath.PathLike, target: Path, wanted: Callable[[str], bool]) -> None:
    """Copies what is new of the objects below a path, and deletes what is gone.

    Args:
        wanted: whether an object is copied, by its name below the path.
    """
    known_file = target / _KNOWN
    known = json.loads(known_file.read_text()) if known_file.exists() else {}
    found = {name: sums for name, sums in checksums(path).items() if wanted(name)}
    for name in known.keys() - found.keys():
        (target / name).unlink(missing_ok=True)
    for name, sums in found.items():
        if known.get(name) != sums or not (target / name).exists():
            _download(f"{os.fspath(path)}/{name}", target / name, sums)
    target.mkdir(parents=True, exist_ok=True)
    known_file.write_text(json.dumps(found))


def cache_folder() -> Path:
    """Where this machine keeps what can be made or fetched again."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pagap_jax"


@contextlib.contextmanager
def told(path: epath.PathLike, at_start: bool = False) -> Iterator[None]:
    """In the block the storage's own errors become ours, with the object's name.

    Errors at a path of this machine are left as they are.

    Args:
        at_start: of a job. What is forbidden then is a mistake; later on it worked before.

    Raises:
        ConfigError: no permission (403), at the start.
        RetryError: it didn't answer well in spite of gcsfs's retries.
    """
    if in_bucket(path):
        _end_stalled_requests()
    try:
        yield
    except Exception as error:
        if not in_bucket(path) or (ours := as_ours(error, os.fspath(path), at_start)) is None:
            raise
        raise ours from error


def as_ours(
    error: BaseException, path: str = "", at_start: bool = False
) -> ConfigError | RetryError | None:
    """An error of the storage as one of ours, see `told`; None for what isn't one of the storage.

    Args:
        path: what was asked for, where the error doesn't say.
    """
    place = f"{path}: " if path else ""
    text = str(error).partition(" [")[0].replace("\n", " ")[:300]
    of_tensorstore = "gs://" in text and text.startswith(_CODES)
    if text.startswith(("Forbidden", "403 ")) or (of_tensorstore and text.startswith(_CODES[0])):
        kind = ConfigError if at_start else RetryError
        return kind(
            f"{place}the bucket refuses (403): {text}. The account that runs this needs"
            " roles/storage.objectUser on the bucket"
        )
    module = type(error).__module__.split(".")[0]
    # Others speak to networks, too: without a path only what is the storage's for sure.
    of_clients = module in ("gcsfs", "aiohttp")
    of_network = module in ("requests", "google", "urllib3") or isinstance(
        error, TimeoutError | ConnectionError
    )
    if of_tensorstore or of_clients or (path and of_network):
        return RetryError(f"{place}the bucket didn't answer ({type(error).__name__}: {text})")
    return None


def _make_copy(path: epath.PathLike, found: Mapping[str, str], place: Path) -> None:
    aside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name, sums in found.items():
            target = aside / epath.Path(path).name / name
            _download(f"{os.fspath(path)}/{name}".rstrip("/"), target, sums)
        with contextlib.suppress(OSError):  # another process was first: its copy is the same
            aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _download(source: str, target: Path, sums: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with told(source):
        _file_system(source).get_file(_without_scheme(source), os.fspath(target))
    _verify(target, sums, source)


def _local_checksums(path: Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file()) or [path] * path.is_file()
    names = [file.relative_to(path).as_posix().removeprefix(".") for file in files]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(checksum, files), strict=True))


def _verify(file: Path, expected: str, name: str) -> None:
    """Raises RetryError where a download isn't what the bucket lists."""
    if (found := checksum(file)) != expected:
        raise RetryError(f"{name}: found {found} (bytes, CRC32C), expected {expected}: cut off")


def checksum(file: Path) -> str:
    """Size in bytes and CRC32C of a local file."""
    sums = google_crc32c.Checksum()
    with file.open("rb") as content:
        while piece := content.read(1 << 22):
            sums.update(piece)
    return f"{file.stat().st_size} {base64.b64encode(sums.digest()).decode()}"


def _delete_oldest(copies: Path, keep: Path) -> None:
    limit = float(os.environ.get(SIZE_VARIABLE, DEFAULT_GIB)) * _GIB
    by_age = sorted((p for p in copies.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    sizes = {p: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in by_age}
    for place in by_age:
        used = time.time() - place.stat().st_mtime < _IN_USE
        if sum(sizes.values()) > limit and place != keep and not used:
            shutil.rmtree(place, ignore_errors=True)
            del sizes[place]


@functools.cache
def _end_stalled_requests() -> None:
    """Gives gcsfs, before its first request, a limit of silence; it would wait for ever.

    No limit of the whole: what is large takes long.
    """
    import aiohttp
    from fsspec.config import conf

    limit = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=STALLED_AFTER)
    conf.setdefault("gcs", {}).setdefault("requests_timeout", limit)


def _file_system(path: epath.PathLike) -> Any:
    import fsspec

    _end_stalled_requests()
    scheme = os.fspath(path).partition("://")[0]
    system = fsspec.filesystem(scheme)
    system.invalidate_cache()  # another process may have written since
    return system


def _without_scheme(path: epath.PathLike) -> str:
    return os.fspath(path).partition("://")[2].rstrip("/")


def _checksum(info: Mapping[str, Any]) -> str:
    return str(info.get("crc32c") or info.get("ETag") or info.get("etag") or "")
