"""Where files are, and how they come to be whole or not at all."""

import importlib.resources
import os
import time
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from pagap_jax.buckets import in_bucket, told

LINES_EVERY = 60.0  # seconds: a bucket takes one write a second of an object, and each costs
PACKAGED = "package:"  # prefix of what ships with this package


def located(path: epath.PathLike) -> epath.Path:
    """A path as it is, 'package:NAME' in the package's assets."""
    text = os.fspath(path)
    if text.startswith(PACKAGED):
        assets = importlib.resources.files("pagap_jax") / "assets"
        return epath.Path(str(assets / text.removeprefix(PACKAGED)))
    return epath.Path(path)


def write_atomically(path: epath.PathLike, content: bytes) -> None:
    """Writes a file that, also after a kill or a power cut, is whole or as it was before.

    Makes the folder where it's missing. What lies in a bucket is whole or absent by itself.
    """
    if in_bucket(path):
        with told(path):
            epath.Path(path).write_bytes(content)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


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
