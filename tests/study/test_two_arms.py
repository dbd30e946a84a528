"""Arms that read what is inside of another stage's folder, to the end at toy lengths.

A replay of D_online, and offline on pairs that two checkpoints sampled: the way in of experiments.
"""

import json

import gin
import numpy as np
import pytest

from pagap_jax.configuration import load_job, parse
from pagap_jax.data.reading import read_token_pairs
from pagap_jax.study import command, experiments
from pagap_jax.study.arms import OFFLINE, ONLINE, Arm, Place, SampledPairs
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.rows import read_csv
from tests.fixtures import toy

REPLAY = Arm(
    *("replay", "D_online", Place("online", "d_online")),
    settings={"DATA_ORDER": "recorded"}, like="online", stores_reference=False,
)  # fmt: skip
SFT_VS_8 = Arm(
    *("sft vs 8", "D_sft_vs_8"),
    SampledPairs("d_sft_vs_8", Place("sft"), Place("online", "checkpoints/8")), like="online",
)  # fmt: skip
ARMS = (ONLINE, OFFLINE, REPLAY, SFT_VS_8)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The toy study's folder, gone on with: only what the two arms need is run."""
    finished = toy.toy_study(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        two = Experiment("two_arms", "Does every arm find its data?", ARMS, (), ())
        patch.setitem(experiments.EXPERIMENTS, "two_arms", two)
        bindings = [f"STUDY_DIR={str(finished.directory)!r}", "Plan.experiments=('two_arms',)"]
        parse(load_job("study"), ["test/study.gin"], bindings)
        stages = gin.get_bindings("study")["plan"].stages()
        for stage in stages:
            code, said = toy.job_runner().run(stage.argv(str(finished.directory)))
            assert code == 0, (stage.name, said)
    return finished


def test_the_replay_is_the_online_run(study):
    """App. F: the same parameters, bit for bit."""
    replay = study.seed / "replay_lr0.01_beta0.1"
    for step in toy.SAVED_STEPS:
        toy.assert_same_checkpoint(
            study.seed / toy.ONLINE / "checkpoints" / str(step), replay / "checkpoints" / str(step)
        )
    facts = json.loads((replay / "result.json").read_text())
    assert (facts["arm"], facts["pairs"], facts["data_order"]) == ("replay", "D_online", "recorded")


def test_sampled_pairs_have_every_prompt_and_both_policies(study):
    d_golden = read_token_pairs(study.seed / "d_golden", "train")
    sampled = read_token_pairs(study.seed / "d_sft_vs_8", "train")
    np.testing.assert_array_equal(sampled.prompt, d_golden.prompt)
    assert not np.array_equal(sampled.response_a, d_golden.response_a)
    lineage = json.loads((study.seed / "d_sft_vs_8" / "run.json").read_text())["parents"]
    assert lineage["policy_b"]["path"].endswith(f"{toy.ONLINE}/checkpoints/8")


def test_reference_log_probs_are_made_once_a_data_set(study):
    stored = {folder.name for folder in (study.seed / "reference_scores").iterdir()}
    assert stored == {"d_golden", "d_sft_vs_8"}


def test_a_report_of_all_arms(study, tmp_path):
    assert command.run_command([str(study.directory), f"--out={tmp_path}"]) == 0
    frame = read_csv(tmp_path / "rows.csv")
    assert {"replay", "sft vs 8", "online", "offline"} <= set(frame["arm"])
    same = [
        frame[frame["arm"] == arm].set_index("step")["win_rate"] for arm in ("online", "replay")
    ]
    assert same[0].equals(same[1])
    page = (tmp_path / "report.html").read_text()
    assert "D_sft_vs_8, shuffled" in page
