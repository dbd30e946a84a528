"""Where files are, and how they come to be whole or not at all."""

import contextlib
import importlib.resources
import os
import stat
from pathlib import Path

from etils import epath

from pagap_jax.errors import ConfigError

_SPECIAL = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
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
    if "://" in os.fspath(path):
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
