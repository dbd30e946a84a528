"""Runs one job from its command line; several may run one after another in one process."""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence

from pagap_jax.buckets import as_ours
from pagap_jax.configuration.command_line import parse_command_line
from pagap_jax.configuration.effective import parse
from pagap_jax.configuration.statements import import_modules
from pagap_jax.errors import ConfigError
from pagap_jax.files import room_for
from pagap_jax.jobs import JOBS
from pagap_jax.processes import check_same
from pagap_jax.run_directory import changed_settings


def run_job(argv: Sequence[str]) -> None:
    """Parses `argv`, configures the job afresh and runs it to its end.

    A job's function may have the parameters `config_text` (`Configuration.identity`), `run_job` and
    `check_job` (of this module, for the study, which may not import it), `command_line` (`argv`),
    `search_paths` (of gin files) and `gin_imports`.

    Args:
        argv: 'JOB', '--gin_file=...', '--gin.NAME=VALUE', ...

    Raises:
        PagapError: as the job raises it, without what gin adds to a message.
    """
    command = parse_command_line(argv)
    function = load_job(command.job)
    import_modules(command.gin_imports)
    configuration = parse(function, command.gin_files, command.gin_bindings, command.search_paths)
    for line in (*configuration.texts(), *configuration.taken()):
        print(line, flush=True)
    # All of it, devices too: processes that spread a job differently wait for each other forever.
    check_same("the settings", configuration.operative_config_text(configuration.place_macros))
    offered = {
        "config_text": configuration.identity(),
        "run_job": run_job,
        "check_job": check_job,
        "command_line": tuple(argv),
        "search_paths": command.search_paths,
        "gin_imports": command.gin_imports,
    }
    wanted = inspect.signature(function).parameters
    error = None
    try:
        with _compilations(command.job), room_for(None):
            function(**{name: value for name, value in offered.items() if name in wanted})
    except Exception as raised:
        error = _without_gin(raised)
        error = as_ours(error) or error
    if error is not None:  # outside of `except`, so that gin's copies aren't shown as its context
        raise error


def check_job(argv: Sequence[str], folder: str) -> tuple[str, str]:
    """What a job would refuse before it starts: its settings, or a run of others in its folder.

    Returns:
        A message about the settings, and one about the run; '' where there is nothing to say.
    """
    command = parse_command_line(argv)
    given = (command.gin_files, command.gin_bindings, command.search_paths)
    try:
        import_modules(command.gin_imports)
        identity = parse(load_job(command.job), *given).identity()
    except ConfigError as error:
        return str(error), ""
    return "", "; ".join(changed_settings(folder, identity))


@contextlib.contextmanager
def _compilations(job: str) -> Iterator[None]:
    if "jax" not in sys.modules:  # a study compiles nothing, and does without JAX
        yield
        return
    from pagap_jax.compilation import Compilations, keep_compilations

    keep_compilations()
    with Compilations(job):
        yield


def load_job(name: str) -> Callable:
    """The gin configurable function of a job; its module is imported on the way."""
    module, _, function = JOBS[name].function.partition(":")
    return getattr(importlib.import_module(module), function)


def _without_gin(error: BaseException) -> BaseException:
    """The error as it was raised: gin re-raises a copy, of a type of its own, per configurable."""
    # A constructor in C, as that of JAX's errors, has None for a qualified name.
    while str(type(error).__init__.__qualname__).startswith(
        "augment_exception_message_and_reraise"
    ):
        assert error.__context__ is not None
        error = error.__context__
    return error
