"""Files that are whole or as they were."""

import errno
import os

import pytest

from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.configuration.gin_files import find_gin_file, macros_used_beside
from pagap_jax.data.sources.files import expand
from pagap_jax.data.vocabulary import sentencepiece_vocabulary
from pagap_jax.errors import ConfigError, DataError, NoRoomError
from pagap_jax.files import (
    can_be_written,
    read_json,
    read_json_lines,
    refuse_special,
    room_for,
    sealed_json,
    write_atomically,
)
from pagap_jax.lineage import fingerprint_of
from pagap_jax.run_directory import RunDirectory
from tests.fixtures.room import files_end_at


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "kept", b"old")

    def no_disk(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", no_disk)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_full_disk_is_named_with_the_bytes_that_were_needed(tmp_path):
    write_atomically(tmp_path / "kept", b"old")
    with files_end_at(1000), pytest.raises(NoRoomError) as raised:
        write_atomically(tmp_path / "kept", bytes(2000))
    assert raised.value.exit_code == 42
    said = f"{tmp_path}/kept: File too large: 2,000 bytes were needed, "
    assert str(raised.value).startswith(said)
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "", "/data/rows"),
        OSError(errno.EDQUOT, "", "/data/rows"),
        RuntimeError("write() failed: No space left on device; writing /data/rows"),
        ValueError("RESOURCE_EXHAUSTED: /data/rows: No space left on device [os_error_code='28']"),
    ],
)
def test_whoever_finds_no_room(error):
    with pytest.raises(NoRoomError, match="/data/rows"), room_for(None):
        raise error


def test_other_errors_are_their_own():
    with pytest.raises(ValueError, match="RESOURCE_EXHAUSTED"), room_for(None):
        raise ValueError("RESOURCE_EXHAUSTED: out of memory")
    with pytest.raises(ConfigError, match="/proc/nothing can't be written"):
        with can_be_written("/proc/nothing"):
            os.mkdir("/proc/nothing")  # nobody can, not even root
    with pytest.raises(NoRoomError), can_be_written("/tmp"):
        raise OSError(errno.ENOSPC, "full")


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


NO_OBJECTS = [
    (b"", "found nothing, expected the JSON"),
    (b'{"step": 1', "expected the JSON"),
    (b"\x00\xff", "expected the JSON"),
    (b"[" * 100_000, "expected the JSON"),
    (b"[1]", "expected a JSON object"),
    (b"{}", "found no field 'step'"),
]


@pytest.mark.parametrize(("content", "message"), NO_OBJECTS)
def test_what_is_no_json_of_a_job_is_named(content, message, tmp_path):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(DataError, match=f"result.json: .*{message}"):
        read_json(tmp_path / "result.json", "step")
    whole = b'{"step": 1}\n'
    (tmp_path / "rows.jsonl").write_bytes(whole + content + b"\n" + whole)
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{message}"):
        read_json_lines(tmp_path / "rows.jsonl", "step")
    (tmp_path / "rows.jsonl").write_bytes(whole + content)  # still being written
    assert read_json_lines(tmp_path / "rows.jsonl", "step") == [{"step": 1}]


def test_what_is_sealed_is_read_as_it_was_written_or_refused(tmp_path):
    fields = {"a": 1.5, "b": {10: [1], 9: (2, None)}, "c": "ü", "d": float("nan")}
    whole = sealed_json(fields)
    file = tmp_path / "sealed.json"
    file.write_bytes(whole)
    found = read_json(file)
    assert str(found["b"]) == "{'10': [1], '9': [2, None]}"
    for place in range(len(whole)):
        for bit in (1, 4):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                again = read_json(file)
            except DataError:
                continue
            assert all(str(again[name]) == str(found[name]) for name in fields), (place, bit)
