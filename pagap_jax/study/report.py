"""The report of one study or of several: what came out, how sure that is, what differs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pagap_jax.files import write_atomically
from pagap_jax.study import drawing, report_tables, statistics
from pagap_jax.study import report_page as page
from pagap_jax.study.context import Context
from pagap_jax.study.experiments import EXPERIMENTS
from pagap_jax.study.figures import FIGURES
from pagap_jax.study.figures.preference_models import draw_validation
from pagap_jax.study.findings import Finding
from pagap_jax.study.rows import Rows

_PAPER = (
    "The paper: Tang et al. 2024, Understanding the performance gap between online and offline "
    "alignment algorithms, arXiv 2405.08448."
)
REPORT_FILE, FINDINGS_FILE, FIGURES_DIR = "report.html", "findings.json", "figures"


def write_report(folder: Path, rows: Rows, contexts: Sequence[Context]) -> None:
    """Writes the report, the findings and every figure; equal input gives equal bytes.

    Args:
        folder: gets report.html, findings.json and figures/*.{png,svg}.
        rows: of all studies.
        contexts: one a study.
    """
    write_atomically(folder / REPORT_FILE, render_report(rows, contexts).encode())
    found = {one.study: [f.as_json() for f in findings_of(rows, one)] for one in contexts}
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / FINDINGS_FILE, text.encode())
    for figure in FIGURES.values():
        if figure.can_draw(rows):
            drawing.save_figure(figure.draw(rows), folder / FIGURES_DIR / figure.name)


def findings_of(rows: Rows, context: Context) -> list[Finding]:
    """Every finding of the paper that the package knows, asked of one study's rows."""
    of_study = statistics.one_study(rows, context.study)
    return [ask(of_study) for one in EXPERIMENTS.values() for ask in one.findings]


def render_report(rows: Rows, contexts: Sequence[Context]) -> str:
    """The page that `write_report` writes."""
    title = "; ".join(context.title for context in contexts)
    parts = [page.title(title), *map(page.paragraph, _questions(contexts))]
    for context in contexts:
        parts += _summary(rows, context)
    parts += _figures(rows, title)
    for context in contexts:
        parts += _details(statistics.one_study(rows, context.study), context)
    return page.document(f"{title}: online and offline", [*parts, page.paragraph(_PAPER)])


def _questions(contexts: Sequence[Context]) -> list[str]:
    names = dict.fromkeys(name for context in contexts for name in context.experiments)
    return [EXPERIMENTS[name].question for name in names if name in EXPERIMENTS]


def _summary(rows: Rows, context: Context) -> Iterator[str]:
    """What came out of a study: the headline, its tiles, all findings."""
    of_study, found = statistics.one_study(rows, context.study), findings_of(rows, context)
    yield page.heading(context.title)
    yield page.paragraph(_headline(found[0]), "lede")
    yield page.tiles(_tiles(of_study))
    yield page.heading("The paper's findings")
    yield report_tables.findings([one for one in found if one.verdict != "not asked"])
    if asked_not := [one.sentence for one in found if one.verdict == "not asked"]:
        yield page.paragraph("Not asked by this study: " + " ".join(asked_not))


def _headline(one: Finding) -> str:
    if one.verdict == "not asked":
        return "No seed has both an online and an offline run: there is nothing to compare."
    said = {
        "agrees": "Online is above offline at equal KL",
        "disagrees": "Online is below offline at equal KL",
        "undecided": "Online is about where offline is at equal KL",
    }[one.verdict]
    over = f"over {one.seeds} seeds" if one.over == "seeds" else "over prompts; one seed was run"
    return (
        f"{said}: averaged over their common range of log KL the win rate differs by "
        f"{one.effect:+.3f} (95 % interval {one.low:+.3f} to {one.high:+.3f}, {over})."
    )


def _tiles(rows: Rows) -> Iterator[page.Tile]:
    best = statistics.mean_over_seeds(statistics.peak(rows.checkpoints), ["arm"])
    for row in best.to_dict("records"):
        if row["arm"] in report_tables.STARTS:
            continue
        seeds = "1 seed" if row["seeds"] == 1 else f"{row['seeds']:.0f} seeds"
        interval = report_tables.interval(row["low"], row["high"])
        detail = f"95 %: {interval}, {seeds}, at KL {row['kl']:.1f}"
        yield page.Tile(
            f"peak win rate, {row['arm']}", f"{row['win_rate']:.3f}", detail, row["arm"]
        )
    for label, gaps in (
        ("online − offline at equal KL", statistics.budget_gap(rows)),
        ("peak online − peak offline", statistics.peak_gap(rows)),
    ):
        values = gaps["gap"].dropna()
        detail = "by seed: " + ", ".join(f"{value:+.3f}" for value in values)
        mean = report_tables.signed(statistics.summarize_seeds(values).mean)
        yield page.Tile(label, mean, detail if len(values) else "nothing to compare")


def _figures(rows: Rows, title: str) -> Iterator[str]:
    """Every figure that these rows have something for; of the others, what would bring them."""
    missing = []
    for figure in FIGURES.values():
        if not figure.can_draw(rows):
            brings = [one.name for one in EXPERIMENTS.values() if figure.name in one.figures]
            missing.append(f"{figure.title} (experiment {' or '.join(brings)})")
            continue
        svg = drawing.inline_svg(figure.draw(rows), figure.name, figure.title)
        source = f" Corresponds to {figure.corresponds_to} of the paper." * bool(
            figure.corresponds_to
        )
        yield page.heading(figure.title)
        yield page.figure(svg, f"{figure.caption}{source} Here: {title}.", "narrow")
    if missing:
        yield page.paragraph("Not drawn, for want of rows: " + "; ".join(missing) + ".")


def _details(rows: Rows, context: Context) -> Iterator[str]:
    """The tables of one study."""
    yield page.heading(f"{context.title}: peak win rate")
    yield report_tables.peaks(rows)
    yield page.heading("Win rate at equal KL")
    yield report_tables.by_kl_bin(rows)
    yield report_tables.up_to_kl(rows)
    yield page.heading("Best possible performance")
    yield report_tables.quantiles(rows.checkpoints)
    yield page.heading("Runs")
    yield report_tables.runs(rows.checkpoints)
    yield page.heading("Policies as classifiers of their own samples")
    yield report_tables.self_classification(rows.checkpoints)
    if context.validation:
        yield page.heading("Preference models over training")
        drawn = draw_validation(context.validation)
        svg = drawing.inline_svg(drawn, f"validation-{context.study}", "Validation over training")
        yield page.figure(svg, _VALIDATION)
    yield page.heading("Gates")
    yield report_tables.gates(context.gates)
    yield page.heading("Data")
    yield report_tables.data(context.data)
    yield page.heading("Where this differs from the paper")
    yield page.bullets(context.notes) or page.paragraph("Nothing was noted.")


_VALIDATION = (
    "Preference models on pairs of the validation split while they trained, both orders asked: "
    "accuracy with its 95 % interval, and loss. The circle marks the checkpoint that is used."
)
