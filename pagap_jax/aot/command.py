"""`pagap compile --gin_file=... --topology=v5p:4x4x4`: does a job fit on a slice, and how well?"""

import argparse
import copy
import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from pagap_jax.accelerators import Slice, parse_slice, slices_of
from pagap_jax.configuration.checking import leaves
from pagap_jax.configuration.command_line import parse_command_line
from pagap_jax.configuration.effective import PLACES, parse
from pagap_jax.configuration.running import load_job
from pagap_jax.configuration.statements import Macro, read_statements
from pagap_jax.errors import ConfigError
from pagap_jax.jobs import JOBS

FITS, TOO_LARGE = 0, 3
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


def run_command(argv: Sequence[str]) -> int:
    """Compiles a job's programs for a slice and prints what they need; 0 where all fit, else 3.

    Raises:
        ConfigError: the configuration, the topology or the batch is none.
    """
    options, rest = _parser().parse_known_args(argv)
    topology = options.topology

    def read(settings: Mapping[str, Any]) -> Job:
        chosen = [f"--gin.{name}={value}" for name, value in settings.items()]
        return read_job([*rest, *chosen], options.lengths)

    # The compiler needs no TPU, and JAX isn't to look for one.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from pagap_jax.aot import report
    from pagap_jax.aot.search import advice, search

    if options.search:
        tried = slices_of(topology)
        said = {a.removeprefix("--gin.").partition("=")[0] for a in rest}
        found = search(read, tried, said, lambda line: print(line, file=sys.stderr))
        if found is None:
            print("on none of these slices it was worth a try", file=sys.stderr)
            return TOO_LARGE
        slice_, reports, settings = found.slice, found.reports, found.settings
    else:
        slice_, settings = parse_slice(topology), {}
        reports = compile_job(read({}), slice_)
    fits = all(program.fits for program in reports)
    helpful = [] if fits else advice(lambda more: read({**settings, **more}), slice_, reports)
    shown = (reports, slice_, read(settings), settings, helpful)
    if options.json:
        print(report.as_json(*shown))
    else:
        report.show(*shown)
    return FITS if fits else TOO_LARGE


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


def compile_job(job: Job, slice_: Slice, all_programs: bool = True) -> list[Any]:
    """A report of each of its programs; to the first that doesn't fit if not `all_programs`."""
    from pagap_jax.aot.compiling import compile_program

    shapes, programs = _programs(job, slice_)
    plain = [None] * len(programs)
    model = job.arguments.get("model")
    if model is not None and model.remat_policy != "none":
        arguments = {**job.arguments, "model": dataclasses.replace(model, remat_policy="none")}
        _, plain = _programs(dataclasses.replace(job, arguments=arguments), slice_)
    reports: list[Any] = []
    for program, without_remat in zip(programs, plain, strict=True):
        reports.append(compile_program(program, shapes, slice_, without_remat))
        if not (all_programs or reports[-1].fits):
            break
    return reports


def hold(job: Job, slice_: Slice) -> float:
    """Bytes that a chip has to hold at least: what lies there anyhow, and gradients.

    Raises:
        ConfigError: the job's batch or the slice doesn't fit the partitioning.
    """
    from pagap_jax.aot.compiling import bytes_on_a_chip

    _, programs = _programs(job, slice_)
    return max(
        sum(map(bytes_on_a_chip, program.held.values()))
        + ("optimizer" in program.held and bytes_on_a_chip(program.held["parameters"]))
        for program in programs
    )


def _programs(job: Job, slice_: Slice) -> tuple[Any, list[Any]]:
    from pagap_jax.aot.compiling import devices_of
    from pagap_jax.aot.programs import Shapes, programs_of
    from pagap_jax.model.sharding import make_mesh

    # gin's bindings are those of the job that was read last: this one.
    mesh = make_mesh(devices=devices_of(slice_, job.num_slices))
    shapes = Shapes(mesh, job.prompt_length, job.response_length)
    return shapes, programs_of(job.name, shapes, job.arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pagap compile",
        usage="pagap compile [JOB] --gin_file=PATH [--gin.NAME=VALUE ...] --topology=v5p:4x4x4",
        description="Compiles a job's programs for a TPU slice, without one, and says what they"
        " need: memory by kind, FLOPs, collectives, least time. Folders needn't be there.",
        epilog="exit codes: 0 all fit, 3 one doesn't, 2 bad configuration",
    )
    parser.add_argument(
        "--topology", required=True, help="accelerator and slice: v6e:4x4; to search, also v4,v6e"
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="tries slices from the smallest on, fully sharded, with microbatches"
        " and recomputation of activations where needed",
    )
    parser.add_argument("--lengths", help="of prompts and responses in tokens: 1024,128")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser
