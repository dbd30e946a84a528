"""Every command of the README is one that the project understands."""

import re
import shlex
from pathlib import Path

import pytest

from pagap_jax.aot.job import configure
from pagap_jax.configuration import job_usage, load_job, parse, parse_command_line, usage
from pagap_jax.data.show import run_command as main_of_show
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.jobs import JOBS
from pagap_jax.library.sample import run_command as main_of_sample
from pagap_jax.main import main
from pagap_jax.study.command import run_command as main_of_report

ROOT = Path(__file__).resolve().parents[1]


def commands():
    text = "\n".join((ROOT / page).read_text() for page in ("README.md", "docs/data.md"))
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_command_is_understood(words, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    program, *arguments = words
    if program == "make":
        (target,) = arguments
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
    elif arguments[0] == "checkpoint":
        monkeypatch.chdir(tmp_path)
        temporary = [a.replace("/tmp/", f"{tmp_path}/") for a in arguments]
        assert main([str(ROOT / a) if a.startswith("tests/") else a for a in temporary]) == 0
    elif arguments[0] == "compile":
        own = ("--topology", "--search", "--json", "--lengths")
        job = configure([a for a in arguments[1:] if not a.startswith(own)])
        assert job in JOBS
    elif arguments[0] == "report":
        with pytest.raises(ConfigError, match="no study.json"):  # the demo wasn't run here
            main_of_report([str(tmp_path), *arguments[2:]])
    elif arguments[0] == "show":
        with pytest.raises(DataError, match="found no pairs.json"):
            main_of_show([str(tmp_path), *arguments[2:]])
    elif arguments[0] == "sample":
        with pytest.raises(ConfigError, match="no checkpoint at"):
            main_of_sample([f"{tmp_path}/{arguments[1]}", *arguments[2:]])
    elif arguments[-1] == "--help":
        assert (usage() if len(arguments) == 1 else job_usage(arguments[0])).strip()
    else:
        assert program == "pagap"
        command = parse_command_line(arguments)
        configuration = parse(load_job(command.job), command.gin_files, command.gin_bindings)
        assert configuration.operative_config_text()


def test_the_two_commands_are_there():
    assert [["make", "demo"], ["make", "test"]] == list(commands())[:2]
