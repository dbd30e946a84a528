"""A job as gin configures it, for those who look at its programs alone."""

import copy
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from pagap_jax.configuration.checking import leaves
from pagap_jax.configuration.command_line import parse_command_line
from pagap_jax.configuration.effective import PLACES, parse
from pagap_jax.configuration.running import load_job
from pagap_jax.configuration.statements import Macro, import_modules, read_statements
from pagap_jax.errors import ConfigError
from pagap_jax.jobs import JOBS

LENGTHS = "TASK_FEATURE_LENGTHS"


@dataclasses.dataclass(frozen=True)
class Job:
    """A job as configured, vocabulary left out: nothing of it is needed here."""

    name: str
    arguments: Mapping[str, Any]
    prompt_length: int
    response_length: int
    num_partitions: int
    num_slices: int


def read_job(argv: Sequence[str], lengths: str | None = None) -> Job:
    """The job that the gin files configure, with what its function would be given.

    Args:
        argv: as for `configure`.
        lengths: 'P,R' in tokens, instead of what TASK_FEATURE_LENGTHS says.
    """
    name = configure(argv)
    bindings = gin.get_bindings(name, resolve_references=False)
    bindings.pop("vocabulary", None)
    # A copy of a reference is what it refers to, made: gin's way.
    arguments = copy.deepcopy(bindings)
    mesh = gin.get_bindings("make_mesh")
    return Job(
        name,
        arguments,
        *_lengths(lengths),
        mesh.get("num_partitions", 1),
        mesh.get("num_slices", 1),
    )


def configure(argv: Sequence[str]) -> str:
    """Binds a job's configuration into gin; none of the folders needs to be there yet.

    Args:
        argv: [JOB] --gin_file=... --gin.NAME=VALUE; without JOB, the one that the files bind.

    Returns:
        The job's name.
    """
    named = argv[0] if argv and argv[0] in JOBS else None
    command = parse_command_line(argv if named else ["sft", *argv])
    import_modules(command.gin_imports)
    given = (command.gin_files, command.gin_bindings, command.search_paths)
    statements = read_statements(*given)
    bound = {s.selector for s in statements if s.selector in JOBS and s.parameter == "model_dir"}
    if named is None and len(bound) != 1:
        raise ConfigError(
            f"the gin files configure {' and '.join(sorted(bound)) or 'no job'}, expected one job:"
            " `pagap compile JOB --gin_file=...`"
        )
    name = named or bound.pop()
    function = load_job(name)
    defined = {s.selector for s in statements if not s.parameter}
    used = {x.name for s in statements for x in leaves(s.value) if isinstance(x, Macro)}
    missing = sorted(m for m in used - defined if m == "SEED" or m.endswith(PLACES))
    unset = [f"{m}=0" if m == "SEED" else f"{m}='unset'" for m in missing]
    parse(function, command.gin_files, [*command.gin_bindings, *unset], command.search_paths)
    return name


def _lengths(given: str | None) -> tuple[int, int]:
    if given is not None:
        try:
            prompt, response = map(int, given.split(","))
        except ValueError as error:
            raise ConfigError(
                f"--lengths: found {given!r}, expected two numbers: 1024,128"
            ) from error
        return prompt, response
    try:
        lengths = gin.query_parameter(f"%{LENGTHS}")
    except ValueError as error:
        raise ConfigError(
            f"{LENGTHS} isn't bound: add the study's data file, or say --lengths=1024,128"
        ) from error
    return lengths["inputs"], lengths["targets"]


def options_of(settings: Mapping[str, Any]) -> str:
    """Macros as a shell takes them: --gin.NUM_PARTITIONS=2 ..."""
    return shlex.join(f"--gin.{name}={value}" for name, value in settings.items())
