"""A job's folder: whose it is, whether it's finished, and that one process works in it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.lineage import fingerprint_of, require_job
from pagap_jax.run_directory import RunDirectory, read_result


def open_run(path, job="sft", configuration="rate = 1", **parents):
    return RunDirectory(
        str(path), job, configuration, {role: str(p) for role, p in parents.items()}
    )


def claim(*arguments, **parents):
    """A run that was begun and ended before it made anything."""
    with open_run(*arguments, **parents) as run:
        return run


def begin(path, *arguments, **parents):
    """A run that has made something."""
    run = claim(path, *arguments, **parents)
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
    assert (identity["job"], identity["configuration"], identity["parents"]) == (
        "sft",
        ["rate = 1"],
        {},
    )


@pytest.mark.parametrize(
    ("job", "configuration", "message"),
    [
        ("align", "rate = 1", "job was 'sft', is now 'align'"),
        ("sft", "rate = 2\nseed = 3", "rate was 1, is now 2; seed was not set, is now 3"),
    ],
)
def test_a_folder_of_another_run_is_refused_untouched(job, configuration, message, tmp_path):
    begin(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=f"{tmp_path} holds another run: {message}"):
        claim(tmp_path, job, configuration)
    assert content(tmp_path) == before


def test_a_run_that_made_nothing_claims_no_folder(tmp_path):
    """A setting that didn't fit can be corrected."""
    claim(tmp_path, configuration="rate = 0")
    assert claim(tmp_path, configuration="rate = 2").path == tmp_path
    begin(tmp_path, "sft", "rate = 2")


def test_a_parent_made_anew_is_noticed(tmp_path):
    begin(tmp_path / "pairs", "prepare", "one")
    child = begin(tmp_path / "sft", "sft", "rate = 1", pairs=tmp_path / "pairs")
    shutil.rmtree(tmp_path / "pairs")
    begin(tmp_path / "pairs", "prepare", "two")
    with pytest.raises(ConfigError, match=r"holds another run: pairs \(.*pairs\) was '.*', is now"):
        claim(tmp_path / "sft", "sft", "rate = 1", pairs=tmp_path / "pairs")
    assert child.identity["parents"]["pairs"]["path"] == str(tmp_path / "pairs")


def test_a_parent_that_no_run_made_is_known_by_its_content(tmp_path):
    begin(tmp_path / "sft", initial="package:tickets_t5_64")
    claim(tmp_path / "sft", initial="package:tickets_t5_64")
    message = r"initial \(package:tickets_t5_96\) was '\w{12}', is now '\w{12}'"
    with pytest.raises(ConfigError, match=message):
        claim(tmp_path / "sft", initial="package:tickets_t5_96")
    with pytest.raises(ConfigError, match="initial .* is now None"):
        claim(tmp_path / "sft")


@pytest.mark.parametrize("place", [0, 5000, -1])
def test_another_content_at_the_same_path_is_noticed_by_grandchildren(place, tmp_path):
    """Else only the child would be made anew, and all after it counted as finished."""
    spoilt = bytearray(9999)
    spoilt[place] = 1
    fingerprints = []
    for content_of in (bytes(9999), bytes(9999), bytes(spoilt)):
        folder = tmp_path / str(len(fingerprints))
        (folder / "t5" / "params").mkdir(parents=True)
        (folder / "t5" / "params" / "array").write_bytes(content_of)
        begin(folder / "sft", initial=folder / "t5")
        fingerprints.append(begin(folder / "align", "align", initial=folder / "sft").fingerprint)
    assert fingerprints[0] == fingerprints[1]
    # Of large files the ends count: all of them would take long.
    assert (fingerprints[0] == fingerprints[2]) == (place == 5000)


