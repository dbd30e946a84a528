"""A study's stages, in an order that works, each with the slice that it runs on."""

import dataclasses
import hashlib
from collections.abc import Sequence

import gin

from launch import options
from launch.checking import checked_arguments
from pagap_jax.accelerators import Slice, parse_slice
from pagap_jax.configuration import load_job, parse, parse_command_line
from pagap_jax.configuration.statements import import_modules
from pagap_jax.errors import ConfigError
from pagap_jax.study.plan import Plan, kind_of
from pagap_jax.study.stages import Stage, in_order, options_of_all

ANY_KIND = ""  # of a slice that was given for no kind of stage in particular


@dataclasses.dataclass(frozen=True)
class Job:
    """A stage and where it runs.

    Attributes:
        arguments: the command line after `pagap`, checked for where it runs.
        wave: those of one wave wait for none of each other.
    """

    stage: Stage
    arguments: Sequence[str]
    wave: int
    slice: Slice | None

    @property
    def kind(self) -> str:
        return kind_of(self.stage)

    def name(self, prefix: str) -> str:
        """The same whatever else the study comes to hold; unlike that of any other stage."""
        return name_of(prefix, self.stage.name, self.kind)


def name_of(prefix: str, stage: str, kind: str) -> str:
    """A name for a stage that engines take: 'tiny-3f9a1c-golden-policy'."""
    digest = hashlib.sha256(stage.encode()).hexdigest()[:6]
    text = f"{prefix}-{digest}-{kind.replace('_', '-')}"
    return text[: options.LONGEST_NAME].rstrip("-")


@dataclasses.dataclass(frozen=True)
class Study:
    """What the gin files say; slices are by kind of stage, options are those of every stage."""

    study_dir: str
    stages: list[Stage]
    slices: dict[str, Slice]
    options: Sequence[str] = ()

    def argv(self, stage: Stage) -> list[str]:
        """The command line of a stage, after `pagap`."""
        return [*stage.argv(self.study_dir), *self.options]


def read_study(words: Sequence[str]) -> Study:
    """The study that a command line of `pagap` configures.

    Raises:
        ConfigError: as `pagap study` would; or it isn't a study.
    """
    command = parse_command_line(words)
    if command.job != "study":
        raise ConfigError(f"found the job {command.job!r} after --, expected study")
    study = load_job(command.job)
    import_modules(command.gin_imports)
    parse(study, command.gin_files, command.gin_bindings, command.search_paths)
    plan: Plan = gin.get_bindings("study")["plan"]
    slices = {kind: parse_slice(name) for kind, name in plan.slices.items()}
    options = options_of_all(command.search_paths, command.gin_imports)
    return Study(plan.study_dir, plan.stages(), slices, options)


def in_waves(stages: Sequence[Stage]) -> list[tuple[int, Stage]]:
    """Each stage with its wave, wave by wave: what can run at once stands side by side."""
    waves: dict[str, int] = {}
    for stage in in_order(stages):
        waves[stage.name] = 1 + max((waves[need] for need in stage.needs), default=0)
    return sorted(
        ((waves[stage.name], stage) for stage in in_order(stages)), key=lambda pair: pair[0]
    )


def place(
    study: Study,
    given: Sequence[tuple[str, Slice]],
    is_local: bool,
    devices: int | None = None,
    num_slices: int = 1,
) -> list[Job]:
    """The stages as jobs in order, each with its slice.

    Args:
        given: slices by kind instead of the study's; one for ANY_KIND replaces them all.
        devices: of this machine, where they run here.
        num_slices: that each job runs on.

    Raises:
        ConfigError: a slice for a kind of stage that the study doesn't have, a stage without a
            slice, a folder that hosts of a pod don't share, or a job that would refuse to start.
    """
    study_dir, kinds = study.study_dir, {kind_of(stage) for stage in study.stages}
    slices = dict(given)
    for kind in slices:
        if kind not in (ANY_KIND, *kinds):
            expected = ", ".join(sorted(kinds))
            raise ConfigError(f"--slice: found the kind {kind!r}, expected one of {expected}")
    if ANY_KIND not in slices:
        slices = study.slices | slices
    missing = sorted(kinds - set(slices)) if ANY_KIND not in slices else []
    if not is_local and missing:
        raise ConfigError(
            f"--slice: found none for {', '.join(missing)}, expected KIND=SLICE for each, or one"
            " SLICE for all others"
        )
    if not is_local and not study_dir.startswith(("/", "gs://")):
        raise ConfigError(
            f"STUDY_DIR: found {study_dir!r}, expected one that all hosts reach: 'gs://BUCKET/study',"
            " or a folder that all of them mount"
        )
    default = slices.get(ANY_KIND)
    jobs = []
    for wave, stage in in_waves(study.stages):
        slice_ = slices.get(kind_of(stage), default)
        where = slice_ if devices is None else devices
        try:
            arguments = checked_arguments(study.argv(stage), where, num_slices)
        except ConfigError as error:
            raise ConfigError(f"{stage.name} on {slice_ or 'this machine'}: {error}") from error
        jobs.append(Job(stage, arguments, wave, slice_))
    return jobs
