"""A job with its folders in a bucket: killed and gone on with, it is what it is in a folder."""

import re

import pytest

from pagap_jax.buckets import local_copy, upload
from pagap_jax.files import read_json
from tests.fixtures import toy
from tests.fixtures.faults import Fault
from tests.fixtures.storage import Fault as StorageFault
from tests.fixtures.storage import storage

# aiohttp tells of connections that were cut off when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PAIRS, SFT = "gs://bucket/pairs", "gs://bucket/sft"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with storage() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        patch.setenv("PAGAP_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield found


def sft(model_dir, **fault):
    argv = ["sft", "--gin_file=test/toy/sft.gin"]
    argv += toy.bindings({"MODEL_DIR": model_dir, "PAIRS_DIR": PAIRS, "SEED": 0})
    return toy.pagap(*argv, fault=Fault(**fault) if fault else None)


def test_a_killed_run_goes_on_and_is_that_of_a_folder(server, study):
    upload(study.seed / "pairs", PAIRS, last=["pairs.json"])
    assert sft(SFT, moment="metrics", folder="sft", step=6).returncode == -9
    server.requests.clear()
    server.faults.append(StorageFault(503, "GET", times=3))
    run = sft(SFT)
    assert run.returncode == 0, run.stderr
    assert re.search("goes on from step [24]", run.stdout)  # the save of 4 waited for that of 2
    # None a step: what is asked for is of the start, of each checkpoint and of the end.
    assert sum("metrics.jsonl" in url for _, url in server.requests) < 20
    here, there = local_copy(SFT), study.seed / "sft"
    toy.assert_same_checkpoint(here / "checkpoints" / "6", there / "checkpoints" / "6")
    assert read_json(here / "result.json") == read_json(there / "result.json")
    kept = [[row["step"] for row in toy.metrics(folder)] for folder in (here, there)]
    assert kept[0] == kept[1]


def test_a_bucket_that_refuses_ends_the_job_with_the_role_that_is_missing(server):
    server.faults[:] = [StorageFault(403)]
    run = sft("gs://bucket/other")
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "the bucket refuses (403)" in run.stderr and "objectUser" in run.stderr