def test_what_no_run_made_is_left_alone(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds files and no run.json: no run of ours made them"):
        claim(tmp_path)
    assert content(tmp_path) == {tmp_path / ".lock": b"", tmp_path / "result.json": b"{}"}


def test_one_checkpoint_of_a_run_is_not_another(tmp_path):
    sft = begin(tmp_path / "sft")
    steps = [tmp_path / "sft" / "checkpoints" / step for step in ("600", "1200")]
    for step in steps:
        step.mkdir(parents=True)
    assert fingerprint_of(steps[0]) == f"{sft.fingerprint}/checkpoints/600"
    begin(tmp_path / "align", "align", "rate = 1", initial=steps[0])
    with pytest.raises(ConfigError, match="holds another run: initial"):
        claim(tmp_path / "align", "align", "rate = 1", initial=steps[1])


def test_what_a_run_is_does_not_depend_on_where_it_lies(tmp_path):
    fingerprints = set()
    for place in ("a", "b"):
        begin(tmp_path / place / "pairs", "prepare", "one")
        run = begin(tmp_path / place / "sft", "sft", "rate = 1", pairs=tmp_path / place / "pairs")
        fingerprints.add(run.fingerprint)
        assert fingerprint_of(run.path) == run.fingerprint
    assert len(fingerprints) == 1
    (tmp_path / "a").rename(tmp_path / "c")
    claim(tmp_path / "c" / "sft", "sft", "rate = 1", pairs=tmp_path / "c" / "pairs")


@pytest.mark.parametrize("configuration", ["rate = 1", "rate = 2"])
def test_one_process_at_a_time(configuration, tmp_path):
    """Also of another configuration: else it would take this one's result for its own."""
    code = (
        "import sys; from pagap_jax.run_directory import RunDirectory\n"
        "try:\n  RunDirectory(sys.argv[1], 'sft', sys.argv[2]).__enter__()\n"
        "except Exception as error:\n  print(type(error).__name__)"
    )
    with open_run(tmp_path):
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", code, str(tmp_path), configuration]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.stdout == f"{RetryError.__name__}\n", done.stderr
        assert json.loads((tmp_path / "run.json").read_text())["configuration"] == ["rate = 1"]
    with open_run(tmp_path):  # free again
        pass


def test_a_finished_run_can_be_read_by_many(tmp_path):
    with open_run(tmp_path) as run:
        run.finish({"accuracy": 1.0})
        with open_run(tmp_path) as other:
            assert other.result() == {"accuracy": 1.0}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/run can't be written"):
        claim(tmp_path / "file" / "run")


def test_what_a_run_made_is_of_a_kind(tmp_path):
    """A policy is no judge: what came of it would be void, and nothing would say so."""
    sft = begin(tmp_path / "sft")
    (sft.path / "checkpoints" / "7").mkdir(parents=True)
    for path in (sft.path, sft.path / "checkpoints" / "7"):
        require_job(path, "a policy", "align", "sft")
        message = "found a run of `sft`, expected a preference model, of preference_model"
        with pytest.raises(ConfigError, match=message):
            require_job(path, "a preference model", "preference_model")
    require_job(tmp_path / "others", "a policy", "sft")
    require_job("package:tickets_t5_64", "a policy", "sft")


def steps(number, rate=1):
    return f"TrainLoop.train_steps = {number}\nrate = {rate}"


def test_more_steps_alone_extend_a_run_and_its_history_says_so(tmp_path):
    run = begin(tmp_path / "run", "sft", steps(4))
    run.finish({"step": 4})
    (run.checkpoints / "4").mkdir(parents=True)
    first, checkpoint = fingerprint_of(run.path), fingerprint_of(run.checkpoints / "4")
    child = claim(tmp_path / "child", "align", "rate = 1", policy=run.path)
    for number in (8, 16):
        longer = claim(tmp_path / "run", "sft", steps(number))
        assert longer.result() is None  # it isn't finished any more
    identity = json.loads((run.path / "run.json").read_text())
    assert [before["train_steps"] for before in identity["history"]] == [4, 8]
    assert identity["history"][0]["fingerprint"] == first != fingerprint_of(run.path)
    # What was made before is what it was; what is made now isn't.
    assert fingerprint_of(run.checkpoints / "4") == checkpoint == f"{first}/checkpoints/4"
    assert fingerprint_of(run.checkpoints / "16") == f"{fingerprint_of(run.path)}/checkpoints/16"
    used = json.loads((child.path / "run.json").read_text())["parents"]["policy"]
    assert used["fingerprint"] == first
    (child.path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=f"policy .* was '{first}', is now"):
        claim(tmp_path / "child", "align", "rate = 1", policy=run.path)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (steps(2), "TrainLoop.train_steps was 4, is now 2"),
        (steps(8, rate=2), "TrainLoop.train_steps was 4, is now 8; rate was 1, is now 2"),
    ],
)
def test_fewer_steps_or_another_schedule_are_another_run(configuration, message, tmp_path):
    begin(tmp_path, "sft", steps(4)).finish({"step": 4})
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=message):
        claim(tmp_path, "sft", configuration)
    assert content(tmp_path) == before
