"""The report of a study: what came out, how sure that is, and where it differs from the paper."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pagap_jax.files import write_atomically
from pagap_jax.study import drawing, figures, report_tables, statistics
from pagap_jax.study import report_page as page
from pagap_jax.study.report_tables import METHODS, NOTHING
from pagap_jax.study.results import Gate

_PAPER = (
    "The paper: Tang et al. 2024, Understanding the performance gap between online and offline "
    "alignment algorithms, arXiv 2405.08448."
)


@dataclasses.dataclass(frozen=True)
class ReportContext:
    """What a report says beside the rows."""

    study: str  # what was studied, in a few words: 'tiny T5 on the built-in tickets'
    gates: list[Gate]
    data: dict  # counts and rates of the data, nested as deep as they need
    notes: list[str]  # where the study differs from the paper, one sentence each


def write_report(path: str | Path, frame: pd.DataFrame, context: ReportContext) -> None:
    """Writes one HTML page that holds everything it shows; equal input gives equal bytes.

    Args:
        path: of the page.
        frame: rows as `results.collect_rows` gives them; methods or seeds may be missing.
        context: the gates, the data report and the notes.
    """
    write_atomically(path, render_report(frame, context).encode())


def render_report(frame: pd.DataFrame, context: ReportContext) -> str:
    """The page that `write_report` writes."""
    parts = [
        page.title(context.study),
        page.paragraph(_verdict(frame), "lede"),
        page.tiles(_headline(frame)),
        _figure_1(frame, context.study),
        page.heading("Peak win rate"),
        report_tables.peaks(frame),
        page.heading("Win rate at equal KL"),
        report_tables.by_kl_bin(frame),
        report_tables.up_to_kl(frame),
        page.heading("Best possible performance"),
        report_tables.quantiles(frame),
        page.heading("Runs"),
        report_tables.runs(frame),
        page.heading("Over training"),
        _training(frame, context.study),
        _log_prob_shift(frame, context.study),
        page.heading("Gates"),
        report_tables.gates(context.gates),
        page.heading("Data"),
        report_tables.data(context.data),
        page.heading("Where this differs from the paper"),
        page.bullets(context.notes) or page.paragraph("Nothing was noted."),
        page.paragraph(_PAPER),
    ]
    return page.document(f"{context.study}: online and offline", parts)


def _verdict(frame: pd.DataFrame) -> str:
    gaps = statistics.peak_gap(frame)
    if gaps.empty:
        return "No seed has both an online and an offline run: there is nothing to compare."
    ahead, seeds = int((gaps["gap"] > 0).sum()), len(gaps)
    if seeds == 1:
        (only,) = gaps.to_dict("records")
        side = "above offline" if ahead else "not above offline"
        if only["low"] <= 0 <= only["high"]:
            side = "about where offline does"
        return (
            f"Online peaks {side} in the one seed that was run: the difference is "
            f"{report_tables.gap(only)} (95 % interval over prompts)."
        )
    mean = statistics.summarize_seeds(gaps["gap"])
    return (
        f"Online peaks above offline in {ahead} of {seeds} seeds. The mean difference is "
        f"{mean.mean:+.3f} (95 % interval over seeds {mean.low:+.3f} to {mean.high:+.3f}, "
        f"one-sided p = {mean.p_one_sided:.2g})."
    )


def _headline(frame: pd.DataFrame) -> Iterator[page.Tile]:
    peaks = statistics.mean_over_seeds(statistics.peak(frame), ["method"]).set_index("method")
    for method in METHODS:
        number, detail = NOTHING, "not run"
        if method in peaks.index:
            row = peaks.loc[method]
            seeds = "1 seed" if row["seeds"] == 1 else f"{row['seeds']:.0f} seeds"
            interval = report_tables.interval(row["low"], row["high"])
            number = f"{row['win_rate']:.3f}"
            detail = f"95 %: {interval}, {seeds}, at KL {row['kl']:.1f}"
        yield page.Tile(f"peak win rate, {method}", number, detail, method)
    for label, gaps in (
        ("peak online − peak offline", statistics.peak_gap(frame)),
        ("online − offline at KL 3 to 6", statistics.equal_kl_gap(frame)),
    ):
        values = gaps["gap"].dropna()
        detail = "by seed: " + ", ".join(f"{value:+.3f}" for value in values)
        mean = report_tables.signed(statistics.summarize_seeds(values).mean)
        yield page.Tile(label, mean, detail if len(values) else "nothing to compare")


def _figure_1(frame: pd.DataFrame, study: str) -> str:
    svg = drawing.inline_svg(
        figures.draw_figure_1(frame), "fig1", "Win rate over KL, online and offline"
    )
    caption = (
        "Win rate against the golden policy over KL from the SFT policy. Corresponds to Fig. 1 of "
        f"the paper; here: {study}. Each faint point is one checkpoint of one run, over all "
        "prompts. Lines join the best checkpoints in bins of KL, each chosen on one half of the "
        "prompts and reported on the other, averaged over seeds; choosing by halves is ours. Bars: "
        "standard error over seeds, or the 95 % interval over prompts where a bin has one seed."
    )
    return page.figure(svg, caption, "narrow")


_HOW_TO_READ = (
    "A column of panels per β. Colour and marker tell the method, dashes the learning rate; thin "
    "lines are seeds, thick ones their mean."
)


def _training(frame: pd.DataFrame, study: str) -> str:
    svg = drawing.inline_svg(
        figures.draw_over_steps(frame), "training", "Win rate, KL and accuracy over steps"
    )
    caption = (
        f"Win rate, KL and accuracy on D_golden over training; here: {study}. The accuracy "
        f"corresponds to Fig. 8 (top) of the paper. {_HOW_TO_READ}"
    )
    return page.figure(svg, caption)


def _log_prob_shift(frame: pd.DataFrame, study: str) -> str:
    drawn = figures.draw_over_steps(frame, figures.LOG_PROBS)
    svg = drawing.inline_svg(drawn, "shift", "Log-probability of responses over steps")
    caption = (
        "Mean of log π − log π_SFT of D_golden's responses, in nats a response, over training; "
        f"here: {study}. The chosen responses correspond to Fig. 8 (bottom) of the paper. "
        f"{_HOW_TO_READ}"
    )
    return page.figure(svg, caption)
