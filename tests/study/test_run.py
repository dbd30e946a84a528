"""Whose a study's folder is."""

import pytest

from pagap_jax.configuration.command_line import parse_command_line
from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.study import run
from pagap_jax.study.context import Context
from pagap_jax.study.place import StudyPlace
from pagap_jax.study.stages import Artefact, Stage


def test_what_no_study_made_is_left_alone(tmp_path):
    (tmp_path / "rows.csv").write_text("mine")
    with (
        pytest.raises(ConfigError, match="holds files and no study.json"),
        run.claimed(StudyPlace(str(tmp_path)), Context("tiny")),
    ):
        pass
    assert (tmp_path / "rows.csv").read_text() == "mine"
    assert not (tmp_path / "study.json").exists()


def test_a_folder_that_cannot_be_written_is_refused():
    with (
        pytest.raises(ConfigError, match="/proc/tiny can't be written"),
        run.claimed(StudyPlace("/proc/tiny"), Context("tiny")),  # not even by root
    ):
        pass


def test_another_study_is_refused(tmp_path):
    with run.claimed(StudyPlace(str(tmp_path / "study")), Context("tiny")):
        pass
    with run.claimed(
        StudyPlace(str(tmp_path / "study")), Context("tiny")
    ):  # its own is gone on with
        pass
    with (
        pytest.raises(ConfigError, match="holds the study 'tiny', expected 'tiny_full'"),
        run.claimed(StudyPlace(str(tmp_path / "study")), Context("tiny_full")),
    ):
        pass


def test_one_process_at_a_time(tmp_path):
    tiny = Context("tiny")
    with run.claimed(StudyPlace(str(tmp_path)), tiny):
        with (
            pytest.raises(RetryError, match="another process"),
            run.claimed(StudyPlace(str(tmp_path)), tiny),
        ):
            pass


def test_a_dry_run_says_what_is_finished(tmp_path, capsys):
    stages = [Stage("seed_0/pairs", "prepare", "x.gin")]
    reads = {"PAIRS_DIR": Artefact("seed_0/pairs")}
    stages.append(Stage("seed_0/sft", "sft", "x.gin", reads))
    (tmp_path / "seed_0" / "pairs").mkdir(parents=True)
    (tmp_path / "seed_0" / "pairs" / "result.json").write_text("{}")
    run.print_stages(tmp_path, stages, {})
    assert capsys.readouterr().out.splitlines() == [
        "finished  seed_0/pairs (prepare)",
        "to do     seed_0/sft (sft)  after seed_0/pairs",
        "2 stages, 1 finished, 1 to do",
    ]
    assert parse_command_line(["study", "--gin_file=a.gin", "--dry_run"]).gin_bindings == (
        "study.dry_run=True",
    )
    with pytest.raises(ConfigError, match="unknown option '--dry_run'"):
        parse_command_line(["sft", "--gin_file=a.gin", "--dry_run"])
