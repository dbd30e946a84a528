"""The report of one study or of several: what came out, how sure that is, what differs."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pagap_jax.files import write_atomically
from pagap_jax.study import (
    drawing,
    findings_page,
    gaps,
    report_runs,
    report_samples,
    report_stages,
    report_tables,
    stage_times,
    statistics,
)
from pagap_jax.study import report_page as page
from pagap_jax.study.context import STUDY_FILE, Context
from pagap_jax.study.experiments import EXPERIMENTS
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.figures import FIGURES
from pagap_jax.study.figures.preference_models import draw_validation
from pagap_jax.study.findings import Finding, in_words
from pagap_jax.study.rows import Rows
from pagap_jax.study.run_folders import RunFolder, runs_of
from pagap_jax.study.wording import GLOSSARY, counted

_PAPER = (
    "The paper: Tang et al. 2024, Understanding the performance gap between online and offline "
    "alignment algorithms, arXiv 2405.08448."
)
REPORT_FILE, FINDINGS_FILE, FIGURES_DIR = "report.html", "findings.json", "figures"


def write_report(
    folder: Path, rows: Rows, contexts: Sequence[Context], studies: Sequence[Path] = ()
) -> None:
    """Writes the report, the findings and every figure; equal input gives equal bytes.

    Args:
        folder: gets report.html, findings.json, findings.md and figures/*.{png,svg}.
        rows: of all studies.
        contexts: one a study.
        studies: the studies' folders, for what is beside rows; those of `contexts`, in their order.
    """
    found = {task: [f.as_json() for f in of] for task, of in _findings(rows, contexts).items()}
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / FINDINGS_FILE, text.encode())
    write_atomically(folder / "findings.md", findings_page.render(found, contexts).encode())
    drawn = [figure for figure in FIGURES.values() if figure.can_draw(rows)]
    kept = {f"{figure.name}.{kind}" for figure in drawn for kind in ("png", "svg")}
    for file in (folder / FIGURES_DIR).glob("*.*"):
        if file.name not in kept:  # of rows that are gone
            file.unlink()
    for figure in drawn:
        drawing.save_figure(figure.draw(rows), folder / FIGURES_DIR / figure.name)
    # Last: it links what is there.
    page_text = render_report(rows, contexts, studies, folder)
    write_atomically(folder / REPORT_FILE, page_text.encode())


def findings_of(rows: Rows, only: Experiment | None = None) -> list[Finding]:
    """Every finding of the paper that the package knows, asked of one task's rows."""
    experiments = [only] if only else EXPERIMENTS.values()
    return [ask(rows) for one in experiments for ask in one.findings]


def render_report(
    rows: Rows,
    contexts: Sequence[Context],
    studies: Sequence[Path] = (),
    folder: Path | None = None,
) -> str:
    """The page that `write_report` writes; without `folder` it has no links to files."""
    title = "; ".join(dict.fromkeys(context.title for context in contexts))
    known = zip(contexts, studies, strict=bool(studies))
    runs = {one.study: runs_of(path, one.study, one.task) for one, path in known}
    links = report_runs.Links(folder)
    found = _findings(rows, contexts)
    sections = [one for one in EXPERIMENTS.values() if _is_shown(one, rows, contexts)]
    parts: list[str] = []
    for task, of_task in found.items():
        parts += _summary(task, rows.of_task(task), of_task)
    parts.append(page.definitions(GLOSSARY))
    for task in found:
        of_runs = [run for of_study in runs.values() for run in of_study if run.task == task]
        shown = [*report_samples.samples(rows.of_task(task), of_runs)]
        parts += [page.heading(f"{report_samples.TITLE}: {task}"), *shown] if shown else []
    for experiment in sections:
        parts += _section(experiment, rows, contexts, [*found])
    if missing := [one for one in EXPERIMENTS.values() if one not in sections]:
        names = "; ".join(f"{one.title} (experiment {one.name})" for one in missing)
        parts.append(page.paragraph(f"Not run: {names}."))
    parts.append(page.heading(_TABLES))
    for task in found:
        parts += _tables(task, rows.of_task(task))
    for context in contexts:
        parts += _details(context, runs.get(context.study, ()), links)
    top = [page.title(title), *_about_files(studies, links)]
    top += report_runs.warnings([run for of_study in runs.values() for run in of_study], links)
    parts = [*top, page.contents(parts), *parts, page.paragraph(_PAPER)]
    return page.document(f"{title}: online and offline", parts)


def _about_files(studies: Sequence[Path], links: report_runs.Links) -> Iterator[str]:
    """When and by which version it was made, and what lies beside the page."""
    for study in studies:
        if said := stage_times.in_words(study):
            yield page.paragraph(said, "about made")
    if links.folder:
        files = [links.to(links.folder / name, name) for name in _BESIDE]
        yield page.links([cell for cell in files if isinstance(cell, page.Link)])


_TABLES = "Tables"
_BESIDE = ("rows.csv", "stream_rows.csv", FINDINGS_FILE, "findings.md", FIGURES_DIR, STUDY_FILE)


def _findings(rows: Rows, contexts: Sequence[Context]) -> dict[str, list[Finding]]:
    """By task."""
    tasks = dict.fromkeys(context.task for context in contexts)
    return {task: findings_of(rows.of_task(task)) for task in tasks}


def _is_shown(experiment: Experiment, rows: Rows, contexts: Sequence[Context]) -> bool:
    """Where it was run, or what it draws is there for other reasons."""
    was_run = any(experiment.name in context.experiments for context in contexts)
    return was_run or any(FIGURES[name].can_draw(rows) for name in experiment.figures)


def _summary(task: str, rows: Rows, found: Sequence[Finding]) -> Iterator[str]:
    """What came out of a task: the headline, its tiles, all findings."""
    yield page.heading(f"The paper's findings: {task}")
    yield page.paragraph(_headline(found[0]), "lede")
    yield page.tiles(_tiles(rows))
    yield report_tables.findings([one for one in found if one.verdict != "not asked"])
    if asked_not := [one.sentence for one in found if one.verdict == "not asked"]:
        yield page.disclosure(
            f"Not asked by this study, for want of runs or of a range of KL that they share: "
            f"{counted(len(asked_not), 'finding')}",
            page.bullets(asked_not),
        )


def _headline(one: Finding) -> str:
    if one.verdict == "not asked":
        return (
            "No seed has both an online and an offline run whose ranges of KL meet: there is "
            "nothing to compare."
        )
    said = {
        "agrees": "Online is above offline at equal KL",
        "disagrees": "Online is below offline at equal KL",
        "undecided": "Online and offline can't be told apart at equal KL",
    }[one.verdict]
    if math.isnan(one.low):
        return f"{said}: the win rate differs by {one.effect:+.3f}, and nothing says how surely."
    over = f"over {one.seeds} seeds" if one.over == "seeds" else "over prompts; one seed was run"
    return (
        f"{said}: averaged over their common range of log KL the win rate differs by "
        f"{one.effect:+.3f} (95 % interval {one.low:+.3f} to {one.high:+.3f}, {over})."
    )


def _tiles(rows: Rows) -> Iterator[page.Tile]:
    best = statistics.mean_over_seeds(statistics.peak(rows.checkpoints), ["arm"])
    for row in best[best["arm"].isin(_COMPARED)].to_dict("records"):
        seeds = "1 seed" if row["seeds"] == 1 else f"{row['seeds']:.0f} seeds"
        interval = report_tables.interval(row["low"], row["high"])
        detail = f"95 %: {interval}, {seeds}, at KL {row['kl']:.1f}"
        yield page.Tile(
            f"peak win rate, {row['arm']}", f"{row['win_rate']:.3f}", detail, row["arm"]
        )
    for label, found in (
        ("online − offline at equal KL", gaps.budget_gap(rows, _COMPARED)),
        ("peak online − peak offline", gaps.peak_gap(rows, _COMPARED)),
    ):
        values = found["gap"].dropna()
        detail = "by seed: " + ", ".join(f"{value:+.3f}" for value in values)
        mean = report_tables.signed(statistics.summarize_seeds(values).mean)
        yield page.Tile(label, mean, detail if len(values) else "nothing to compare")


_COMPARED = {"online": 1.0, "offline": -1.0}


def _section(
    experiment: Experiment, rows: Rows, contexts: Sequence[Context], tasks: Sequence[str]
) -> Iterator[str]:
    """One hypothesis: its question, what came out, its figures, its arms in numbers."""
    yield page.heading(experiment.title)
    yield page.paragraph(experiment.question, "lede")
    for task in tasks:
        asked = findings_of(rows.of_task(task), experiment)
        where = f"{task}: " if len(tasks) > 1 else ""
        yield page.bullets([f"{where}{one.sentence} {in_words(one)}" for one in asked])
    commands = dict.fromkeys(context.command for context in contexts if context.command)
    for name in experiment.figures:
        figure = FIGURES[name]
        if not figure.can_draw(rows):
            yield page.paragraph(f"{figure.title}: not drawn, for want of rows.")
            continue
        svg = drawing.inline_svg(figure.draw(rows), figure.name, figure.title)
        source = f" Corresponds to {figure.corresponds_to} of the paper." * bool(
            figure.corresponds_to
        )
        yield page.subheading(figure.title)
        yield page.figure(svg, f"{figure.caption}{source}", "narrow", " ; ".join(commands))
    arms = {arm for one in contexts for arm in one.experiments.get(experiment.name, ())}
    for task in tasks:
        if (frame := rows.of_task(task).checkpoints)["arm"].isin(arms).any():
            yield report_tables.arms(frame, arms, task)


def _tables(task: str, rows: Rows) -> Iterator[str]:
    """The tables of one task."""
    for title, table in (
        ("peak win rate, online and offline", report_tables.peaks(rows)),
        (
            "win rate at equal KL",
            report_tables.by_kl_bin(rows) + report_tables.up_to_kl(rows),
        ),
        ("best possible performance", report_tables.quantiles(rows.checkpoints)),
        ("runs", report_tables.runs(rows.checkpoints)),
        (
            "policies as classifiers of their own samples",
            report_tables.self_classification(rows.checkpoints),
        ),
    ):
        yield page.subheading(f"{task}: {title}")
        yield table


def _details(
    context: Context, runs: Sequence[RunFolder], links: report_runs.Links
) -> Iterator[str]:
    """What is known of one study beside its rows."""
    if curves := [*report_runs.curves(runs, f"training-{context.study}")]:
        yield page.heading(f"{context.title}: training")
        yield from curves
    yield page.heading(f"{context.title}: how it was made")
    if context.validation:
        drawn = draw_validation(context.validation)
        svg = drawing.inline_svg(drawn, f"validation-{context.study}", "Validation over training")
        yield page.figure(svg, _VALIDATION, "narrow", context.command)
    yield page.subheading("Gates")
    yield report_stages.gates(context.gates)
    yield page.subheading("What was read")
    yield from report_stages.what_was_read(context.data)
    yield page.subheading("Data")
    yield report_stages.data(context.data)
    yield page.subheading("Where this differs from the paper")
    yield page.bullets(context.notes) or page.paragraph("Nothing was noted.")
    if runs:
        yield page.subheading("Runs and their files")
        yield page.disclosure(counted(len(runs), "run"), report_runs.folders(runs, links))


_VALIDATION = (
    "Preference models on pairs of the validation split while they trained, both orders asked: "
    "accuracy with its 95 % interval, and loss. The circle marks the checkpoint that is used."
)
