"""Whose a study's folder is."""

import pytest

from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.study import run


def test_what_no_study_made_is_left_alone(tmp_path):
    (tmp_path / "rows.csv").write_text("mine")
    with (
        pytest.raises(ConfigError, match="holds files and no study.json"),
        run._claimed(tmp_path, "tiny"),
    ):
        pass
    assert (tmp_path / "rows.csv").read_text() == "mine"
    assert not (tmp_path / "study.json").exists()


def test_another_study_is_refused(tmp_path):
    with run._claimed(tmp_path / "study", "tiny"):
        pass
    with run._claimed(tmp_path / "study", "tiny"):  # its own is gone on with
        pass
    with (
        pytest.raises(ConfigError, match="holds the study 'tiny', expected 'tiny_full'"),
        run._claimed(tmp_path / "study", "tiny_full"),
    ):
        pass


def test_one_process_at_a_time(tmp_path):
    with run._claimed(tmp_path, "tiny"):
        with pytest.raises(RetryError, match="another process"), run._claimed(tmp_path, "tiny"):
            pass
