"""When a study's stages were run, for how long, and by which version: STUDY_DIR/stages.jsonl."""

import datetime
import json
import subprocess
from pathlib import Path

import pagap_jax
from pagap_jax.files import read_json_lines

TIMES_FILE = "stages.jsonl"


def note_stage(folder: Path, stage: str, seconds: float) -> None:
    """Adds a line for a stage that has just finished."""
    ended = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"stage": stage, "seconds": round(seconds, 1), "ended": ended, **version()}
    with (folder / TIMES_FILE).open("a") as file:
        file.write(json.dumps(line) + "\n")


def version() -> dict[str, str]:
    """The package's version, and its commit where it is a checkout; '-dirty' where files differ."""
    root = Path(pagap_jax.__file__).parents[1]
    commit = ""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            commit = done.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):  # no git here: the version has to do
            pass
    return {"version": pagap_jax.__version__, "commit": commit}


def in_words(folder: Path) -> str:
    """'18 stages in 1,234 s of work, ended 2026-01-31 12:00 UTC, pagap_jax 0.1.0 (commit abc)'.

    '' where nothing was noted: the stages were run one by one.
    """
    names = ("stage", "ended", "seconds", "version", "commit")
    rows = read_json_lines(folder / TIMES_FILE, *names)
    last = {row["stage"]: row for row in rows}  # one that was made anew
    if not last:
        return ""
    ended = max(line["ended"] for line in last.values())
    seconds = sum(line["seconds"] for line in last.values())
    made_by = sorted({(line["version"], line["commit"]) for line in last.values()})
    versions = " and ".join(f"{v} (commit {c})" if c else v for v, c in made_by)
    stages = f"{len(last)} stage{'s' * (len(last) > 1)}"
    when = ended[:16].replace("T", " ")
    return f"{stages}, {seconds:,.0f} s of work, ended {when} UTC; pagap_jax {versions}."
