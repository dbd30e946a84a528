"""`pagap compile --gin_file=... --topology=v5p:4x4x4`: does a job fit on a slice, and how well?"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pagap_jax.accelerators import parse_slice, slices_of
from pagap_jax.aot.job import Job, read_job

FITS, TOO_LARGE = 0, 3


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
    from pagap_jax.aot.compiling import compile_job
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
