"""A job's configuration after the checks: bound into gin, and as text."""

import enum
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import gin

from pagap_jax.configuration import registry
from pagap_jax.configuration.annotations import Target
from pagap_jax.configuration.checking import Checked
from pagap_jax.configuration.inheritance import check_agreement, provided, taken
from pagap_jax.configuration.statements import Macro, Statement, read_statements
from pagap_jax.run_directory import ConfigurationText

# What `run_job` gives to a job whose function has a parameter of this name; gin can't bind them.
INJECTED = (
    *("config_text", "run_job", "check_job", "command_line", "search_paths", "gin_imports"),
)
# A macro that ends so says where something lies, not what it is: the same study in another
# directory has the same fingerprints. What a path holds has a fingerprint of its own.
PLACES = ("_DIR", "_DIRS", "_PATH", "_PATHS")
# On which devices a run is computed, not what: one that was preempted goes on on another slice.
DEVICES = "make_mesh"
# Where a run's metrics are shown, from which step it goes on, what is refused: none of it changes
# what comes out.
DISPLAY = ("TrainLoop.metrics", "TrainLoop.restore_step", "prepare.max_line_bytes")


class Configuration:
    """What gin files and overrides say about one job, already checked and bound into gin."""

    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    @property
    def place_macros(self) -> tuple[str, ...]:
        """Names of the macros that say where things lie."""
        return tuple(name for name in self._checked.macros if name.endswith(PLACES))

    def taken(self) -> list[str]:
        """What was taken from runs that the job reads, a line each."""
        macros = self._checked.macros
        sources = {name: one.file for name, one in macros.items() if one.file}
        return [f"{name}: as in {f}" for name, f in sources.items() if f.suffix != ".gin"]

    def texts(self) -> list[str]:
        """How values were read that look like gin's numbers and are none, a line each."""
        statements = [*self._checked.macros.values(), *self._checked.bindings.values()]
        return [
            f"{one.origin}: read as the text {one.value!r}"
            for one in statements
            if one.not_gin and re.match(r"[-+\d]", one.value)
        ]

    def identity(self) -> ConfigurationText:
        """What the job computes, up to rounding: not where things lie or show, nor the devices."""
        places = self.place_macros
        text = self.operative_config_text((*places, *DISPLAY), with_devices=False)
        identity = ConfigurationText(text)
        identity.provides = provided(self._checked, places)
        return identity

    def operative_config_text(
        self, exclude_keys: Collection[str] = (), with_devices: bool = True
    ) -> str:
        """Every parameter that the job and what it is given will see, one a line, sorted.

        Macros are filled in and literal defaults written out, so that two ways to say the same
        give the same text.

        Args:
            exclude_keys: macros to leave as %NAME, and 'configurable.parameter' keys to leave out.
            with_devices: with how the work is spread over devices.
        """
        lines = []
        for (scope, _), (configurable, in_force) in self._checked.reached.items():
            if configurable.name == DEVICES and not with_devices:
                continue
            prefix = "".join(f"{part}/" for part in scope) + configurable.name
            for name, parameter in configurable.parameters.items():
                key = f"{prefix}.{name}"
                if key in exclude_keys or name in INJECTED:
                    continue
                if name in in_force:
                    value = self._checked.resolve(in_force[name], scope, keep=exclude_keys)
                elif parameter.default is inspect.Parameter.empty:
                    continue  # its caller gives it
                else:
                    value = parameter.default
                lines.append(f"{key} = {_canonical(value)}")
        return "\n".join(sorted(lines)) + "\n"


def parse(
    job_function: Callable,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    search_paths: Sequence[str] = (),
) -> Configuration:
    """Clears gin, then reads, checks and binds the configuration of one job.

    Args:
        job_function: a gin configurable function; its module is imported already.
        gin_files: paths, in the order in which they apply.
        gin_bindings: 'NAME=VALUE' each, as they follow `--gin.`; they apply last.
        search_paths: directories in which gin files are looked up too.

    Raises:
        ConfigError: anything that gin wouldn't read or would silently ignore; names file:line or
            the option.
    """
    gin.clear_config()
    given = read_statements(gin_files, gin_bindings, search_paths)
    statements = [*taken(job_function.__name__, given), *given]
    checked = Checked(job_function, statements, INJECTED)
    check_agreement(job_function.__name__, checked)
    in_force = [*checked.macros.values(), *checked.bindings.values()]
    gin.parse_config([_as_gin(statement) for statement in in_force])
    return Configuration(checked)


def _as_gin(statement: Statement) -> str:
    """The statement on one line; values print as gin reads them."""
    return f"{statement.key} = {statement.value!r}"


def _canonical(value: Any) -> str:
    """A value as text that is the same in every process."""
    if isinstance(value, dict):
        items = sorted((_canonical(key), _canonical(item)) for key, item in value.items())
        return "{" + ", ".join(f"{key}: {item}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(_canonical, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, Target | Macro | str | bytes | int | float | type(None)):
        return str(value) if isinstance(value, enum.Enum) else repr(value)
    if value is registry.REQUIRED:
        return "%gin.REQUIRED"
    if isinstance(value, enum.Enum):
        return str(value)
    if callable(value) and (configurable := registry.of_function(value)):
        return f"@{configurable.name}"
    named = value if callable(value) and hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
