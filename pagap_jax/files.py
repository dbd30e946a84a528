"""Where files are, and how they come to be whole or not at all."""

import contextlib
import errno
import importlib.resources
import json
import os
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
from etils import epath

from pagap_jax.buckets import in_bucket, told
from pagap_jax.errors import ConfigError, DataError, NoRoomError

if TYPE_CHECKING:  # `pagap --help` does without it
    import numpy as np

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LINES_EVERY = 60.0  # seconds: a bucket takes one write a second of an object, and each costs
_SPECIAL = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
# What reading a damaged .npz raises; its encryption and compression flags may be hit, too.
_DAMAGES = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
SEAL = "crc32c"  # of a JSON file's other fields
PACKAGED = "package:"  # prefix of what ships with this package


def located(path: epath.PathLike) -> epath.Path:
    """A path as it is, 'package:NAME' in the package's assets."""
    text = os.fspath(path)
    if text.startswith(PACKAGED):
        assets = importlib.resources.files("pagap_jax") / "assets"
        return epath.Path(str(assets / text.removeprefix(PACKAGED)))
    return epath.Path(path)


def refuse_special(path: epath.PathLike) -> None:
    """Refuses a FIFO, a device or a socket: at the path, or directly in the folder there.

    To read one would wait for ever, or not end.

    Raises:
        ConfigError: names it.
    """
    if "://" in os.fspath(path):
        return
    found = Path(path)
    try:
        places = [found, *(found.iterdir() if found.is_dir() else ())]
    except OSError:  # who reads it says so
        return
    for place in places:
        with contextlib.suppress(OSError):
            mode = place.stat().st_mode
            if kind := next((name for is_one, name in _SPECIAL if is_one(mode)), ""):
                raise ConfigError(f"{place}: found {kind}, expected a file or a folder")


