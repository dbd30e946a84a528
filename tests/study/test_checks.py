"""What a study refuses before its first stage runs."""

import pytest

from pagap_jax.study.checks import refuse
from tests.fixtures import toy


def test_a_setting_that_a_later_stage_refuses_ends_the_study_before_the_first(tmp_path):
    (tmp_path / "own.gin").write_text("OPTIMIZER = @adamm()\n")
    folder = tmp_path / "study"
    study = toy.pagap(
        *toy.study_argv(folder), f"--gin.Plan.gin_files=({str(tmp_path / 'own.gin')!r},)"
    )
    assert study.returncode == 2, study.stderr
    assert "seed_0/sft" in study.stderr and "adamm" in study.stderr
    assert "own.gin:1" in study.stderr and "Traceback" not in study.stderr
    assert not list(folder.glob("seed_*"))


def test_a_dry_run_tells_which_stages_were_made_with_other_settings(study):
    argv = [*toy.study_argv(study.directory), "--gin.Plan.proxy={'TRAIN_STEPS': 7}"]
    before = toy.results(study.directory)
    said = toy.pagap(*argv, "--dry_run")
    assert said.returncode == 2
    marks = dict(line.split()[:2][::-1] for line in said.stdout.splitlines()[:-1])
    assert marks["seed_0/sft"] == "finished"
    assert toy.results(study.directory) == before


def test_each_message_is_said_once_and_few_are():
    refuse({})
    wrong = {f"seed_0/{i}": "x.gin:1: found abc" for i in range(9)}
    with pytest.raises(Exception, match=r"^stages that can't run\nseed_0/0, .*seed_0/4 \.\.\.: x"):
        refuse(wrong)
