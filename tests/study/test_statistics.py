"""Statistics of a study against closed forms and hand-made frames."""

import math

import numpy as np
import pandas as pd
import pytest

from pagap_jax.intervals import wilson_interval
from pagap_jax.study import gaps, statistics
from pagap_jax.study.rows import Rows, counted_once

Z = 1.959963984540054


def test_wilson_bounds_solve_its_defining_equation():
    # Wilson: |p - rate| = z sqrt(p (1 - p) / n) at both bounds.
    for wins, n in ((81, 263), (15, 148), (0.5, 20), (29, 29)):
        for bound in wilson_interval(wins, n):
            distance = Z * math.sqrt(bound * (1 - bound) / n)
            assert abs(bound - wins / n) == pytest.approx(distance, abs=1e-12)


def test_wilson_at_its_ends():
    assert wilson_interval(0, 10) == pytest.approx((0.0, Z**2 / (10 + Z**2)))
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + Z**2), 1.0))
    assert wilson_interval(0, 0) == (0.0, 1.0)
    for wins, n in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="expected 0 to 3"):
            wilson_interval(wins, n)


def test_summary_over_seeds_against_tables_of_student():
    # Values 1, 2, 3: mean 2, se 1/sqrt(3), t = 2 sqrt(3). Two degrees of freedom have a closed
    # form: P(T > t) = 1/2 - t / (2 sqrt(2 + t²)), and the 0.975 quantile is 4.302653.
    summary = statistics.summarize_seeds([1.0, 2.0, 3.0, math.nan])
    t = 2 * math.sqrt(3)
    assert (summary.mean, summary.seeds) == (2.0, 3)
    assert summary.se == pytest.approx(1 / math.sqrt(3))
    assert summary.p_one_sided == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)))
    assert summary.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert summary.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)


def test_summary_of_few_or_equal_seeds():
    one = statistics.summarize_seeds([0.5])
    assert (one.mean, one.seeds) == (0.5, 1) and math.isnan(one.se) and math.isnan(one.p_one_sided)
    none = statistics.summarize_seeds([])
    assert none.seeds == 0 and math.isnan(none.mean)
    equal = statistics.summarize_seeds([0.25, 0.25])
    assert (equal.se, equal.p_one_sided) == (0.0, 0.0)
    assert math.isnan(statistics.summarize_seeds([0.0, 0.0]).p_one_sided)


def test_peak_is_chosen_on_one_half_and_reported_on_the_other(make_frame):
    frame = make_frame(
        {"run": "a", "step": 1, "select": 0.50, "report": 0.30},
        {"run": "a", "step": 2, "select": 0.40, "report": 0.60},  # best report, best overall
        {"run": "b", "step": 1, "select": 0.20, "report": 0.20},
        {"run": "c", "step": 1, "arm": "offline", "select": 0.1, "report": 0.2},
        {"run": "a", "step": 2, "seed": 1, "select": 0.45, "report": 0.40},
    )
    peak = statistics.peak(frame)
    assert list(zip(peak["seed"], peak["arm"], strict=True)) == [
        (0, "offline"), (0, "online"), (1, "online"),
    ]  # fmt: skip
    assert list(peak["win_rate_report"]) == [0.2, 0.3, 0.4]
    assert list(peak["step"]) == [1, 1, 2]
    low, high = wilson_interval(300, 1000)
    online = peak.iloc[1]
    assert (online["win_rate_report_low"], online["win_rate_report_high"]) == (low, high)


def test_ties_go_to_the_smaller_kl_whatever_the_order_of_rows(make_frame):
    rows = [
        {"run": "a", "kl": 3.0, "select": 0.4, "report": 0.9},
        {"run": "b", "kl": 2.0, "select": 0.4, "report": 0.1},
        {"run": "c", "kl": 2.0, "select": 0.4, "report": 0.8},
        {"run": "d", "kl": 0.1, "select": math.nan, "report": 0.8, "win_rate_low": 0.0},
    ]
    rows[3].update(select=0.9, report=0.9, win_rate_select=math.nan)
    for order in (rows, rows[::-1]):
        assert list(statistics.peak(make_frame(*order))["run"]) == ["b"]


