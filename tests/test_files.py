"""Files that are whole or as they were."""

import errno
import os

import pytest

from pagap_jax.errors import ConfigError, NoRoomError
from pagap_jax.files import can_be_written, room_for, write_atomically
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
