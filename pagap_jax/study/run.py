"""The whole study on one machine: all jobs in order, then rows, figures, findings and report.

In: gin files for each kind of stage. Out, in STUDY_DIR: rows.csv, findings.json, figures/,
report.html; a folder a seed with a folder a job; logs/. Finished jobs are skipped, a killed one
goes on from its last checkpoint.
"""

import contextlib
import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin

from pagap_jax import claims
from pagap_jax.buckets import in_bucket
from pagap_jax.errors import ConfigError
from pagap_jax.files import can_be_written, read_json_lines
from pagap_jax.ranges import WorkerCount
from pagap_jax.records import CheckpointRow, StreamRow
from pagap_jax.run_directory import METRICS_FILE, read_result
from pagap_jax.study import report
from pagap_jax.study.checks import check_stages, refuse
from pagap_jax.study.console import (
    ALL_WARNINGS,
    StageConsole,
    collect_warnings,
    finished_stages,
)
from pagap_jax.study.context import (
    STUDY_FILE,
    Context,
    Gate,
    read_context,
    rows_of_studies,
)
from pagap_jax.study.findings import in_words
from pagap_jax.study.gates import Bars, check_gates
from pagap_jax.study.place import StudyPlace, here
from pagap_jax.study.plan import Plan
from pagap_jax.study.rows import TRAINING, write_csv
from pagap_jax.study.stages import Stage, options_of_all
from pagap_jax.study.workers import CheckJob, RunJob, Workers

# What a folder may hold before the first `pagap study`: stages that ran by themselves, on pods.
OF_A_STUDY = re.compile(r"\.|seed_\d+$")
# Options that move no number, and so are no part of the command that a report names.
CHANGES_NOTHING = ("--gin.STUDY_DIR=", "--gin.study.workers=")
MEASURING = ("evaluate", "classify_stream")  # jobs that leave rows


@gin.configurable
def study(
    plan: Plan,
    title: str,
    bars: Bars,
    notes: Sequence[str] = (),
    workers: WorkerCount = 2,
    dry_run: bool = False,
    run_job: RunJob | None = None,
    check_job: CheckJob | None = None,
    command_line: Sequence[str] = (),
    search_paths: Sequence[str] = (),
    gin_imports: Sequence[str] = (),
) -> None:
    """Runs the experiments of a plan.

    Args:
        title: what the report calls the study.
        bars: lowest and highest value of what `gates.MEASURES` names; a miss ends the study.
        notes: where this study differs from the paper, for the report.
        workers: jobs side by side, each on a core of its own.
        search_paths: in which the stages look up gin files, too.
        gin_imports: modules that their gin files may import.
        dry_run: prints the stages, and which of them are finished; nothing is written.

    Raises:
        GateError: a stage missed its bar.
        ConfigError: the plan names what there isn't, a stage would refuse its settings or was made
            with others, or the folder isn't this study's.
    """
    assert run_job is not None and check_job is not None, "run through `pagap study`"
    place, stages = StudyPlace(plan.study_dir), plan.stages()
    folder = place.here
    context = context_of(plan, title, notes, command_line)
    place.fetch()
    options = options_of_all(search_paths, gin_imports)
    with contextlib.closing(Workers(run_job, place, workers, options)) as pool:
        if dry_run:
            print_stages(folder, stages, check_stages(pool, check_job, folder, stages))
            return
        with claimed(place, context), contextlib.ExitStack() as at_the_end:
            at_the_end.callback(place.publish)  # also of a stage's log that says why it ended
            refuse(check_stages(pool, check_job, folder, stages))
            gates = _run(pool, folder, stages, bars)
            context = dataclasses.replace(
                context,
                gates=gates,
                data=data_of(plan),
                validation=validation_of(plan),
                training=training_of(plan),
            )
            context.write(folder)
            _write_results(place, stages, context)


def print_stages(folder: Path, stages: Sequence[Stage], wrong: Mapping[str, str]) -> None:
    """A line a stage with what it waits for, then how many are finished.

    Raises:
        ConfigError: some can't run, which is said last.
    """
    finished = finished_stages(folder, stages) - wrong.keys()
    for stage in stages:
        mark = "finished" if stage.name in finished else "to do"
        mark = "refused" if stage.name in wrong else mark
        after = f"  after {', '.join(stage.needs)}" if stage.needs else ""
        print(f"{mark:8}  {stage.name} ({stage.job}){after}")
    counts = [f"{len(stages)} stages", f"{len(finished)} finished"]
    counts += [f"{len(wrong)} refused"] * bool(wrong)
    print(", ".join([*counts, f"{len(stages) - len(finished) - len(wrong)} to do"]), flush=True)
    refuse(wrong)


