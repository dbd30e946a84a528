"""`pagap JOB --gin_file=... --gin.NAME=VALUE`: the command line."""

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

from pagap_jax.configuration import job_usage, run_job, usage
from pagap_jax.errors import PagapError, StoppedError
from pagap_jax.jobs import JOBS
from pagap_jax.processes import are_several, end_early, exit_code_of, join_processes

# Not jobs: their options are their own, and so is their help. {name: module of run_command}
COMMANDS = {
    "checkpoint": "pagap_jax.library.checkpoint",
    "compile": "pagap_jax.aot.command",
    "report": "pagap_jax.study.command",
    "sample": "pagap_jax.library.sample",
    "show": "pagap_jax.data.show",
}
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one job and returns the exit code; a PagapError is one message on stderr.

    Exit codes: 0 done, 1 a fault of the program, 2 bad configuration or data, 3 not a number,
    42 worth a retry, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    job = arguments[0] if arguments and arguments[0] in (*JOBS, *COMMANDS) else ""
    is_command = job in COMMANDS
    is_known = job or not arguments or arguments[0].startswith("-")
    if not arguments or (is_known and not is_command and {"--help", "-h"} & {*arguments}):
        print(job_usage(job) if job else usage(), end="")
        return 0
    # TensorFlow only reads data here; its notes would bury the job's lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if threading.current_thread() is threading.main_thread():  # signals reach no other
        signal.signal(signal.SIGTERM, _stop)  # a training loop has its own, which saves first
    show_traceback = "--traceback" in arguments
    try:
        arguments = [argument for argument in arguments if argument != "--traceback"]
        if is_command:
            return importlib.import_module(COMMANDS[job]).run_command(arguments[1:])
        join_processes()
        run_job(arguments)
    except PagapError as error:
        if show_traceback:
            traceback.print_exc()
        print(f"{' '.join(filter(None, ('pagap', job)))}: {error}", file=sys.stderr)
        return end_early(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return end_early(INTERRUPTED)
    except Exception as error:
        if not are_several():
            raise
        traceback.print_exc()
        return end_early(exit_code_of(error))
    return 0


def _stop(*_: object) -> None:
    raise StoppedError("asked to stop; the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
