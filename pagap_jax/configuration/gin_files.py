"""Where gin files are found: beside the caller, in search paths, then in the package."""

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pagap_jax.errors import ConfigError
from pagap_jax.files import refuse_special

_PACKAGE = Path(__file__).resolve().parents[1]
_COMMENT = re.compile(r"#.*")
_USED = re.compile(r"%([\w./]+)")


def packaged_directory() -> Path:
    """The directory of the gin files that come with pagap_jax.

    The wheel holds it inside the package; a checkout (and so an editable install) at the top.
    """
    inside = _PACKAGE / "gin_configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "gin_configs"


def find_gin_file(name: str, search_paths: Sequence[str], wanted_by: str) -> Path:
    """The file called `name`: absolute, under the working directory, a search path or the package.

    A leading `gin_configs/` may be left out or given, in a checkout and in an installed package.

    Raises:
        ConfigError: found nowhere, or no file; names `wanted_by` (an option, or file:line).
    """
    packaged = packaged_directory()
    roots = [Path(), *map(Path, search_paths), packaged, packaged.parent]
    for root in roots:
        refuse_special(root / name)
        if (root / name).is_file():
            return root / name
    searched = ", ".join(str(root.absolute()) for root in roots[: len(search_paths) + 2])
    raise ConfigError(f"{wanted_by}: no gin file {name!r}; searched {searched}")


def header(text: str) -> list[str]:
    """The comment at the top of a gin file, without its marks."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def macros_used_beside(file: Path) -> frozenset[str]:
    """The macros that gin files of the package, and those in the folder of `file`, use.

    What another job, or another file of one's own, makes use of is no slip of the pen.
    """
    packaged = packaged_directory()
    known = _macros_used(packaged)
    if file.resolve().is_relative_to(packaged.resolve()):
        return known
    return known | _macros_in(file.parent.glob("*.gin"))


@functools.cache
def _macros_used(packaged: Path) -> frozenset[str]:
    return _macros_in(packaged.rglob("*.gin"))


def _macros_in(files: Iterable[Path]) -> frozenset[str]:
    texts = (file.read_text("utf-8", errors="ignore") for file in files if file.is_file())
    return frozenset(name for text in texts for name in _USED.findall(_COMMENT.sub("", text)))


def shown_path(path: Path) -> str:
    """`path` as messages show it: relative when it lies under the working directory."""
    absolute = path.absolute()
    try:
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)
