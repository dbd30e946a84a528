"""Buckets against a storage server on this machine: copies, uploads, claims and what goes wrong."""

import json
import os
import subprocess
import sys
import time
import types

import fsspec
import gcsfs
import pytest
from etils import epath

from pagap_jax import buckets, claims
from pagap_jax.claims import claimed
from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.files import open_lines, write_atomically
from pagap_jax.lineage import fingerprint_of
from pagap_jax.run_directory import RunDirectory, read_result
from tests.fixtures import toy
from tests.fixtures.storage import Fault, storage

# aiohttp tells of connections that were cut off when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def server():
    with storage() as found:
        yield found


async def no_sleep(_seconds):
    """In the place of gcsfs's pauses between tries, half a minute in all."""


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """A folder of its own in the bucket, as text; copies go to this test's folder."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PAGAP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("gcsfs.retry.asyncio", types.SimpleNamespace(sleep=no_sleep))
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.faults.clear()
    yield f"gs://bucket/{tmp_path.name}"
    server.faults.clear()
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_what_is_not_there_has_no_entries_and_no_content(bucket, tmp_path):
    assert buckets.entries(f"{bucket}/none") == [] == buckets.entries(tmp_path / "none")
    assert buckets.checksums(f"{bucket}/none") == {} and fingerprint_of(f"{bucket}/none") == ""
    with pytest.raises(ConfigError, match="nothing is at gs://bucket/.*/none"):
        buckets.local_copy(f"{bucket}/none")


def test_a_copy_is_kept_until_the_content_changes(bucket, server):
    write_atomically(f"{bucket}/d/a.txt", b"one")
    write_atomically(f"{bucket}/d/in/b.txt", b"two")
    copy = buckets.local_copy(f"{bucket}/d")
    assert (copy / "a.txt").read_bytes() + (copy / "in" / "b.txt").read_bytes() == b"onetwo"
    server.requests.clear()
    assert buckets.local_copy(f"{bucket}/d") == copy
    assert not [url for _, url in server.requests if "alt=media" in url]
    before = fingerprint_of(f"{bucket}/d")
    write_atomically(f"{bucket}/d/a.txt", b"new")
    assert (buckets.local_copy(f"{bucket}/d") / "a.txt").read_bytes() == b"new"
    assert fingerprint_of(f"{bucket}/d") != before
    assert buckets.local_copy(f"{bucket}/d/a.txt").read_bytes() == b"new"  # a file by itself


def test_old_copies_go_where_there_are_too_many(bucket, monkeypatch):
    monkeypatch.setenv("PAGAP_CACHE_GIB", "0")
    for name in "abc":
        write_atomically(f"{bucket}/{name}", b"x")
    first, second = (buckets.local_copy(f"{bucket}/{name}") for name in "ab")
    os.utime(first.parent, (0, 0))  # not used for long; the second one may be in use
    buckets.local_copy(f"{bucket}/c")
    assert not first.exists() and second.exists()


def test_a_download_that_is_cut_off_is_no_copy(bucket, server):
    write_atomically(f"{bucket}/d/a.txt", b"x" * 1000)
    server.faults.append(Fault("cut", "GET", r"a\.txt.*alt=media"))
    with pytest.raises(RetryError, match="d/a.txt"):
        buckets.local_copy(f"{bucket}/d")
    server.faults.clear()
    assert (buckets.local_copy(f"{bucket}/d") / "a.txt").stat().st_size == 1000


@pytest.mark.parametrize("status", [429, 503])
def test_a_short_refusal_is_retried_and_a_long_one_named(status, bucket, server):
    server.faults.append(Fault(status, times=1))
    write_atomically(f"{bucket}/a.txt", b"one")
    assert epath.Path(f"{bucket}/a.txt").read_bytes() == b"one"
    server.faults[:] = [Fault(status)]
    with pytest.raises(RetryError, match=r"/a.txt: the bucket didn't answer .*injected"):
        write_atomically(f"{bucket}/a.txt", b"two")
    server.faults.clear()
    assert epath.Path(f"{bucket}/a.txt").read_bytes() == b"one"


def test_what_hangs_is_asked_again(bucket, server, tmp_path, monkeypatch):
    """gcsfs by itself would wait for ever."""
    monkeypatch.setattr(buckets, "STALLED_AFTER", 0.5)
    monkeypatch.setitem(fsspec.config.conf, "gcs", {})
    buckets._end_stalled_requests.cache_clear()
    write_atomically(f"{bucket}/d/a.txt", b"one")
    server.faults[:] = [Fault("hang", times=2)]
    assert (buckets.local_copy(f"{bucket}/d") / "a.txt").read_bytes() == b"one"
    server.faults[:] = [Fault("hang")]
    (tmp_path / "a.txt").write_bytes(b"two")
    with pytest.raises(RetryError, match=r"/a.txt: the bucket didn't answer \(.*Timeout"):
        buckets.upload(tmp_path, bucket, [tmp_path / "a.txt"])
    buckets._end_stalled_requests.cache_clear()


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # gcsfs's way
def test_an_upload_that_breaks_off_leaves_what_was_there(bucket, server, tmp_path):
    """After 90 % of a large file, which goes in pieces of 50 MB."""
    pieces = b"x" * 50 * 2**20
    (tmp_path / "large").write_bytes(b"0")
    buckets.upload(tmp_path, bucket, [tmp_path / "large"])
    with (tmp_path / "large").open("wb") as file:
        file.writelines([pieces, pieces[: 2**20]])
    server.faults[:] = [Fault("broken", "P", "upload_id", after=1)]
    with pytest.raises(RetryError, match=r"/large: the bucket didn't answer"):
        buckets.upload(tmp_path, bucket, [tmp_path / "large"])
    server.faults.clear()
    assert epath.Path(f"{bucket}/large").read_bytes() == b"0"
    buckets.upload(tmp_path, bucket, [tmp_path / "large"])
    assert buckets.checksums(f"{bucket}/large") == buckets.checksums(tmp_path / "large")


def test_no_permission_is_said(bucket, server):
    """In the middle of a run it is worth a retry, which ends at the start if nothing changed."""
    server.faults.append(Fault(403))
    with pytest.raises(RetryError, match=r"a.txt: the bucket refuses \(403\).*objectUser"):
        write_atomically(f"{bucket}/a.txt", b"one")
    with pytest.raises(ConfigError, match=r"/run.*: the bucket refuses \(403\)"):
        RunDirectory(f"{bucket}/run", "sft", "rate = 1").__enter__()


def test_a_mirror_follows_what_comes_and_goes(bucket, tmp_path, server):
    for name in ("a.json", "big.bin", "in/b.json"):
        write_atomically(f"{bucket}/s/{name}", name.encode())
    here = tmp_path / "here"

    def mirror():
        buckets.mirror(f"{bucket}/s", here, lambda name: name.endswith(".json"))
        found = (file for file in here.rglob("*") if file.is_file())
        return {f.relative_to(here).as_posix() for f in found if f.name[0] != "."}

    assert mirror() == {"a.json", "in/b.json"}
    server.requests.clear()
    assert mirror() and not [url for _, url in server.requests if "in%2Fb.json?alt" in url]
    epath.Path(f"{bucket}/s/a.json").unlink()
    assert mirror() == {"in/b.json"}


def test_lines_are_written_when_it_counts(bucket, server):
    lines = open_lines(f"{bucket}/m.jsonl", ["1"])
    server.requests.clear()
    for number in range(100):
        lines.add(str(number))
    assert not server.requests  # none a step
    lines.flush()
    assert epath.Path(f"{bucket}/m.jsonl").read_text().splitlines()[::100] == ["1", "99"]


def test_a_run_in_a_bucket_is_whose_it_is(bucket, monkeypatch):
    monkeypatch.setenv(claims.SECONDS_VARIABLE, "4")
    with RunDirectory(f"{bucket}/run", "sft", "rate = 1") as run:
        with pytest.raises(RetryError, match="another process is working"):
            RunDirectory(f"{bucket}/run", "sft", "rate = 1").__enter__()
        write_atomically(run.path / "metrics.jsonl", b"{}\n")
    with pytest.raises(ConfigError, match="rate was 1, is now 2"):
        RunDirectory(f"{bucket}/run", "sft", "rate = 2").__enter__()
    with RunDirectory(f"{bucket}/run", "sft", "rate = 1") as run:
        run.finish({"loss": 1.0})
    assert read_result(f"{bucket}/run") == {"loss": 1.0}


CLAIMS = """\
import os, sys, time
from pagap_jax.claims import claimed
with claimed(sys.argv[1]):
    print("claimed", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(bucket, server, monkeypatch):
    """A process that holds a folder, and renews its claim every 0.4 s."""
    monkeypatch.setenv(claims.SECONDS_VARIABLE, "2")
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIMS, f"{bucket}/run"], cwd=toy.ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()


