"""The paper's experiments to their end at toy lengths, and one that a test adds.

Without `loss`, whose arms are those of others with another loss: test_plan plans its stages.
"""

import json

import gin
import numpy as np
import pytest

from pagap_jax.configuration import load_job, parse
from pagap_jax.data.reading import open_token_pairs, read_token_pairs
from pagap_jax.records import StreamRow
from pagap_jax.study import command, experiments, figures, gaps
from pagap_jax.study.arms import OFFLINE, Arm, Place
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.figures.figure import StudyFigure, has_arm
from pagap_jax.study.figures.over_kl import draw_win_rate_over_kl
from pagap_jax.study.findings import finding
from pagap_jax.study.rows import read_csv
from pagap_jax.study.run import context_of
from tests.fixtures import toy

IN_ORDER = Arm("in order", "D_golden", Place("d_golden"), settings={"DATA_ORDER": "recorded"})
ADDED = Experiment(
    name="order",
    title="The order of D_golden",
    question="Does the order of the file matter?",
    arms=lambda _: (OFFLINE, IN_ORDER),
    figures=("fig_order",),
    findings=(
        lambda rows: finding(
            "order matters", "The file's order is worse.", "a test", "offline minus in order",
            gaps.peak_gap(rows, {"offline": 1, "in order": -1}),
        ),
    ),
)  # fmt: skip
FIG_ORDER = StudyFigure(
    *("fig_order", "In the file's order", "", "Both orders."),
    can_draw=has_arm("in order"),
    draw=lambda rows: draw_win_rate_over_kl(rows, ("offline", "in order")),
)


@pytest.fixture(scope="module")
def study(study, tmp_path_factory):
    """The toy study's stages, extended: what was finished before isn't run again.

    The study of all of them has a folder of its own: other tests read the toy study's meanwhile.
    """
    before = (study.seed / toy.ONLINE / "result.json").stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, ADDED.name, ADDED)
        patch.setitem(figures.FIGURES, FIG_ORDER.name, FIG_ORDER)
        names = tuple(name for name in experiments.EXPERIMENTS if name != "loss")
        bindings = [f"STUDY_DIR={str(study.directory)!r}", "Plan.name='toy'"]
        gin_file = "test/everything.gin"
        parse(load_job("study"), [gin_file], [*bindings, f"Plan.experiments={names!r}"])
        plan = gin.get_bindings("study")["plan"]
        for stage in plan.stages():
            code, said = toy.job_runner().run(stage.argv(str(study.directory)))
            assert code == 0, (stage.name, said)
        context = context_of(plan, "Toy", (), ("study", "--gin_file=x.gin", "--gin.STUDY_DIR='y'"))
        extended, out = (tmp_path_factory.mktemp(name) for name in ("extended", "report"))
        (extended / "seed_0").symlink_to(study.seed)
        context.write(extended)
        assert command.run_command([str(extended), f"--out={out}"]) == 0
    assert (study.seed / toy.ONLINE / "result.json").stat().st_mtime_ns == before
    return study, out


def test_every_figure_but_the_training_curves_is_drawn(study):
    """App. F's curves are in the study's own file, which `pagap study` writes at its end."""
    _, out = study
    drawn = {path.stem for path in (out / "figures").glob("*.svg")}
    assert drawn == {*figures.FIGURES, "fig_order"} - {"app_f", "fig_9"}


def test_an_experiment_is_a_file_and_a_line(study):
    _, out = study
    page = (out / "report.html").read_text()
    assert "The order of D_golden" in page and "In the file&#x27;s order" in page
    found = json.loads((out / "findings.json").read_text())["tickets"]
    assert [one["seeds"] for one in found if one["name"] == "order matters"] == [1]
    assert "Rows: <code>pagap study --gin_file=x.gin</code>" in page


