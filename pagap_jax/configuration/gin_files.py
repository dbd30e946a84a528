"""Where gin files are found: beside the caller, in search paths, then in the package."""

import re
from collections.abc import Sequence
from pathlib import Path

from pagap_jax.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


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


def provided_macros(text: str) -> set[str]:
    """The macros that a gin file's header announces: `Provides: A, B`, to the next `Word:`."""
    said = re.search(r"^Provides:(.*?)(?=^[A-Z][a-z ]+:|\Z)", "\n".join(header(text)), re.M | re.S)
    return set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", said[1])) if said else set()


def shown_path(path: Path) -> str:
    """`path` as messages show it: relative when it lies under the working directory."""
    absolute = path.absolute()
    try:
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)
