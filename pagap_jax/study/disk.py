"""`pagap du FOLDER [FOLDER ...]`: what of a study, or of one run, takes how much disk.

A row a stage. `thinning` is what would be free if all checkpoints but the newest held parameters
alone, as with TrainLoop.keep_optimizer_states=False. Bytes as the files' sizes say.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pagap_jax.arguments import ArgumentParser
from pagap_jax.buckets import in_bucket
from pagap_jax.errors import ConfigError
from pagap_jax.extension import CHECKPOINTS
from pagap_jax.lineage import RUN_FILE
from pagap_jax.run_directory import METRICS_FILE

KINDS = ("parameters", "optimizer", "data", "compiled", "logs", "other")
COMPILED = ".compiled"  # of a study; a job by itself keeps its programs in ~/.cache
DATA = (".array_record", ".npz", ".jsonl")
EXPORT = "export"  # of a pretraining run: its checkpoint


def run_command(argv: Sequence[str]) -> int:
    """Prints a table a folder; 0.

    Raises:
        ConfigError: bad arguments, or a folder that isn't there.
    """
    parser = ArgumentParser(prog="pagap du", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    for name in parser.parse_args(argv).folders:
        if in_bucket(name):
            raise ConfigError(
                f"{name}: found a bucket, expected a folder: `gcloud storage du` does it"
            )
        folder = Path(name)
        if not folder.is_dir():
            raise ConfigError(f"{folder}: found no folder, expected a study's or a run's")
        # A file or a pipe has no width: nothing may be cut there.
        width = None if sys.stdout.isatty() else 200
        Console(width=width).print(as_table(folder, usage(folder)))
    return 0


def usage(folder: Path) -> dict[str, Counter[str]]:
    """Bytes by stage and kind; 'thinning' isn't a kind: it is a part of 'optimizer'.

    A stage is a run's folder, named from `folder`. What no run's folder holds is filed under the
    first folder of its path; '.' is `folder` itself.
    """
    found: dict[str, Counter[str]] = {}
    newest: dict[Path, int] = {}
    for file in _files(folder):
        path = file.relative_to(folder)
        stage = _stage(folder, path)
        kind, size = kind_of(path), file.stat().st_size
        counts = found.setdefault(stage, Counter())
        counts[kind] += size
        if kind == "optimizer":
            step = _step_folder(file)
            if step.parent not in newest:
                newest[step.parent] = max(int(p.name) for p in _steps(step.parent))
            if int(step.name) != newest[step.parent]:
                counts["thinning"] += size
    return dict(sorted(found.items()))


def kind_of(path: Path) -> str:
    """What a file is, from its path below a study or a run."""
    folders = path.parts[:-1]
    if {CHECKPOINTS, EXPORT} & {*folders}:
        return "optimizer" if "optimizer" in folders else "parameters"
    if COMPILED in folders:
        return "compiled"
    if "logs" in folders or path.name == METRICS_FILE:
        return "logs"
    return "data" if any(suffix in path.name for suffix in DATA) else "other"


def as_table(folder: Path, found: dict[str, Counter[str]]) -> Table:
    """A row a stage, a column a kind, and totals."""
    table = Table(title=f"{folder}", title_justify="left")
    table.add_column("")
    for name in (*KINDS, "total", "thinning"):
        table.add_column(name, justify="right")
    for stage, counts in found.items():
        table.add_row(stage, *_cells(counts))
    table.add_section()
    table.add_row("total", *_cells(sum(found.values(), Counter())))
    return table


def _cells(counts: Counter[str]) -> list[str]:
    whole = sum(counts[kind] for kind in KINDS)
    return [human(size) for size in (*(counts[k] for k in KINDS), whole, counts["thinning"])]


def human(size: int) -> str:
    """Bytes as people read them: '1.5 GB', in powers of 1,000."""
    if not size:
        return ""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"


def _files(folder: Path) -> Iterator[Path]:
    """All files; a file that a run deletes meanwhile, and links, aren't counted."""
    for where, _, names in os.walk(folder):
        for name in names:
            file = Path(where) / name
            if file.is_file() and not file.is_symlink():
                yield file


def _stage(folder: Path, path: Path) -> str:
    for parent in path.parents:
        if (folder / parent / RUN_FILE).is_file():
            return parent.as_posix()
    return path.parts[0] if len(path.parts) > 1 else "."


def _step_folder(file: Path) -> Path:
    """The folder of a step: .../checkpoints/STEP of a file below it."""
    parts = file.parts
    at = len(parts) - 1 - parts[::-1].index(CHECKPOINTS)
    return Path(*parts[: at + 2])


def _steps(checkpoints: Path) -> list[Path]:
    return [step for step in checkpoints.iterdir() if step.name.isdigit()]
