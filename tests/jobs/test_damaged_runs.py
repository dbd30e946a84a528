"""Runs whose files are damaged: jobs name the file, and go back where they are told to."""

import shutil

import pytest

from tests.fixtures import toy
from tests.fixtures.interruptions import contents

STEPS = toy.SAVED_STEPS


@pytest.fixture
def again(study, tmp_path):
    """Runs the job of a stage in a copy of its folder: exit code, and what it says."""

    def run(name, **macros):
        (stage,) = (s for s in toy.stages(study.directory) if s.name == f"seed_0/{name}")
        own = {"MODEL_DIR": str(tmp_path / name), **macros}
        return toy.job_runner().run([*stage.argv(str(study.directory)), *toy.bindings(own)])

    for name in ("sft", toy.ONLINE):
        shutil.copytree(study.seed / name, tmp_path / name)
    return run


@pytest.mark.parametrize("name", ["run.json", "result.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_what_a_run_says_of_itself(name, content, again, tmp_path):
    (tmp_path / "sft" / name).write_bytes(content)
    code, said = again("sft")
    assert code == 2 and f"sft/{name}: found " in said and "Traceback" not in said


def unfinished(folder):
    """As a run is that was killed after its last checkpoint; its checkpoints."""
    (folder / "result.json").unlink()
    return folder / "checkpoints"


def test_rows_of_metrics(again, tmp_path):
    unfinished(tmp_path / "sft")
    rows = (tmp_path / "sft" / "metrics.jsonl").read_bytes()
    first, _, rest = rows.partition(b"\n")
    (tmp_path / "sft" / "metrics.jsonl").write_bytes(first + b"\n" + rest[1:])
    code, said = again("sft")
    assert code == 2 and "sft/metrics.jsonl:2: found " in said and "Traceback" not in said


def test_a_run_goes_back_to_the_checkpoint_before_a_damaged_one(again, study, tmp_path):
    """And makes what came after it again, to the byte."""
    checkpoints = unfinished(tmp_path / toy.ONLINE)
    last = checkpoints / str(STEPS[-1])
    file = max(last.rglob("*"), key=lambda file: file.stat().st_size)
    file.write_bytes(file.read_bytes()[:-9] + b"otherwise")
    code, said = again(toy.ONLINE)
    assert code == 2 and file.name in said and f"--gin.RESTORE_STEP={STEPS[-2]}" in said
    assert file.exists()  # nothing is deleted by itself
    code, said = again(toy.ONLINE, RESTORE_STEP="previous")
    assert code == 0, said
    assert contents(tmp_path / toy.ONLINE) == contents(study.seed / toy.ONLINE)
