"""`pagap JOB --gin_file=... --gin.NAME=VALUE`: the command line."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from pagap_jax import stopping
from pagap_jax.errors import PagapError, RetryError

# Not jobs: their options are their own, and so is their help. {name: module of run_command}
COMMANDS = {
    "checkpoint": "pagap_jax.library.checkpoint",
    "compile": "pagap_jax.aot.command",
    "du": "pagap_jax.study.disk",
    "report": "pagap_jax.study.command",
    "sample": "pagap_jax.library.sample",
    "show": "pagap_jax.data.show",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one job and returns the exit code; a PagapError is one message on stderr.

    Exit codes: 0 done, 1 a fault of the program, 2 bad configuration or data, 3 not a number,
    42 worth a retry, 130 stopped by Ctrl-C, 141 nobody reads its output any more.

    Args:
        argv: None for this process's own; its signals are then watched to its end.
    """
    if argv is None:
        stopping.ignore_at_the_very_end()
        stopping.watch("pagap")  # before the other imports, which take a moment
        return stopping.over(stopping.while_read(lambda: _run(sys.argv[1:])))
    with stopping.watched():
        return _run(list(argv))


def _run(arguments: list[str]) -> int:
    from pagap_jax import processes
    from pagap_jax.configuration import job_usage, run_job, usage
    from pagap_jax.jobs import JOBS

    job = arguments[0] if arguments and arguments[0] in (*JOBS, *COMMANDS) else ""
    is_command = job in COMMANDS
    is_known = job or not arguments or arguments[0].startswith("-")
    if not arguments or (is_known and not is_command and {"--help", "-h"} & {*arguments}):
        print(job_usage(job) if job else usage(), end="")
        return 0
    # TensorFlow only reads data here; its notes would bury the job's lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    name = f"pagap {job}".strip()
    stopping.watch(name)
    try:
        if is_command:
            rest = [argument for argument in arguments[1:] if argument != "--traceback"]
            return importlib.import_module(COMMANDS[job]).run_command(rest)
        processes.join_processes()
        run_job([argument for argument in arguments if argument != "--traceback"])
    except PagapError as error:
        if "--traceback" in arguments:
            traceback.print_exc()
        print(f"{name}: {error}", file=sys.stderr)
        return processes.end_early(error.exit_code)
    except Exception as error:
        if not processes.are_several():
            raise
        said = processes.last_words(error)
        if not said or "--traceback" in arguments:
            traceback.print_exc()
        if said:
            print(f"{name}: {said}", file=sys.stderr)
        code = RetryError.exit_code if said else processes.exit_code_of(error)
        return processes.end_early(stopping.exit_code_or(code))
    return 0


if __name__ == "__main__":
    sys.exit(main())
