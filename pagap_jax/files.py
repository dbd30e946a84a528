"""Where files are, and how they come to be whole or not at all."""

import importlib.resources
import os
from pathlib import Path

from etils import epath

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