def test_kl_bins_hold_their_upper_edge_and_not_the_sft_policy(make_frame):
    frame = make_frame(
        {"step": 0, "kl": 0.0, "select": 0.9},
        {"step": 1, "kl": 0.5, "select": 0.3, "report": 0.31},
        {"step": 2, "kl": 0.500001, "select": 0.4, "report": 0.41},
        {"step": 3, "kl": 1.0, "select": 0.3, "report": 0.9},
        {"step": 4, "kl": 100.0, "select": 0.5, "report": 0.51},
        {"step": 5, "kl": math.nan, "select": 0.5},
        {"step": 2, "seed": 1, "kl": 0.7, "select": 0.2, "report": 0.21},
    )
    table = statistics.best_by_kl_bin(frame)
    assert list(zip(table["kl_low"], table["kl_high"], strict=True)) == [
        (0.0, 0.5), (0.5, 1.0), (8.0, math.inf),
    ]  # fmt: skip
    assert list(table["win_rate"]) == pytest.approx([0.31, (0.41 + 0.21) / 2, 0.51])
    assert list(table["checkpoints"]) == [1, 3, 1]
    assert list(table["seeds"]) == [1, 2, 1]
    # Two values d apart have a standard error of d / 2; a t interval of 12.7 of those is cut at 0.
    assert table["se"][1] == pytest.approx(0.1)
    assert (table["low"][1], table["high"][1]) == (0.0, 1.0)
    assert math.isnan(table["se"][0])
    assert (table["low"][0], table["high"][0]) == wilson_interval(310, 1000)


def test_win_rate_up_to_kl_counts_the_limit_in(make_frame):
    frame = make_frame(
        {"step": 0, "kl": 0.0, "select": 0.10, "report": 0.11},
        {"step": 1, "kl": 1.0, "select": 0.20, "report": 0.21},
        {"step": 2, "kl": 2.5, "select": 0.15, "report": 0.99},  # worse than a smaller KL
        {"step": 3, "kl": 3.5, "select": 0.40, "report": 0.35},
    )
    table = statistics.win_rate_up_to_kl(frame, [0.5, 1.0, 3.0, 4.0])
    assert list(table["kl_limit"]) == [0.5, 1.0, 3.0, 4.0]
    assert list(table["win_rate"]) == pytest.approx([0.11, 0.21, 0.21, 0.35])
    assert list(table["kl"]) == [0.0, 1.0, 1.0, 3.5]


def test_a_short_run_that_a_longer_one_begins_with_counts_once(make_rows):
    """The paper's 4k and 20k steps (§4) are one trajectory at a constant rate."""
    rates = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.9}
    long = [
        {"run": "steps4", "train_steps": 4, "step": s, "select": r, "report": r}
        for s, r in rates.items()
    ]
    short = [{**row, "run": "steps2", "train_steps": 2} for row in long[:2]]
    frame = make_rows(*short, *long).checkpoints
    once = counted_once(frame)
    assert list(once["run"]) == ["steps4"] * 4
    quantiles = [statistics.best_possible(f)["quantile"][0] for f in (frame, once)]
    assert quantiles[1] == pytest.approx(np.quantile(list(rates.values()), 0.9))
    assert quantiles[0] != quantiles[1]
    other = make_rows(*long, {**short[0], "beta": 0.5}).checkpoints
    assert len(counted_once(other)) == 5  # another setting is no beginning


def test_best_possible_performance_is_relative_to_online_of_the_same_seed(make_frame):
    rows = []
    for seed, scale in ((0, 1.0), (1, 0.5)):
        for step in range(11):  # win rates 0, 0.1, ..., 1 have the 0.9 quantile 0.9
            rate = scale * step / 10
            rows.append({"seed": seed, "step": step, "select": rate, "report": rate})
            rows.append({"arm": "offline", "run": "off", **rows[-1], "select": rate / 3,
                         "report": rate / 3})  # fmt: skip
    table = statistics.best_possible(make_frame(*rows)).set_index(["seed", "method"])
    assert table.loc[(0, "online"), "quantile"] == pytest.approx(0.9)
    assert table.loc[(1, "online"), "quantile"] == pytest.approx(0.45)
    assert list(table.xs("offline", level="method")["relative"]) == pytest.approx([1 / 3, 1 / 3])
    alone = statistics.best_possible(make_frame({"arm": "offline"}))
    assert math.isnan(alone["relative"][0])


