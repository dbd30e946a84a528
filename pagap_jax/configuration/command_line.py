"""`pagap JOB --gin_file=PATH --gin.NAME=VALUE`: T5X's options, and the help of each job."""

import dataclasses
from collections.abc import Sequence

from pagap_jax.configuration.gin_files import header, packaged_directory, shown_path
from pagap_jax.configuration.suggestions import did_you_mean
from pagap_jax.errors import ConfigError
from pagap_jax.jobs import JOBS

_USAGE = """\
usage: pagap JOB --gin_file=PATH [--gin_file=PATH ...] [--gin.NAME=VALUE ...]

  --gin_file=PATH          a gin file; later files and --gin options override earlier ones.
                           Looked up here, in the search paths, then among the packaged files
  --gin.NAME=VALUE         sets a macro or a parameter: --gin.MODEL_DIR=/tmp/sft
                           --gin.TRAIN_STEPS=500. A string may have its own quotes, as in gin
                           files; one that gin would read as a number needs them
  --gin_search_paths=A,B   more directories in which gin files are looked up
  --gin_imports=A,B        Python modules that gin files may import, beside those of pagap_jax
  --dry_run                of `study`: prints its stages and which are finished; runs nothing
  --traceback              shows where an error came from
  --help                   this page, or after JOB: what the job needs

exit codes: 0 done, 2 configuration or data, 3 not a number (compile: too large), 42 stopped by
SIGTERM or worth a retry, 130 stopped by Ctrl-C. Both save what a job is at, and the same command
goes on from there; a second Ctrl-C ends at once
"""
_COMMANDS = """\
without a gin file:
  pagap checkpoint inspect PATH                what a T5X, Hugging Face or own checkpoint holds
  pagap checkpoint convert SRC DST --to FORMAT  writes it as orbax, t5x or hf
of a data set of pairs:
  pagap show PAIRS_DIR                          a few pairs as text; --tokens: as ids, too
of a trained policy:
  pagap sample RUN [--beside RUN2] [--judge RUN3]  what it answers, with log-probs and verdicts
from a study's rows, or several studies':
  pagap report STUDY_DIR [STUDY_DIR ...] --out=DIR   report, findings and figures; runs nothing
of a study's folder, or one run's:
  pagap du FOLDER [FOLDER ...]                  what takes how much disk
without a TPU:
  pagap compile [JOB] --gin_file=PATH --topology=v5p:4x4x4  whether the job fits, and its limits
"""
_OPTIONS = (
    *(
        "--gin_file",
        "--gin_search_paths",
        "--gin_imports",
        "--gin.NAME",
        "--dry_run",
        "--traceback",
        "--help",
    ),
)


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """The arguments of one job."""

    job: str
    gin_files: tuple[str, ...]
    gin_bindings: tuple[str, ...]
    search_paths: tuple[str, ...]
    gin_imports: tuple[str, ...] = ()


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Reads `JOB --gin_file=... --gin.NAME=VALUE ...`.

    Raises:
        ConfigError: an unknown job or option, or an option without its value.
    """
    if not argv:
        raise ConfigError("no job given")
    job, *arguments = argv
    if job not in JOBS:
        raise ConfigError(
            f"no job named {job!r}{did_you_mean(job, JOBS)}; the jobs are {', '.join(JOBS)}"
        )
    files, bindings = [], []
    several: dict[str, list[str]] = {"--gin_search_paths": [], "--gin_imports": []}
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name.startswith("--gin.") and equals and len(name) > len("--gin."):
            bindings.append(argument.removeprefix("--gin."))
            continue
        if argument == "--dry_run" and job == "study":
            bindings.append("study.dry_run=True")
            continue
        if name != "--gin_file" and name not in several:
            raise ConfigError(_unknown_option(argument))
        value = value if equals else next(remaining, "")  # both `--gin_file=X` and `--gin_file X`
        if not value:
            wanted = "MODULE" if name == "--gin_imports" else "PATH"
            raise ConfigError(f"{name} needs a value: {name}={wanted}")
        if name == "--gin_file":
            files.append(value)
        else:
            several[name].extend(value.split(","))
    if not files and not bindings:
        raise ConfigError(f"no --gin_file given; `pagap {job} --help` names one")
    return CommandLine(job, tuple(files), tuple(bindings), *map(tuple, several.values()))


def usage() -> str:
    """What `pagap --help` prints."""
    width = max(map(len, JOBS))
    jobs = "\n".join(f"  {name:{width}}  {job.description}" for name, job in JOBS.items())
    return f"{_USAGE}\njobs:\n{jobs}\n\n{_COMMANDS}"


def job_usage(job: str) -> str:
    """What `pagap JOB --help` prints: the header of the job's gin file says what it requires."""
    directory = packaged_directory()
    gin_files = sorted(directory.glob("studies/*.gin" if job == "study" else f"jobs/{job}*.gin"))
    pages = [f"usage: pagap {job} --gin_file=PATH [--gin.NAME=VALUE ...]\n\n"]
    pages.append(f"{JOBS[job].description}\n")
    for path in gin_files:
        pages.append(f"\n{shown_path(path)}\n")
        pages.extend(f"  {line}".rstrip() + "\n" for line in header(path.read_text("utf-8")))
    return "".join(pages)


def _unknown_option(argument: str) -> str:
    name = argument.partition("=")[0]
    if name.startswith("--gin."):
        return f"{argument}: expected --gin.NAME=VALUE"
    return f"unknown option {argument!r}{did_you_mean(name, _OPTIONS)}"