def write_atomically(path: epath.PathLike, content: bytes) -> None:
    """Writes a file that, also after a kill or a power cut, is whole or as it was before.

    Makes the folder where it's missing. What lies in a bucket is whole or absent by itself.
    """
    if in_bucket(path):
        with told(path):
            epath.Path(path).write_bytes(content)
        return
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with room_for(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def read_json(path: epath.PathLike, *names: str) -> dict[str, Any]:
    """The JSON object in a file that a job wrote.

    Args:
        names: of fields that it has to have.

    Raises:
        DataError: it is cut, empty or something else; names it.
    """
    return _object(epath.Path(path).read_bytes(), os.fspath(path), names)


def read_json_lines(path: epath.PathLike, *names: str) -> list[dict[str, Any]]:
    """The JSON objects of a file that has one a line; [] where there is no file.

    A last line without an end is left out: a job was killed as it wrote it, or is still at it.

    Raises:
        DataError: another line isn't an object with these fields; names it.
    """
    file = epath.Path(path)
    content = file.read_bytes() if file.exists() else b""
    lines = content.split(b"\n")[:-1]
    return [
        _object(line, f"{os.fspath(path)}:{number}", names)
        for number, line in enumerate(lines, start=1)
    ]


def _object(content: bytes, where: str, names: Sequence[str]) -> dict[str, Any]:
    try:
        found = json.loads(content.decode())  # never as UTF-16
    except (ValueError, RecursionError) as error:
        shown = f"{content[:60]!r} ({str(error)[:100]})" if content else "nothing"
        raise DataError(f"{where}: found {shown}, expected the JSON that a job wrote") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: found {str(found)[:60]!r}, expected a JSON object")
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{where}: found no field {missing[0]!r}, expected what a job wrote")
    if SEAL in found and found[SEAL] != _seal_of(found):
        raise DataError(f"{where}: found other content than was written (CRC32C): it is damaged")
    return found


def sealed_json(fields: Mapping[str, Any]) -> bytes:
    """A JSON object with a checksum of itself, by which `read_json` tells whether it is whole."""
    sealed = {**fields, SEAL: _seal_of(json.loads(json.dumps(fields)))}
    return (json.dumps(sealed, indent=2) + "\n").encode()


def _seal_of(fields: Mapping[str, Any]) -> str:
    """CRC32C of the fields, the seal not among them, whatever their order and spaces."""
    rest = {name: value for name, value in fields.items() if name != SEAL}
    return f"{google_crc32c.value(json.dumps(rest, sort_keys=True).encode()):08x}"


def read_arrays(path: epath.PathLike, *names: str) -> "dict[str, np.ndarray]":
    """The arrays of an .npz file, by their names; its own checksums tell what is damaged.

    Args:
        names: of arrays that it has to have.

    Raises:
        DataError: it can't be read; names it.
    """
    import numpy as np

    try:
        with epath.Path(path).open("rb") as file, np.load(file) as arrays:
            found = dict(arrays)
    except _DAMAGES as error:
        raise DataError(f"{os.fspath(path)}: can't be read: {error}") from error
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{os.fspath(path)}: can't be read: it has no array {missing[0]!r}")
    return found


@contextlib.contextmanager
def room_for(path: epath.PathLike | None, num_bytes: int | None = None) -> Iterator[None]:
    """Where a disk turns out to be full in the block, says so.

    Args:
        path: of what is written; None where only the error knows.
        num_bytes: that it takes, before any compression.

    Raises:
        NoRoomError: names both, and what is free.
    """
    try:
        yield
    except NoRoomError:
        raise
    except Exception as error:
        if (reason := _no_room(error)) is None:
            raise
        place = path or getattr(error, "filename", None) or str(error).splitlines()[0]
        needed = "" if num_bytes is None else f"{num_bytes:,} bytes were needed, "
        free = "" if path is None else f"{_free(path):,} are free"
        raise NoRoomError(
            f"{os.fspath(place)}: {reason}{': ' * bool(needed or free)}{needed}{free}. Make room:"
            " the same command goes on from what was saved"
        ) from error


@contextlib.contextmanager
def can_be_written(folder: epath.PathLike) -> Iterator[None]:
    """Where a job claims its folder.

    Raises:
        ConfigError: the folder can't be made or written.
        NoRoomError: its disk is full.
    """
    try:
        with room_for(folder):
            yield
    except OSError as error:
        raise ConfigError(f"{os.fspath(folder)} can't be written: {error}") from error


def _no_room(error: Exception) -> str | None:
    """The system's words where a disk is full; libraries in C++ have them in their own errors."""
    for number in _NO_ROOM:
        text = os.strerror(number)
        if (isinstance(error, OSError) and error.errno == number) or text in str(error):
            return text
    return None


def _free(path: epath.PathLike) -> int:
    """Bytes of the disk on which a path lies or is to lie."""
    there = Path(path).absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


class Lines:
    """A file that gets a line now and then, on disk when `add` returns."""

    def __init__(self, path: epath.PathLike, lines: Sequence[str]):
        """Begins with these lines, whatever the file had."""
        self._path = Path(path)
        write_atomically(path, _joined(lines))

    def add(self, line: str) -> None:
        """One more line."""
        with self._path.open("a") as file:
            file.write(line + "\n")

    def flush(self) -> None:
        """All of it is on disk already."""


class LinesInBucket(Lines):
    """The same as an object, which is written anew and so not for each line: see `LINES_EVERY`."""

    def __init__(self, path: epath.PathLike, lines: Sequence[str]):
        """Begins with these lines; what was there stays until the first flush."""
        self._path, self._lines = epath.Path(path), [*lines]
        self._written, self._at = -1, time.monotonic()

    def add(self, line: str) -> None:
        """One more line."""
        self._lines.append(line)
        if time.monotonic() - self._at > LINES_EVERY:
            self.flush()

    def flush(self) -> None:
        """Writes what is new."""
        if len(self._lines) != self._written:
            write_atomically(self._path, _joined(self._lines))
        self._written, self._at = len(self._lines), time.monotonic()


def open_lines(path: epath.PathLike, lines: Sequence[str]) -> Lines:
    """A file of lines, here or in a bucket."""
    return LinesInBucket(path, lines) if in_bucket(path) else Lines(path, lines)


def _joined(lines: Sequence[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()
