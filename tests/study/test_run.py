"""Whose a study's folder is."""

import pytest

from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.study import run
from pagap_jax.study.context import Context


def test_what_no_study_made_is_left_alone(tmp_path):
    (tmp_path / "rows.csv").write_text("mine")
    with (
        pytest.raises(ConfigError, match="holds files and no study.json"),
        run.claimed(tmp_path, Context("tiny")),
    ):
        pass
    assert (tmp_path / "rows.csv").read_text() == "mine"
    assert not (tmp_path / "study.json").exists()


def test_another_study_is_refused(tmp_path):
    with run.claimed(tmp_path / "study", Context("tiny")):
        pass
    with run.claimed(tmp_path / "study", Context("tiny")):  # its own is gone on with
        pass
    with (
        pytest.raises(ConfigError, match="holds the study 'tiny', expected 'tiny_full'"),
        run.claimed(tmp_path / "study", Context("tiny_full")),
    ):
        pass


def test_one_process_at_a_time(tmp_path):
    tiny = Context("tiny")
    with run.claimed(tmp_path, tiny):
        with pytest.raises(RetryError, match="another process"), run.claimed(tmp_path, tiny):
            pass
