"""`pagap report STUDY_DIR [STUDY_DIR ...] --out=DIR`: report and figures from rows alone.

Runs nothing. Several studies make one report: tasks as panels, policy sizes as curves.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pagap_jax.arguments import ArgumentParser
from pagap_jax.errors import ConfigError
from pagap_jax.records import CheckpointRow, StreamRow
from pagap_jax.study.context import Context, read_context, rows_of_studies
from pagap_jax.study.place import StudyPlace, here
from pagap_jax.study.report import write_report
from pagap_jax.study.rows import write_csv

ROWS_OF_STAGES = ("seed_*/rows/*/rows.jsonl", "seed_*/rows/*/stream_rows.jsonl")


def run_command(argv: Sequence[str]) -> int:
    """Writes the report; 0.

    Raises:
        ConfigError: bad arguments, a folder that no study made, or two studies of one name.
        DataError: rows are missing or damaged.
    """
    parser = ArgumentParser(prog="pagap report", description=__doc__)
    parser.add_argument("studies", nargs="+", metavar="STUDY_DIR")
    parser.add_argument("--out", required=True, help="folder for report and figures")
    arguments = parser.parse_args(argv)
    contexts: list[Context] = []
    folders: list[Path] = []
    out, studies = StudyPlace(arguments.out), [here(study) for study in arguments.studies]
    for study in studies:
        context = read_context(study)
        if context is None:
            raise ConfigError(f"{study}: found no study.json, expected the folder of a study")
        if context.study in [other.study for other in contexts]:
            raise ConfigError(f"{study}: found a second study named {context.study!r}")
        contexts.append(context)
        found = sorted({file.parent for rows in ROWS_OF_STAGES for file in study.glob(rows)})
        if not found:
            raise ConfigError(f"{study}: found no rows, expected those of its evaluations")
        folders += found
    rows = rows_of_studies(folders, contexts)
    check_seeds(rows.checkpoints)
    write_csv(rows.checkpoints, CheckpointRow, out.here / "rows.csv")
    if not rows.stream.empty:
        write_csv(rows.stream, StreamRow, out.here / "stream_rows.csv")
    write_report(out.here, rows, contexts, studies)
    out.publish()
    print(f"report: {out.directory}/report.html")
    return 0


def check_seeds(frame: pd.DataFrame) -> None:
    """Raises ConfigError where two studies have a task, policy size and seed in common."""
    by = ["task", "policy_size", "seed"]
    for key, group in frame[~frame["arm"].str.startswith("sft")].groupby(by):
        if group["study"].nunique() > 1:
            named = ", ".join(f"{name} {value}" for name, value in zip(by, key, strict=True))
            raise ConfigError(
                f"found {named} in the studies {' and '.join(sorted(group['study'].unique()))},"
                " expected it in one of them"
            )
