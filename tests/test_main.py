"""Tests of the command line in processes of its own: help, messages, exit codes, quickness."""

import os
import subprocess
import sys
import time
from pathlib import Path

import gin
import pytest
from jax.errors import JaxRuntimeError

from pagap_jax import errors, main
from pagap_jax.jobs import JOBS, Job

ROOT = Path(__file__).resolve().parents[1]


@gin.configurable
def toy_failing_job(kind: str = "none") -> None:
    """Ends in the way that is asked for."""
    if kind == "bug":
        raise ZeroDivisionError("a bug")
    if kind == "of_jax":  # whose constructor is in C
        raise JaxRuntimeError("a bug")
    if kind != "none":
        raise getattr(errors, kind)("what happened")


def pagap(*arguments: str) -> subprocess.CompletedProcess:
    """Runs `pagap` as a user does, from the top of the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "pagap_jax.main", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JOBS, "toy", Job(f"{__name__}:toy_failing_job", "fails"))


def test_help_names_every_job():
    result = pagap("--help")
    assert result.returncode == 0
    for name, job in JOBS.items():
        assert f"  {name} " in result.stdout and job.description in result.stdout


def test_a_reader_that_has_seen_enough_sees_no_traceback():
    """Of `pagap --help | head -1`, say."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as unread:
        command = [sys.executable, "-m", "pagap_jax.main", "--help"]
        done = subprocess.run(command, cwd=ROOT, stdout=unread, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_on_a_job_that_is_none():
    result = pagap("aling", "--help")
    assert result.returncode == 2 and "did you mean 'align'" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["align", "--help"], ["study", "--help"]])
def test_help_imports_nothing_heavy_and_is_quick(arguments):
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        start = time.monotonic()
        assert pagap(*arguments).returncode == 0
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 1.0
    code = (
        "import sys; from pagap_jax.main import main; main(sys.argv[1:]);"
        "heavy = {'jax', 'tensorflow', 'numpy', 'seqio'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=True, timeout=60)


def test_the_help_of_a_job_shows_the_header_of_its_gin_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "jobs").mkdir()
    header = "# SFT of a T5.\n#\n# Requires: MODEL_DIR\n\n# not this\nsft.steps = 1\n"
    (tmp_path / "jobs/sft.gin").write_text(header)
    monkeypatch.setattr("pagap_jax.configuration.command_line.packaged_directory", lambda: tmp_path)
    assert main.main(["sft", "--help"]) == 0
    text = capsys.readouterr().out
    assert JOBS["sft"].description in text
    assert "jobs/sft.gin\n  SFT of a T5.\n\n  Requires: MODEL_DIR\n" in text
    assert "not this" not in text


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        ("none", 0),
        ("ConfigError", 2),
        ("DataError", 2),
        ("GateError", 2),
        ("NotANumberError", 3),
        ("RetryError", 42),
        ("StoppedError", 42),
        ("InterruptError", 130),
    ],
)
@pytest.mark.usefixtures("_toy")
def test_each_error_has_its_exit_code_and_one_line(kind, exit_code, capsys):
    assert main.main(["toy", f"--gin.toy_failing_job.kind='{kind}'"]) == exit_code
    if kind.endswith("Error"):
        assert capsys.readouterr().err == "pagap toy: what happened\n"


@pytest.mark.usefixtures("_toy")
@pytest.mark.parametrize(
    ("kind", "error"), [("bug", ZeroDivisionError), ("of_jax", JaxRuntimeError)]
)
def test_a_bug_keeps_its_type_and_traceback(kind, error):
    with pytest.raises(error) as caught:
        main.main(["toy", f"--gin.toy_failing_job.kind={kind!r}"])
    assert type(caught.value) is error and str(caught.value) == "a bug"
    assert "toy_failing_job" in {entry.name for entry in caught.traceback}


@pytest.mark.usefixtures("_toy")
def test_traceback_shows_where_an_error_came_from(capsys):
    options = ["toy", "--gin.toy_failing_job.kind='DataError'"]
    assert main.main([*options, "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["algin"], "pagap: no job named 'algin'; did you mean 'align'?"),
        (["align"], "pagap align: no --gin_file given; `pagap align --help` names one\n"),
        (["align", "--beta=1"], "pagap align: unknown option '--beta=1'"),
    ],
)
def test_a_wrong_command_line_is_one_message(arguments, message):
    result = pagap(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
