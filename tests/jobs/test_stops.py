"""Jobs that are asked to stop: what was done is kept, and the end is the same to the byte."""

import random

from tests.fixtures import toy
from tests.fixtures.faults import Fault
from tests.fixtures.interruptions import Interrupted


def test_evaluation_keeps_the_checkpoints_that_it_measured(study, tmp_path):
    rows = tmp_path / "rows"
    (stage,) = (s for s in toy.stages(study.directory) if s.name == f"seed_0/rows/{toy.ONLINE}")
    argv = [*stage.argv(str(study.directory)), *toy.bindings({"MODEL_DIR": str(rows)})]
    stopped = toy.pagap(*argv, fault=Fault("measured", "rows", 4, signal="SIGINT"))
    assert stopped.returncode == 130, stopped.stderr
    assert [file.name for file in (rows / "kept").iterdir()] == ["4.npz"]
    again = toy.pagap(*argv)
    assert again.returncode == 0 and "1 of 3 steps are measured" in again.stdout
    for name in ("rows.jsonl", "outcomes.npz", "result.json"):
        whole = study.seed / "rows" / toy.ONLINE / name
        assert (rows / name).read_bytes() == whole.read_bytes(), name
    assert not (rows / "kept").exists()


def test_random_moments(study, tmp_path):
    """Two of those that `python -m tests.fixtures.interruptions 10` takes."""
    job = Interrupted("relabel", study.directory, tmp_path / "relabel", random.Random(1))
    assert job.check(2, ("INT", "KILL"), 8.0) == 0