def context_of(
    plan: Plan, title: str, notes: Sequence[str], command_line: Sequence[str]
) -> Context:
    """What is known of a study before it runs."""
    words = [word for word in command_line if not word.startswith(CHANGES_NOTHING)]
    return Context(
        study=plan.name,
        task=plan.task,
        title=title,
        command=shlex.join(["pagap", *words]),
        experiments={one.name: [arm.name for arm in one.arms(plan.scale)] for one in plan.chosen()},
        baselines=plan.baselines(),
        notes=tuple(notes),
    )


@contextlib.contextmanager
def claimed(place: StudyPlace, context: Context) -> Iterator[None]:
    """The folder as this study's and this process's; what else is in it stays as it is.

    Raises:
        ConfigError: it holds another study, or files that no study made.
        RetryError: another process is at it.
    """
    folder = place.here
    with contextlib.ExitStack() as held:
        with can_be_written(place.directory):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(claims.claimed(place.directory))
        found = read_context(folder)
        others = [path.name for path in folder.iterdir() if not OF_A_STUDY.match(path.name)]
        if found is None and others:
            raise ConfigError(
                f"{folder} holds files and no {STUDY_FILE}: no study made them. Give another"
                " STUDY_DIR"
            )
        if found and found.study != context.study:
            raise ConfigError(
                f"{folder} holds the study {found.study!r}, expected {context.study!r}. Give"
                " another STUDY_DIR"
            )
        if found is None:
            context.write(folder)
        yield


def _run(pool: Workers, folder: Path, stages: Sequence[Stage], bars: Bars) -> list[Gate]:
    gates: list[Gate] = []
    with StageConsole(folder, stages, pool.number) as console:

        def on_finished(stage: Stage, seconds: float) -> None:
            console.finished(stage, seconds)
            seed = int(stage.name.split("/")[0].removeprefix("seed_"))
            for gate in check_gates(folder, seed, stage.name, bars):
                print(f"  {gate.name}: {gate.measured:.4f}, needs {gate.bar}: passed", flush=True)
                gates.append(gate)

        pool.run(stages, on_finished)
    return sorted(gates, key=lambda gate: gate.name)


def place_of(plan: Plan, seed: int, stage: str) -> Path:
    """The folder of a shared stage: the study's own, or one that was given."""
    if in_bucket(given := plan.given.get(stage, "")):
        return here(given)
    return StudyPlace(plan.study_dir).here / (given or f"seed_{seed}/{stage}")


def data_of(plan: Plan) -> Mapping[str, Any]:
    """What became of the data, and how good the preference models are."""
    stages = ("pairs", *["sft_pairs"] * bool(plan.sft_data), "golden", "d_golden", "proxy")
    return {
        f"seed {seed}": {
            stage: {k: v for k, v in (read_result(place) or {}).items() if k != "validation"}
            for stage, place in ((stage, place_of(plan, seed, stage)) for stage in stages)
        }
        for seed in plan.seeds
    }


def validation_of(plan: Plan) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The preference models' curves while they trained; `best` marks what is used."""
    curves = {}
    for seed in plan.seeds:
        for stage in ("golden", "proxy"):
            result = read_result(place_of(plan, seed, stage)) or {}
            if rows := result.get("validation"):
                marked = [{**row, "best": row["step"] == result["step"]} for row in rows]
                curves[f"{stage}, seed {seed}"] = marked
    return curves


def training_of(plan: Plan) -> Sequence[Mapping[str, Any]]:
    """Statistics of the online baseline and of its replay while they trained (App. F)."""
    rows = []
    compared = {arm: run for arm, run in plan.baselines().items() if arm in ("online", "replayed")}
    for seed in plan.seeds if len(compared) == 2 else ():
        for arm, run in compared.items():
            file = StudyPlace(plan.study_dir).here / f"seed_{seed}" / run / METRICS_FILE
            kept = TRAINING[TRAINING.index("step") :]
            found = read_json_lines(file, *kept)
            rows += [{"seed": seed, "arm": arm} | {k: row[k] for k in kept} for row in found]
    return rows


def _write_results(place: StudyPlace, stages: Sequence[Stage], context: Context) -> None:
    folder, shown = place.here, place.directory
    measured = [folder / stage.name for stage in stages if stage.job in MEASURING]
    rows = rows_of_studies(measured, [context])
    write_csv(rows.checkpoints, CheckpointRow, folder / "rows.csv")
    if not rows.stream.empty:
        write_csv(rows.stream, StreamRow, folder / "stream_rows.csv")
    report.write_report(folder, rows, [context], [folder])
    for finding in report.findings_of(rows.of_task(context.task)):
        if finding.verdict != "not asked":
            print(f"{finding.name}: {in_words(finding)}")
    if number := collect_warnings(folder, stages):
        print(f"warnings: {number} in {shown}/{ALL_WARNINGS}")
    print(f"rows: {shown}/rows.csv\nreport: {shown}/report.html", flush=True)
