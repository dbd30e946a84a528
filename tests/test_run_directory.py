"""A job's folder: whose it is, whether it's finished, and that one process works in it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.run_directory import RunDirectory, fingerprint_of, read_result


def open_run(path, job="sft", fingerprint="f", **parents):
    return RunDirectory(str(path), job, fingerprint, {role: str(p) for role, p in parents.items()})


def begin(path, *arguments, **parents):
    """A run that has made something."""
    run = open_run(path, *arguments, **parents)
    (run.path / "metrics.jsonl").write_text("{}\n")
    return run


def content(folder):
    return {f: f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_run_is_finished_by_its_result(tmp_path):
    run = begin(tmp_path / "run")
    assert run.result() is None and read_result(tmp_path / "run") is None
    run.finish({"accuracy": 0.5})
    assert open_run(tmp_path / "run").result() == {"accuracy": 0.5}
    identity = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (identity["job"], identity["configuration"], identity["parents"]) == ("sft", "f", {})


@pytest.mark.parametrize(
    ("job", "fingerprint", "message"),
    [
        ("align", "f", "job was 'sft', is now 'align'"),
        ("sft", "g", "configuration was 'f', is now 'g'"),
    ],
)
def test_a_folder_of_another_run_is_refused_untouched(job, fingerprint, message, tmp_path):
    begin(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=f"{tmp_path} holds another run: {message}"):
        open_run(tmp_path, job, fingerprint)
    assert content(tmp_path) == before


def test_a_run_that_made_nothing_claims_no_folder(tmp_path):
    """A setting that didn't fit can be corrected."""
    with open_run(tmp_path, fingerprint="wrong").locked():
        pass
    assert open_run(tmp_path, fingerprint="right").fingerprint != "wrong"
    begin(tmp_path, "sft", "right")


def test_a_parent_made_anew_is_noticed(tmp_path):
    begin(tmp_path / "pairs", "prepare", "one")
    child = begin(tmp_path / "sft", "sft", "f", pairs=tmp_path / "pairs")
    shutil.rmtree(tmp_path / "pairs")
    begin(tmp_path / "pairs", "prepare", "two")
    with pytest.raises(ConfigError, match=r"holds another run: pairs \(.*pairs\) was '.*', is now"):
        open_run(tmp_path / "sft", "sft", "f", pairs=tmp_path / "pairs")
    assert child.identity["parents"]["pairs"]["path"] == str(tmp_path / "pairs")


def test_a_parent_that_no_run_made_is_known_by_its_path(tmp_path):
    begin(tmp_path / "sft", initial="package:tickets_t5_64")
    open_run(tmp_path / "sft", initial="package:tickets_t5_64")
    message = r"initial \(package:other\) was 'package:tickets_t5_64', is now 'package:other'"
    with pytest.raises(ConfigError, match=message):
        open_run(tmp_path / "sft", initial="package:other")
    with pytest.raises(ConfigError, match="initial .* is now None"):
        open_run(tmp_path / "sft")


def test_one_checkpoint_of_a_run_is_not_another(tmp_path):
    sft = begin(tmp_path / "sft")
    steps = [tmp_path / "sft" / "checkpoints" / step for step in ("600", "1200")]
    for step in steps:
        step.mkdir(parents=True)
    assert fingerprint_of(steps[0]) == f"{sft.fingerprint}/checkpoints/600"
    begin(tmp_path / "align", "align", "f", initial=steps[0])
    with pytest.raises(ConfigError, match="holds another run: initial"):
        open_run(tmp_path / "align", "align", "f", initial=steps[1])


def test_what_a_run_is_does_not_depend_on_where_it_lies(tmp_path):
    fingerprints = set()
    for place in ("a", "b"):
        begin(tmp_path / place / "pairs", "prepare", "one")
        run = begin(tmp_path / place / "sft", "sft", "f", pairs=tmp_path / place / "pairs")
        fingerprints.add(run.fingerprint)
        assert fingerprint_of(run.path) == run.fingerprint
    assert len(fingerprints) == 1
    (tmp_path / "a").rename(tmp_path / "c")
    open_run(tmp_path / "c" / "sft", "sft", "f", pairs=tmp_path / "c" / "pairs")


def test_one_process_at_a_time(tmp_path):
    run = open_run(tmp_path)
    with run.locked():
        code = (
            "import sys; from pagap_jax.run_directory import RunDirectory;"
            "run = RunDirectory(sys.argv[1], 'sft', 'f');\n"
            "try:\n  run.locked().__enter__()\n"
            "except Exception as error:\n  print(type(error).__name__)"
        )
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.stdout == f"{RetryError.__name__}\n", done.stderr
    with run.locked():  # free again
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/run can't be written"):
        open_run(tmp_path / "file" / "run")
