"""launch/README.md: its table is the code's, and its commands are taken."""

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from launch.options import RESTART_CODES
from launch.slices import table

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "launch" / "README.md").read_text()


def commands():
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line)


def test_the_table_of_slices_is_what_the_code_says():
    assert TEXT.endswith("\n\n" + table())


def test_the_restarted_exit_codes_are_what_the_code_says():
    restarted = re.findall(r"^\| (\d+) \|.*\| yes \|$", TEXT, re.M)
    assert [int(code) for code in restarted] == list(RESTART_CODES)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_command_is_understood(words, programs, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    words = [word.replace("/tmp/", f"{tmp_path}/") for word in words]
    if words[0] == "launch/rehearsal.sh":
        subprocess.run([words[0], "--dry_run", *words[1:]], check=True)
        return
    assert words[:2] == ["python", "-m"]
    module = import_module("launch.tpu_vm.__main__" if words[2] == "launch.tpu_vm" else words[2])
    assert module.main(words[3:]) == 0
    assert capsys.readouterr().out and programs.calls() == []
