"""What a study says: how far it is, what was finished before, what runs warned of."""

import json

import pytest

from pagap_jax.study.console import StageConsole, collect_warnings
from pagap_jax.study.stages import Artefact, Stage


def stage(name, *needs):
    reads = {f"DIR_{i}": Artefact(need) for i, need in enumerate(needs)}
    return Stage(name, "sft", "x.gin", reads)


STAGES = [stage("pairs"), stage("sft", "pairs"), stage("golden", "pairs"), stage("rows", "sft")]
TIES = {"kind": "ties", "message": "60% are ties", "value": 0.6, "threshold": 0.5, "step": 20}
FEW = {"kind": "kl_prompts", "message": "16", "value": 16.0, "threshold": 200.0, "step": None}


@pytest.fixture
def folder(tmp_path):
    """A study whose first stage was finished before, with a warning."""
    for name, warnings in (("pairs", [FEW]), ("sft", [TIES, FEW])):
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(warning) + "\n" for warning in warnings)
        (tmp_path / name / "warnings.jsonl").write_text(lines)
    (tmp_path / "pairs" / "result.json").write_text("{}")
    return tmp_path


def test_each_finished_stage_has_a_line_and_its_warnings(folder, capsys):
    with StageConsole(folder, STAGES, workers=3) as console:
        for done, seconds in zip(STAGES, (0.2, 12.4, 3.0, 1.0), strict=True):
            console.finished(done, seconds)
    assert capsys.readouterr().out.splitlines() == [
        "1 of 4 stages were finished before",
        "sft: 12 s (2 of 4, 2 running)",
        "  sft: warning: 60% are ties (step 20)",
        "  sft: warning: 16",
        "golden: 3 s (3 of 4, 1 running)",
        "rows: 1 s (4 of 4, 0 running)",
    ]


def test_a_warning_of_many_stages_is_shown_once(folder, capsys):
    (folder / "pairs" / "result.json").unlink()
    with StageConsole(folder, STAGES, workers=3) as console:
        for done in STAGES[:2]:
            console.finished(done, 1.0)
    said = capsys.readouterr().out
    assert "pairs: warning: 16" in said and "sft: warning: 16" not in said


def test_no_more_run_than_there_are_workers(folder, capsys):
    with StageConsole(folder, STAGES, workers=1) as console:
        console.finished(STAGES[1], 0.0)
    assert "(1 of 4, 1 running)" in capsys.readouterr().out


def test_warnings_of_all_runs_are_collected_with_their_stages(folder):
    assert collect_warnings(folder, STAGES) == 3
    lines = (folder / "all_warnings.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"stage": "pairs", **FEW},
        {"stage": "sft", **TIES},
        {"stage": "sft", **FEW},
    ]
