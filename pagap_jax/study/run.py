"""The whole study on one machine: all jobs in order, then table, figures and report.

In: gin files for each kind of stage. Out, in STUDY_DIR: rows.csv, figures/fig1.{png,svg},
report.html; a folder a seed with a folder a job; logs/. Finished jobs are skipped, a killed one
goes on from its last checkpoint.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import gin

from pagap_jax.errors import ConfigError
from pagap_jax.files import write_atomically
from pagap_jax.progress import progress_bar
from pagap_jax.run_directory import locked, read_result
from pagap_jax.study import figures, report, results
from pagap_jax.study.gates import Bars, check_gates
from pagap_jax.study.plan import ControlledStudy, Settings, Stage, plans_of, run_name
from pagap_jax.study.results import Gate
from pagap_jax.study.workers import RunJob, Workers

# What a folder may hold before the first `pagap study`: stages that ran by themselves, on pods.
OF_A_STUDY = re.compile(r"\.|seed_\d+$")
STUDY_FILE = "study.json"  # whose the folder is; more seeds or settings may come to it later


@gin.configurable
def study(
    study_dir: str,
    name: str,
    title: str,
    configs: str,
    seeds: Sequence[int],
    online: Sequence[Settings],
    offline: Sequence[Settings],
    bars: Bars,
    data: Settings,
    sft_data: Settings | None = None,
    policy: Settings | None = None,
    given: Settings | None = None,
    settings: Mapping[str, Settings] | None = None,
    slices: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    long_offline_runs: int = 0,
    long_settings: Settings | None = None,
    workers: int = 2,
    run_job: RunJob | None = None,
) -> None:
    """Compares online with offline over some seeds.

    Args:
        name: goes into every row; `title` is what the report calls the study.
        configs: folder of gin files, one for each kind of stage.
        online: settings of each online run, {'LEARNING_RATE': ..., 'BETA': ...}.
        offline: the same of each offline run.
        bars: lowest and highest value of what `gates.MEASURES` names; a miss ends the study.
        data: macros of the data, {'DATA_FILE': ...}; `sft_data` of what π_sft alone is trained on.
        policy: macros of all jobs that have a policy, {'POLICY_SIZE': ...}, unless it's given.
        given: folders that another study made, by stage, {'golden_responses': ...}.
        settings: macros of all stages of a kind, {'golden': {'NUM_PARTITIONS': ...}}.
        slices: TPUs for the stages of a kind, {'golden': 'v5p:2x2x1'}. For `launch.study`;
            here all runs where it is called.
        notes: where this study differs from the paper, for the report.
        long_offline_runs: so many of each seed's best offline runs are run again with
            `long_settings`, so that offline isn't beaten by having been stopped early.
        workers: jobs side by side, each on a core of its own.

    Raises:
        GateError: a stage missed its bar.
        ConfigError: the folder isn't this study's.
    """
    assert run_job is not None, "run through `pagap study`"
    folder = Path(study_dir)
    plans = plans_of(
        seeds, configs=configs, name=name, study_dir=study_dir, data=data, sft_data=sft_data,
        policy=policy, given=given, settings=settings, slices=slices,
    )  # fmt: skip
    stages = [stage for plan in plans for stage in plan.stages(online, offline)]
    gates: list[Gate] = []
    with _claimed(folder, name):
        _run(run_job, folder, stages, workers, bars, gates)
        if long_offline_runs:
            longer = [
                stage
                for plan in plans
                for settings in best_offline(folder, plan, offline, long_offline_runs)
                for stage in plan.offline({**settings, **(long_settings or {})})
            ]
            stages = [*stages, *longer]
            _run(run_job, folder, stages, workers, bars, [])
        _write_results(folder, title, stages, gates, plans, notes)


@contextlib.contextmanager
def _claimed(folder: Path, name: str) -> Iterator[None]:
    """The folder as this study's and this process's; what else is in it stays as it is.

    Raises:
        ConfigError: it holds another study, or files that no study made.
        RetryError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        file = folder / STUDY_FILE
        found = json.loads(file.read_text())["study"] if file.exists() else None
        others = [path.name for path in folder.iterdir() if not OF_A_STUDY.match(path.name)]
        if found is None and others:
            raise ConfigError(
                f"{folder} holds files and no {STUDY_FILE}: no study made them. Give another"
                " STUDY_DIR"
            )
        if found not in (None, name):
            raise ConfigError(
                f"{folder} holds the study {found!r}, expected {name!r}. Give another STUDY_DIR"
            )
        write_atomically(file, (json.dumps({"study": name}) + "\n").encode())
        yield


def _run(
    run_job: RunJob,
    folder: Path,
    stages: Sequence[Stage],
    workers: int,
    bars: Bars,
    gates: list[Gate],
) -> None:
    with progress_bar() as progress:
        task = progress.add_task("study", total=len(stages), note="")

        def on_finished(stage: Stage, seconds: float) -> None:
            progress.advance(task)
            progress.update(task, note=stage.name)
            print(f"{stage.name}: {seconds:.0f} s", flush=True)
            seed = int(stage.name.split("/")[0].removeprefix("seed_"))
            for gate in check_gates(folder, seed, stage.name, bars):
                print(f"  {gate.name}: {gate.measured:.4f}, needs {gate.bar}: passed", flush=True)
                gates.append(gate)

        Workers(run_job, folder, workers).run(stages, on_finished)


def best_offline(
    folder: Path, plan: ControlledStudy, offline: Sequence[Settings], number: int
) -> list[Settings]:
    """The settings whose best checkpoint won most often on the half of the prompts to choose by."""

    def peak(settings: Settings) -> float:
        rows = folder / f"seed_{plan.seed}" / "rows" / run_name("offline", settings)
        lines = (rows / results.ROWS_FILE).read_text().splitlines()
        return max(json.loads(line)["win_rate_select"] for line in lines)

    return sorted(offline, key=peak, reverse=True)[:number]


def _write_results(
    folder: Path,
    title: str,
    stages: Sequence[Stage],
    gates: list[Gate],
    plans: Sequence[ControlledStudy],
    notes: Sequence[str],
) -> None:
    frame = results.collect_rows(folder / stage.name for stage in stages if stage.job == "evaluate")
    results.write_csv(frame, folder / "rows.csv")
    (folder / "figures").mkdir(exist_ok=True)
    figures.figure_1(frame, folder / "figures" / "fig1")
    data: Mapping = {
        f"seed {plan.seed}": {
            stage: read_result(folder / plan.given.get(stage, f"seed_{plan.seed}/{stage}"))
            for stage in ("pairs", "golden", "d_golden", "proxy")
        }
        for plan in plans
    }
    gates = sorted(gates, key=lambda gate: gate.name)
    context = report.ReportContext(title, gates, dict(data), list(notes))
    report.write_report(folder / "report.html", frame, context)
    print(f"rows: {folder / 'rows.csv'}\nreport: {folder / 'report.html'}", flush=True)
