"""What a study says on the console: each stage as it finishes, how far it is, and its warnings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pagap_jax.files import write_atomically
from pagap_jax.progress import progress_bar
from pagap_jax.run_directory import read_result
from pagap_jax.run_warnings import read_warnings, told
from pagap_jax.study.stage_times import note_stage
from pagap_jax.study.stages import Stage

# All runs' warnings, each with its stage. Not the name of a run's own, which others look for.
ALL_WARNINGS = "all_warnings.jsonl"


def finished_stages(folder: Path, stages: Sequence[Stage]) -> set[str]:
    """Names of the stages that have a result."""
    return {stage.name for stage in stages if read_result(folder / stage.name) is not None}


class StageConsole:
    """A line a finished stage: its seconds, '7 of 18, 3 running', what it warned of; and a bar.

    What an earlier command finished is one line at the start. A warning that many stages give is
    shown of the first alone: all of them are in the file that is named at the end.
    """

    def __init__(self, folder: Path, stages: Sequence[Stage], workers: int):
        """Looks which stages an earlier command finished."""
        self._folder = folder
        self._stages = stages
        self._workers = workers
        self._before = finished_stages(folder, stages)
        self._done: set[str] = set()
        self._said: set[str] = set()  # warnings
        self._bar = progress_bar()
        self._task = self._bar.add_task("study", total=len(stages), note="")

    def __enter__(self) -> "StageConsole":
        if self._before:
            total = len(self._stages)
            print(f"{len(self._before)} of {total} stages were finished before", flush=True)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def finished(self, stage: Stage, seconds: float) -> None:
        """Shows and notes a stage; one that an earlier command finished was noted by it."""
        self._done.add(stage.name)
        running = self._running()
        note = f"{len(running)} running"
        if stage.name not in self._before:
            done = f"{len(self._done)} of {len(self._stages)}"
            print(f"{stage.name}: {seconds:.0f} s ({done}, {note})", flush=True)
            note_stage(self._folder, stage.name, seconds)
            self._tell_warnings(stage)
        self._bar.update(self._task, completed=len(self._done), note=", ".join([note, *running]))

    def _tell_warnings(self, stage: Stage) -> None:
        for warning in read_warnings(self._folder / stage.name):
            if warning["message"] not in self._said:
                print(f"  {told(stage.name, warning)}", flush=True)
            self._said.add(warning["message"])

    def _running(self) -> list[str]:
        """Stages that workers are at: the first of those that wait for nothing."""
        ready = [
            stage.name
            for stage in self._stages
            if stage.name not in self._done and self._done.issuperset(stage.needs)
        ]
        return ready[: self._workers]


def collect_warnings(folder: Path, stages: Sequence[Stage]) -> int:
    """Writes the warnings of all stages, in the study's order, into its folder; their number."""
    found: list[dict[str, Any]] = [
        {"stage": stage.name, **warning}
        for stage in stages
        for warning in read_warnings(folder / stage.name)
    ]
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
    write_atomically(folder / ALL_WARNINGS, text.encode())
    return len(found)
