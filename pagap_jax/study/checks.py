"""What a study's stages would refuse is refused before the first of them runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pagap_jax.errors import ConfigError
from pagap_jax.study.stages import Stage
from pagap_jax.study.workers import CheckJob, Workers

SHOWN = 5  # stages of a message; one wrong setting often reaches all of them


def check_stages(
    pool: Workers, check_job: CheckJob, folder: Path, stages: Sequence[Stage]
) -> dict[str, str]:
    """What is wrong with stages, by name: settings that are refused, or a run of other ones."""
    found = {}
    for stage, (refused, changed) in zip(stages, pool.check(check_job, stages), strict=True):
        if refused:
            found[stage.name] = refused
        elif changed:
            found[stage.name] = (
                f"{folder / stage.name} was made with other settings: {changed}. Give another"
                f" STUDY_DIR, or delete that folder{_and_what_needs(stage, folder, stages)}"
            )
    return found


def refuse(wrong: Mapping[str, str]) -> None:
    """Raises ConfigError with the first of what is wrong, each message once; none where nothing is.

    Args:
        wrong: messages by stage.
    """
    stages_by_message: dict[str, list[str]] = {}
    for name, message in wrong.items():
        stages_by_message.setdefault(message, []).append(name)
    lines = [
        f"{', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''}: {message}"
        for message, names in stages_by_message.items()
    ]
    hidden = len(lines) - SHOWN
    more = [f"and {hidden} more"] if hidden > 0 else []
    if lines:
        raise ConfigError("\n".join(["stages that can't run", *lines[:SHOWN], *more]))


def _and_what_needs(stage: Stage, folder: Path, stages: Sequence[Stage]) -> str:
    """The folders that are there and were made from a stage's."""
    above = {stage.name}
    for other in stages:  # in the order in which they run
        if above & {*other.needs}:
            above.add(other.name)
    made = [name for name in sorted(above - {stage.name}) if (folder / name).exists()]
    if not made:
        return ""
    named = ", ".join(made[:SHOWN]) + f" and {len(made) - SHOWN} more" * (len(made) > SHOWN)
    return f" and what was made from it ({named})"
