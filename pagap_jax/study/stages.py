"""Stages and what they make: the parts that every study is planned from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pagap_jax.errors import ConfigError

Settings = Mapping[str, Any]  # gin macros and their values


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A place that a stage makes: all of its folder, or 'checkpoints/800' or 'd_online' in it."""

    stage: str
    inside: str = ""

    def path(self, study_dir: str) -> str:
        """Where it is; as text, since a path would make 'gs:/b' of 'gs://b'."""
        return "/".join(filter(None, (study_dir.rstrip("/"), self.stage, self.inside)))


@dataclasses.dataclass(frozen=True)
class Stage:
    """One job of a study.

    Attributes:
        name: its folder below the study's.
        job: as `pagap JOB` names it.
        gin_file: its configuration.
        reads: what other stages made, by the macro that names its place.
        settings: further macros.
        more_gin_files: read after `gin_file`.
    """

    name: str
    job: str
    gin_file: str
    reads: Mapping[str, Artefact] = dataclasses.field(default_factory=dict)
    settings: Settings = dataclasses.field(default_factory=dict)
    more_gin_files: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages that must be finished before this one starts."""
        return tuple(dict.fromkeys(artefact.stage for artefact in self.reads.values()))

    def argv(self, study_dir: str) -> list[str]:
        """The command line of the job, after `pagap`."""
        macros = {"MODEL_DIR": Artefact(self.name).path(study_dir)}
        macros |= {macro: artefact.path(study_dir) for macro, artefact in self.reads.items()}
        macros |= self.settings
        bindings = [f"--gin.{macro}={value!r}" for macro, value in macros.items()]
        files = (self.gin_file, *self.more_gin_files)
        return [self.job, *(f"--gin_file={file}" for file in files), *bindings]


def options_of_all(search_paths: Sequence[str], gin_imports: Sequence[str]) -> list[str]:
    """The study's options that every stage takes: where gin files lie, what they may import."""
    options = [f"--gin_search_paths={folder}" for folder in search_paths]
    return [*options, *(f"--gin_imports={module}" for module in gin_imports)]


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, each after what it needs; otherwise in the order given.

    A stage that is given twice is one stage.

    Raises:
        ConfigError: two stages have one name and differ, or a stage needs one that isn't there.
    """
    by_name: dict[str, Stage] = {}
    for stage in stages:
        if (other := by_name.setdefault(stage.name, stage)) != stage:
            raise ConfigError(
                f"two stages are named {stage.name}: {' '.join(other.argv('STUDY_DIR'))} and"
                f" {' '.join(stage.argv('STUDY_DIR'))}"
            )
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.name in ordered:
            return
        for need in stage.needs:
            if need not in by_name:
                raise ConfigError(f"stage {stage.name} needs {need}, which no stage makes")
            visit(by_name[need])
        ordered[stage.name] = stage

    for stage in by_name.values():
        visit(stage)
    return list(ordered.values())