def test_every_finding_but_two_is_asked(study):
    """Those that toy lengths can't bring: ranges of KL that don't meet."""
    _, out = study
    found = json.loads((out / "findings.json").read_text())["tickets"]
    asked = [one["name"] for one in found if one["verdict"] != "not asked"]
    assert len(asked) > 0.6 * len(found)
    assert {"replay reproduces online", "larger policies peak higher"} <= set(asked)
    lines = (out / "findings.md").read_text().splitlines()
    assert sum(line.endswith("** |") for line in lines) == len(asked)


def test_the_replay_is_the_online_run(study):
    """App. F: the same parameters, bit for bit, and so the same rows."""
    finished, out = study
    replay = finished.seed / "replayed_lr0.01_beta0.1"
    for step in toy.SAVED_STEPS:
        name = f"checkpoints/{step}"
        toy.assert_same_checkpoint(finished.seed / toy.ONLINE / name, replay / name)
    frame = read_csv(out / "rows.csv")
    same = [
        frame[frame["arm"] == arm].set_index("step")["win_rate"] for arm in ("online", "replayed")
    ]
    assert same[0].equals(same[1])
    found = json.loads((out / "findings.json").read_text())["tickets"]
    (verdict,) = (one["verdict"] for one in found if one["name"] == "replay reproduces online")
    assert verdict == "agrees"


def test_sampled_pairs_have_every_prompt_and_both_policies(study):
    finished, _ = study
    d_golden = read_token_pairs(finished.seed / "d_golden", "train")
    sampled = read_token_pairs(finished.seed / "d_sft_vs_early", "train")
    np.testing.assert_array_equal(sampled.prompt, d_golden.prompt)
    assert not np.array_equal(sampled.response_a, d_golden.response_a)
    lineage = json.loads((finished.seed / "d_sft_vs_early" / "run.json").read_text())["parents"]
    assert lineage["policy_b"]["path"].endswith(f"{toy.ONLINE}/checkpoints/4")


def test_reference_log_probs_are_made_once_a_data_set_and_size(study):
    finished, _ = study
    stored = {folder.name for folder in (finished.seed / "reference_scores").iterdir()}
    wide = "online-wide_lr0.01_beta0.1-d_online_wide"
    assert stored == {
        *("d_golden", "d_golden_wide", f"{toy.ONLINE}-d_online", wide),
        *("d_sft_vs_early", "d_early_vs_late", "d_late_vs_late"),
    }


def test_accuracy_along_d_online_the_slow_way(study):
    """Rows of the proxy model: its recorded label against the golden model's, pair by pair."""
    finished, out = study
    rows = read_csv(out / "stream_rows.csv", StreamRow)
    assert set(rows["classifier"]) == {"proxy", "online", "offline"}
    assert sorted(set(rows["step"])) == [4, 8, 12]
    assert set(rows["run"]) == {toy.ONLINE} and set(rows["arm"]) == {"online"}
    stream = open_token_pairs(str(finished.seed / toy.ONLINE / "d_online"), "train")
    for row in rows[rows["classifier"] == "proxy"].itertuples():
        inside = (stream.step >= row.pairs_first_step) & (stream.step <= row.pairs_last_step)
        assert row.accuracy_pairs <= int(np.sum(inside)) == 16
        assert abs(row.pairs_first_step + 1 - row.step) <= 2
        assert row.accuracy_low <= row.accuracy <= row.accuracy_high
    policies = rows[rows["classifier"] == "offline"]
    assert policies["classifier_checkpoint"].str.endswith(f"{toy.OFFLINE}/checkpoints/12").all()


def test_rows_name_their_size_and_loss(study):
    _, out = study
    frame = read_csv(out / "rows.csv").set_index("arm")
    assert set(frame.loc["online, wide"]["policy_size"]) == {"wide"}
    assert frame.loc["sft, wide"]["policy_size"] == "wide"
    wide, toy_size = (
        frame.loc[arm]["policy_parameters"].iloc[0] for arm in ("online, wide", "online")
    )
    assert wide > 1.5 * toy_size
    assert set(frame.loc["lightly shuffled"]["data_order"]) == {"shuffled in blocks of 2 batches"}
    assert set(frame.loc["late vs late"]["pairs"]) == {"D_12_vs_12"}