def as_of_another_machine(bucket):
    """Rewrites the claim as if its owner were elsewhere: whether it lives can't be seen."""
    file = epath.Path(f"{bucket}/run/.claim")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"boot": "another"}))


def test_a_live_owner_keeps_its_folder_and_is_named(holder, bucket):
    with pytest.raises(RetryError, match=f"pid {holder.pid}"), claimed(f"{bucket}/run"):
        pass
    holder.kill()
    holder.wait()
    with claimed(f"{bucket}/run"):  # of this machine: seen to be dead at once
        pass


def test_a_dead_owner_elsewhere_loses_it_once_it_was_watched(holder, bucket):
    holder.kill()
    holder.wait()
    as_of_another_machine(bucket)
    start = time.monotonic()
    with claimed(f"{bucket}/run"):
        assert time.monotonic() - start >= 2


def test_who_lost_its_claim_ends(holder, bucket):
    as_of_another_machine(bucket)  # another generation, not the owner's
    assert holder.wait(timeout=30) == 42
    assert "lost its claim" in holder.stderr.read()


def test_who_cannot_renew_ends_before_another_may_take_it(holder, server):
    server.faults.append(Fault(503, "POST"))
    assert holder.wait(timeout=30) == 42
    assert "couldn't renew" in holder.stderr.read()