def test_run_summary_takes_the_peak_and_the_last_step_of_each_seed(make_frame):
    frame = make_frame(
        {"step": 100, "kl": 2.0, "select": 0.4, "report": 0.40, "accuracy": 0.9},
        {"step": 800, "kl": 5.0, "select": 0.2, "report": 0.10, "accuracy": 0.7},
        {"seed": 1, "step": 400, "kl": 3.0, "select": 0.3, "report": 0.30, "accuracy": 0.6},
        {"seed": 1, "step": 200, "kl": 1.0, "select": 0.2, "report": 0.50, "accuracy": 0.9},
    )
    (row,) = statistics.run_summary(frame).to_dict("records")
    assert row["seeds"] == 2
    assert (row["peak_win_rate"], row["peak_kl"]) == (pytest.approx(0.35), pytest.approx(2.5))
    assert row["peak_se"] == pytest.approx(0.05)
    assert (row["final_win_rate"], row["final_kl"]) == (pytest.approx(0.225), pytest.approx(4.0))
    assert row["accuracy"] == pytest.approx(0.65)


def test_no_rows_give_empty_tables(study_rows):
    empty = Rows(study_rows.checkpoints[:0], study_rows.stream, {})
    none = empty.checkpoints
    for table in (
        statistics.peak(none),
        statistics.best_by_kl_bin(none),
        statistics.win_rate_up_to_kl(none),
        gaps.peak_gap(empty, {"online": 1.0, "offline": -1.0}),
        gaps.budget_gap(empty, {"online": 1.0, "offline": -1.0}),
        statistics.best_possible(none),
        statistics.run_summary(none),
    ):
        assert isinstance(table, pd.DataFrame) and table.empty


def test_no_function_changes_its_frame(study_rows, study_frame):
    before = study_frame.copy()
    statistics.best_by_kl_bin(study_frame)
    statistics.win_rate_up_to_kl(study_frame)
    gaps.budget_gap(study_rows, {"online": 1.0, "offline": -1.0})
    statistics.run_summary(study_frame)
    pd.testing.assert_frame_equal(study_frame, before)


def test_sizes_have_their_own_best_possible_performance(make_frame):
    """'online, xl' at size xl is online; what isn't named after its size is a method of its own."""
    frame = make_frame(
        {"arm": "online", "select": 0.4, "report": 0.4},
        {"arm": "online, xl", "policy_size": "xl", "select": 0.8, "report": 0.8},
        {"arm": "offline, xl", "policy_size": "xl", "select": 0.2, "report": 0.2},
        {"arm": "online, bo2", "select": 0.1, "report": 0.1},
    )
    table = statistics.best_possible(frame).set_index(["method", "policy_size"])
    assert table["quantile"].to_dict() == pytest.approx({
        ("online", "tiny"): 0.4, ("online", "xl"): 0.8, ("offline", "xl"): 0.2,
        ("online, bo2", "tiny"): 0.1,
    })  # fmt: skip
    assert table.loc[("offline", "xl"), "relative"] == pytest.approx(0.25)


def test_a_size_with_a_wider_sweep_is_no_better_for_that(make_frame):
    """A setting that one size alone was run with doesn't count."""
    frame = make_frame(
        {"arm": "online", "select": 0.4, "report": 0.4},
        {"arm": "online", "beta": 0.03, "select": 0.9, "report": 0.9},
        {"arm": "online, xl", "policy_size": "xl", "select": 0.5, "report": 0.5},
    )
    table = statistics.best_possible(frame).set_index("policy_size")["quantile"]
    assert table.to_dict() == pytest.approx({"tiny": 0.4, "xl": 0.5})
