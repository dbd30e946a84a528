"""What the report says of single runs: warnings, curves of training, where their files are."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pagap_jax.run_directory import METRICS_FILE
from pagap_jax.run_warnings import WARNINGS_FILE
from pagap_jax.study import drawing
from pagap_jax.study import report_page as page
from pagap_jax.study.figures.training_curves import (
    Curve,
    draw_training,
    label_of,
    shown_columns,
)
from pagap_jax.study.run_folders import SAMPLES_FILE, RunFolder
from pagap_jax.study.wording import counted

_SHOWN_STAGES = 8  # with warnings; the others are folded
_LINKED = ("run.json", "result.json", METRICS_FILE, "rows.jsonl", SAMPLES_FILE, WARNINGS_FILE)
_KINDS = (
    ("Supervised fine-tuning", ("sft", "pretrain")),
    ("Preference models", ("preference_model",)),
    ("Alignment", ("align",)),
)


@dataclasses.dataclass(frozen=True)
class Links:
    """Makes links that are relative to the report, so that both can be moved together.

    Attributes:
        folder: the report's; None where it isn't on disk: no links then.
    """

    folder: Path | None = None

    def to(self, path: Path, text: str) -> page.Cell:
        """A link to what is there; else the text."""
        if self.folder is None or not path.exists():
            return text
        relative = Path(os.path.relpath(path.resolve(), self.folder.resolve())).as_posix()
        return page.Link(text, quote(relative) + "/" * path.is_dir())


def warnings(runs: Sequence[RunFolder], links: Links) -> Iterator[str]:
    """All warnings in one box, by stage; nothing where there are none."""
    found = [(run, said) for run in runs if (said := [_said(one) for one in run.warnings()])]
    if not found:
        return
    number = sum(len(said) for _, said in found)
    about = (
        f"{counted(number, 'warning')} from {counted(len(found), 'stage')}: what looked broken "
        "while the study went on."
    )
    noted = [(links.to(run.path, f"{run.title}, seed {run.seed}"), said) for run, said in found]
    content = [page.heading("Warnings"), page.paragraph(about, "about")]
    content.append(page.notes(noted[:_SHOWN_STAGES]))
    if rest := noted[_SHOWN_STAGES:]:
        content.append(page.disclosure(f"{counted(len(rest), 'further stage')}", page.notes(rest)))
    yield page.alert("".join(content))


def _said(one: Mapping[str, Any]) -> str:
    where = "" if one.get("step") is None else f", step {one['step']}"
    return f"{one['message']} ({one['value']:.4g}, threshold {one['threshold']:.4g}{where})"


def curves(runs: Sequence[RunFolder], prefix: str) -> Iterator[str]:
    """A figure for each kind of job: panels of all that it measured while it trained.

    Args:
        prefix: of ids, unique on the page.
    """
    for title, jobs in _KINDS:
        found = [
            Curve(run.arm if run.job == "align" else run.name, f"{run.name}, seed {run.seed}", rows)
            for run in runs
            if run.job in jobs and len(rows := run.metrics())
        ]
        if not found:
            continue
        yield page.subheading(title)
        constant = shown_columns(found)[1]
        still = [f"{label_of(name)} {value:.4g}" for name, value in constant.items()]
        caption = _CURVES + f" The same at every step: {'; '.join(still)}." * bool(still)
        drawn = draw_training(found)
        if drawn is None:
            yield page.paragraph(caption, "about")
            continue
        name = f"{prefix}-{jobs[0]}"
        yield page.figure(drawing.inline_svg(drawn, name, f"{title}: training"), caption, "narrow")


def folders(runs: Sequence[RunFolder], links: Links) -> str:
    """Every run with links to its files."""
    lines = []
    for run in runs:
        files = [links.to(run.path / name, name) for name in _LINKED]
        linked = [cell if isinstance(cell, page.Link) else "" for cell in files]
        lines.append((links.to(run.path, run.name), f"{run.seed}", run.job, *linked))
    columns = ("run", "seed", "job", *_LINKED)
    kept = [i for i in range(len(columns)) if i < 3 or any(line[i] for line in lines)]
    rows = [[line[i] for i in kept] for line in lines]
    caption = "Every run with its files; links work where the study's folder is."
    headers = [columns[i] for i in kept]
    return page.table(caption, headers, rows, text_columns=range(1, len(headers)))


_CURVES = "A line a run, from its metrics.jsonl; point at a line to see which."
