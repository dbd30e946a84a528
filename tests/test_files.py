"""Files that are whole or as they were."""

import os

import pytest

from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.configuration.gin_files import find_gin_file, macros_used_beside
from pagap_jax.data.sources.files import expand
from pagap_jax.data.vocabulary import sentencepiece_vocabulary
from pagap_jax.errors import ConfigError
from pagap_jax.files import refuse_special, write_atomically
from pagap_jax.lineage import fingerprint_of
from pagap_jax.run_directory import RunDirectory


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "kept", b"old")

    def no_disk(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", no_disk)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_no_file_is_refused_at_once(tmp_path):
    """Reading a FIFO would wait for ever: at the path itself, or in the folder there."""
    (tmp_path / "run").mkdir()
    refuse_special(tmp_path / "run")
    refuse_special(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "run" / "run.json")
    (tmp_path / "zero.gin").symlink_to("/dev/zero")
    places = (tmp_path / "run", "run.json: found a FIFO"), (tmp_path / "zero.gin", "found a device")
    for place, message in places:
        with pytest.raises(ConfigError, match=message):
            refuse_special(place)
        with pytest.raises(ConfigError, match=message):
            fingerprint_of(place)
    run = str(tmp_path / "run")
    with pytest.raises(ConfigError, match="found a FIFO"), RunDirectory(run, "sft", ""):
        raise AssertionError
    with pytest.raises(ConfigError, match="found a FIFO"):
        expand(str(tmp_path / "run" / "run.json"))
    with pytest.raises(ConfigError, match="found a FIFO"):
        open_checkpoint(str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="found a device"):
        find_gin_file("zero.gin", [str(tmp_path)], "--gin_file=zero.gin")
    with pytest.raises(ConfigError, match="found a device"):
        sentencepiece_vocabulary(tmp_path / "zero.gin")
    (tmp_path / "mine.gin").write_text("A = %B\n")
    assert "B" in macros_used_beside(tmp_path / "mine.gin")  # zero.gin beside it isn't read
