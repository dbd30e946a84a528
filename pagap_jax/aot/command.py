"""`pagap compile --gin_file=... --topology=v5p:4x4x4`: does a job fit on a slice, and how well?"""

import argparse
import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from pagap_jax.accelerators import Slice, parse_slice
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


def run_command(argv: Sequence[str]) -> int:
    """Compiles a job's programs for a slice and prints what they need; 0 where all fit, else 3.

    Raises:
        ConfigError: the configuration, the topology or the batch is none.
    """
    options, rest = _parser().parse_known_args(argv)
    slice_ = parse_slice(options.topology)
    job = read_job(rest, options.lengths)
    # The compiler needs no TPU, and JAX isn't to look for one.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from pagap_jax.aot.report import as_json, show

    reports = compile_job(job, slice_)
    print(as_json(reports, slice_)) if options.json else show(reports, slice_, job)
    return FITS if all(report.fits for report in reports) else TOO_LARGE


def read_job(argv: Sequence[str], lengths: str | None = None) -> Job:
    """The job that the gin files configure, of whose folders none needs to be there yet.

    Args:
        argv: [JOB] --gin_file=... --gin.NAME=VALUE; without JOB, the one that the files bind.
        lengths: 'P,R' in tokens, instead of what TASK_FEATURE_LENGTHS says.
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
    bindings = gin.get_bindings(name, resolve_references=False)
    bindings.pop("vocabulary", None)
    # A copy of a reference is what it refers to, made: gin's way.
    arguments = copy.deepcopy(bindings)
    return Job(name, arguments, *_lengths(lengths))


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


def compile_job(job: Job, slice_: Slice) -> list[Any]:
    """A report of each of its programs."""
    from pagap_jax.aot.compiling import compile_program, devices_of
    from pagap_jax.aot.programs import Shapes, programs_of
    from pagap_jax.model.sharding import make_mesh

    num_slices = gin.get_bindings("make_mesh").get("num_slices", 1)
    mesh = make_mesh(devices=devices_of(slice_, num_slices))
    shapes = Shapes(mesh, job.prompt_length, job.response_length)
    programs = programs_of(job.name, shapes, job.arguments)
    return [compile_program(program, shapes, slice_) for program in programs]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pagap compile",
        usage="pagap compile [JOB] --gin_file=PATH [--gin.NAME=VALUE ...] --topology=v5p:4x4x4",
        description="Compiles a job's programs for a TPU slice, without one, and says what they"
        " need: memory by kind, FLOPs, collectives, least time. Folders needn't be there.",
        epilog="exit codes: 0 all fit, 3 one doesn't, 2 bad configuration",
    )
    parser.add_argument("--topology", required=True, help="accelerator and slice: v6e:4x4")
    parser.add_argument("--lengths", help="of prompts and responses in tokens: 1024,128")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser
