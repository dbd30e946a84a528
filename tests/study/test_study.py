"""The whole study at toy lengths, by the command line: what it writes, twice, and after kills."""

import dataclasses
import json

import numpy as np
import pytest

from pagap_jax.data.reading import read_token_pairs
from pagap_jax.intervals import wilson_interval
from pagap_jax.jobs.evaluate import warn_of
from pagap_jax.records import CheckpointRow, row_from_dict
from pagap_jax.run_directory import RunDirectory
from pagap_jax.run_warnings import read_warnings
from pagap_jax.study.rows import read_csv
from tests.fixtures import toy
from tests.fixtures.faults import Fault

ARMS = {"golden", "offline", "online", "sft"}


def test_every_checkpoint_has_its_row(study):
    frame = read_csv(study.directory / "rows.csv")
    assert set(frame["arm"]) == ARMS
    steps = {run: tuple(rows["step"]) for run, rows in frame.groupby("run")}
    assert steps == {
        "sft": (6,),
        "golden_policy": (6,),
        toy.ONLINE: toy.SAVED_STEPS,
        toy.OFFLINE: toy.SAVED_STEPS,
        "offline_lr0.01_beta0.5": toy.SAVED_STEPS,
    }
    for row in frame.itertuples():
        assert (study.directory / row.checkpoint / "params").is_dir()
        assert row.kl_prompts == row.win_rate_prompts == 16
    (sft,) = frame[frame["arm"] == "sft"].itertuples()
    assert (sft.kl, sft.chosen_log_prob_shift, sft.rejected_log_prob_shift) == (0.0, 0.0, 0.0)
    assert (frame[frame["arm"] != "sft"]["kl"] > 0).all()


def test_rates_are_those_of_what_was_kept_by_prompt(study):
    """Recomputed from outcomes.npz, with the plain formulas: prompts occur once."""
    for row in read_csv(study.directory / "rows.csv").itertuples():
        with np.load(study.seed / "rows" / row.run / "outcomes.npz") as kept:
            place = kept["step"].tolist().index(row.step)
            win, proxy, select = kept["win"][place], kept["proxy_win"][place], kept["select"]
            assert len(set(kept["prompt_id"].tolist())) == len(win) == row.win_rate_prompts
            assert np.array_equal(select, kept["prompt_id"] % 2 == 0)
            assert set(kept["kl_prompt_id"].tolist()) <= set(kept["prompt_id"].tolist())
            kl = kept["kl"][place].astype(np.float64)
        assert row.win_rate == pytest.approx(win.mean())
        assert row.win_rate_select == pytest.approx(win[select].mean())
        assert row.win_rate_report == pytest.approx(win[~select].mean())
        assert row.proxy_win_rate == pytest.approx(proxy.mean())
        low, high = wilson_interval(float(proxy.sum()), len(proxy))
        assert (row.proxy_win_rate_low, row.proxy_win_rate_high) == pytest.approx((low, high))
        assert row.kl == pytest.approx(kl.mean(), abs=1e-9)
        assert row.kl_se == pytest.approx(kl.std(ddof=1) / np.sqrt(len(kl)), abs=1e-9)
        for name in ("self_accuracy", "accuracy", "share_finished"):
            low, high = (getattr(row, f"{name}_{end}") for end in ("low", "high"))
            assert low <= getattr(row, name) <= high


def test_every_evaluation_keeps_the_same_prompts_samples(study):
    prompts = {}
    for row in read_csv(study.directory / "rows.csv").itertuples():
        folder = study.seed / "rows" / row.run
        lines = map(json.loads, (folder / "samples.jsonl").read_text().splitlines())
        kept = [line for line in lines if line["step"] == row.step]
        assert {line["checkpoint"] for line in kept} == {row.checkpoint}
        prompts[row.run, row.step] = [(k["prompt"], k["golden_response"]) for k in kept]
        with np.load(folder / "outcomes.npz") as outcomes:
            place = outcomes["step"].tolist().index(row.step)
            win = dict(zip(outcomes["prompt_id"].tolist(), outcomes["win"][place], strict=True))
        for line in kept:
            assert isinstance(line["response"], str) and 0 <= line["proxy_probability"] <= 1
            assert np.sign(line["golden_probability"] - 0.5) == np.sign(
                win[line["prompt_id"]] - 0.5
            )
    (same, *others) = prompts.values()
    assert len(same) == len(set(same)) == 16 and all(other == same for other in others)


def test_rows_say_where_they_come_from(study):
    frame = read_csv(study.directory / "rows.csv").set_index("run")
    online, offline = (frame.loc[run].iloc[0] for run in (toy.ONLINE, toy.OFFLINE))
    assert (online["pairs"], offline["pairs"]) == ("policy", "D_golden")
    for row in (online, offline):
        assert (row["task"], row["policy_size"], row["data_order"]) == (
            "tickets",
            "toy",
            "shuffled",
        )
        assert row["policy_parameters"] == frame.loc["sft"]["policy_parameters"] > 1000
    assert frame.loc["sft"]["loss"] == "cross_entropy" and frame.loc["sft"]["arm"] == "sft"


def test_offline_runs_share_the_reference_s_log_probs(study):
    scores = study.seed / "reference_scores" / "d_golden"
    assert (scores / "scores.npz").exists()
    for run in (toy.OFFLINE, "offline_lr0.01_beta0.5"):
        parents = json.loads((study.seed / run / "run.json").read_text())["parents"]
        assert parents["reference_scores"]["path"] == str(scores)


def test_preference_models_keep_their_curves(study):
    for name in ("golden", "proxy"):
        result = json.loads((study.seed / name / "result.json").read_text())
        assert [row["step"] for row in result["validation"]] == [2, 4, 6]
        assert result["step"] == 6 and not result["ended_at_plateau"]
        assert all(row["pairs"] == 8 and row["loss"] > 0 for row in result["validation"])
        page = (study.directory / "report.html").read_text()
        assert f"{name}, seed 0" in page


def test_the_report_shows_the_rows(study):
    page = (study.directory / "report.html").read_text()
    assert "Toy lengths" in page and "the numbers mean nothing" in page
    assert "KL of π_sft from itself (seed 0)" in page
    for method in ("online", "offline"):
        assert method in page
    assert (study.directory / "figures/fig_1.svg").read_text().lstrip().startswith("<?xml")
    assert (study.directory / "figures/fig_1.png").read_bytes().startswith(b"\x89PNG")


def test_the_study_prints_its_gates_and_where_the_results_are(study):
    assert "KL of π_sft from itself (seed 0): 0.0000, needs exactly 0: passed" in study.first
    assert study.first.endswith(f"report: {study.directory / 'report.html'}\n")


def test_again_skips_everything_and_changes_nothing(study):
    assert toy.results(study.directory) == study.before_second
    assert study.first.count(" s (") == 16 and " s (" not in study.second
    assert "16 of 16 stages were finished before" in study.second
    assert " (7 of 16, " in study.first
    for run in study.seed.iterdir():
        if (run / "metrics.jsonl").exists():
            steps = [row["step"] for row in toy.metrics(run)]
            assert steps == sorted(set(steps))


def warnings(directory):
    """Those of all runs, in the study's order."""
    return [
        json.loads(line) for line in (directory / "all_warnings.jsonl").read_text().splitlines()
    ]


def test_runs_warn_of_what_is_broken_and_the_study_gathers_it(study):
    found = warnings(study.directory)
    kinds = {(warning["stage"].removeprefix("seed_0/"), warning["kind"]) for warning in found}
    assert len(kinds) == len(found)
    for run in ("sft", toy.ONLINE, toy.OFFLINE):
        assert {(f"rows/{run}", "kl_prompts"), (f"rows/{run}", "win_rate_prompts")} <= kinds
    # Six steps from random parameters: they prefer whatever stands first.
    assert {("golden", "order_disagreement"), ("golden", "validation_accuracy_low")} <= kinds
    stages_by_message = {}
    for warning in found:
        stages_by_message.setdefault(warning["message"], []).append(warning["stage"])
    for message, stages in stages_by_message.items():  # shown once, of the first that ended
        (line,) = (line for line in study.first.splitlines() if f": warning: {message}" in line)
        assert line.split(": ")[0].strip() in stages
    assert ": warning: " not in study.second
    assert f"warnings: {len(found)} in " in study.second


