"""Programs that stand on PATH instead of those that would send something."""

import json
import os
import sys
import textwrap
from pathlib import Path

import pytest

_HEAD = """\
#!{python} -IS
import json, os, sys, time
HERE = {here!r}
with open(HERE + "/calls", "a") as calls:
    calls.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
"""


class Programs:
    """A folder first on PATH, whose programs write down how they were called."""

    def __init__(self, here: Path):
        self.here = here
        self.folder = here / "programs"
        self.folder.mkdir()

    def add(self, name: str, body: str = "") -> None:
        """A program in Python that records its arguments, then does what `body` says."""
        path = self.folder / name
        path.write_text(
            _HEAD.format(python=sys.executable, here=str(self.here), name=name)
            + textwrap.dedent(body)
        )
        path.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """All calls of all programs, in order."""
        file = self.here / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Whatever would send something only writes down that it was called."""
    made = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    for name in ("gcloud", "kubectl", "xpk"):
        made.add(name)
    return made