def test_an_evaluation_warns_where_the_proxy_model_is_over_optimised(study, tmp_path):
    """A prompt that fills up counts once, whatever the row counts."""
    (line, *_) = (study.seed / "rows" / toy.ONLINE / "rows.jsonl").read_text().splitlines()
    row = row_from_dict(CheckpointRow, json.loads(line))
    fine = dataclasses.replace(
        row, kl_prompts=512, win_rate_prompts=512, share_unique=0.9, share_finished=1.0,
        win_rate=0.8, proxy_win_rate=0.9,
    )  # fmt: skip
    fallen = dataclasses.replace(fine, step=8, win_rate=0.25, proxy_win_rate=0.99)
    known = {"kl_prompt_id": np.arange(512), "prompt_id": np.arange(512) // 4}
    with RunDirectory(str(tmp_path / "rows"), "evaluate", "") as run:
        warn_of(run, [fine, fallen], known)
    kinds = [(warning["kind"], warning["step"]) for warning in read_warnings(run.path)]
    assert kinds == [("win_rate_prompts", None), ("proxy_above_golden", 8)]


# Where the study is killed, one after another in the same directory; the exit code; workers.
KILLS = [
    (Fault("metrics", "seed_0/sft", 3, signal="SIGINT", group=True), 130, 2),  # a terminal's Ctrl-C
    (Fault("saving", "seed_0/sft", 4), 42, 2),  # this worker alone, the other is at something else
    (Fault("flushed", f"seed_0/{toy.ONLINE}", 8, group=True), -9, 1),
]


@pytest.fixture(scope="module")
def killed_study(study, tmp_path_factory):
    """A study that was killed at each of `KILLS` and then finished."""
    directory = tmp_path_factory.mktemp("killed")
    for fault, exit_code, workers in KILLS:
        argv = [*toy.study_argv(directory), f"--gin.study.workers={workers}"]
        killed = toy.pagap(*argv, fault=fault)
        assert killed.returncode == exit_code, killed.stderr
        (folder,) = directory.glob(f"**/{fault.folder}")
        assert not (folder / "result.json").exists()
        if exit_code == 42:
            assert "a worker died while seed_0/" in killed.stderr
        if exit_code == 130:
            said = f"/{fault.folder}: asked to stop; saved step {fault.step},"
            assert said in killed.stderr
        assert "Traceback" not in killed.stderr
    finished = toy.pagap(*toy.study_argv(directory), "--gin.study.workers=1")
    assert finished.returncode == 0, finished.stderr
    return directory


def test_rows_are_those_of_an_uninterrupted_study(study, killed_study):
    assert toy.results(killed_study) == toy.results(study.directory)


def test_warnings_are_those_of_an_uninterrupted_study(study, killed_study):
    assert warnings(killed_study) == warnings(study.directory)


def test_checkpoints_are_those_of_an_uninterrupted_study(study, killed_study):
    checkpoints = sorted(killed_study.glob("seed_0/*/checkpoints/[0-9]*"))
    assert len(checkpoints) == 3 + 3 + 1 + 1 + 3 * 3
    for checkpoint in checkpoints:
        whole = study.directory / checkpoint.relative_to(killed_study)
        toy.assert_same_checkpoint(whole, checkpoint)


def test_d_online_is_that_of_an_uninterrupted_run(study, killed_study):
    name = f"seed_0/{toy.ONLINE}/d_online"
    ours, killed = (read_token_pairs(d / name, "train") for d in (study.directory, killed_study))
    assert len(ours) == 8 * toy.TRAIN_STEPS
    # Row for row. The files' bytes differ: protobuf writes maps in an order of the process's own.
    for field in dataclasses.fields(ours):
        columns = [getattr(pairs, field.name) for pairs in (ours, killed)]
        np.testing.assert_array_equal(*columns, err_msg=field.name)
    assert not (killed_study / f"seed_0/{toy.ONLINE}/stream").exists()


def test_d_online_of_a_resumed_run_gives_the_online_run_again(killed_study, tmp_path):
    """App. F, to the bit."""
    online = killed_study / "seed_0" / toy.ONLINE
    pairs, recorded = online / "d_online", {"ARM": "replayed", "DATA_ORDER": "recorded"}
    argv = toy.align_argv(tmp_path / "replay", killed_study, pairs, **recorded)
    assert toy.job_runner().run(argv) == (0, "")
    for step in toy.SAVED_STEPS:
        name = f"checkpoints/{step}"
        toy.assert_same_checkpoint(online / name, tmp_path / "replay" / name)
