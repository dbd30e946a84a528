"""Effects: how far arms lie apart at equal KL, by hand, by brute force, and paired by prompt."""

import math

import numpy as np
import pandas as pd
import pytest

from pagap_jax.study import gaps, statistics
from pagap_jax.study.rows import Rows

WEIGHTS = {"online": 1.0, "offline": -1.0}
Z = gaps.NORMAL_95


def test_gap_of_peaks_is_paired_by_prompt(make_rows):
    rows = make_rows(
        {"arm": "online", "run": "a", "select": 0.8, "report": 0.8},
        {"arm": "offline", "run": "b", "select": 0.6, "report": 0.6},
        {"arm": "online", "run": "a", "seed": 1, "select": 0.5},  # offline is missing in this seed
    )
    found = gaps.peak_gap(rows, WEIGHTS)
    assert list(found["seed"]) == [0]
    assert found["gap"][0] == pytest.approx(0.2)
    ours, theirs = (rows.outcomes["tiny", 0, run, step] for run, step in (("a", 1), ("b", 2)))
    one_by_one = (ours.win - theirs.win)[~ours.select]
    reach = Z * np.std(one_by_one, ddof=1) / math.sqrt(len(one_by_one))
    assert found["low"][0] == pytest.approx(0.2 - reach)
    assert found["high"][0] == pytest.approx(0.2 + reach)
    mirrored = gaps.peak_gap(rows, {"offline": 1, "online": -1})
    assert mirrored["low"][0] == pytest.approx(-found["high"][0])


def test_the_same_policy_differs_from_itself_by_nothing(make_rows):
    rows = make_rows({"arm": "online", "run": "a"})
    best = statistics.peak(rows.checkpoints)
    both = pd.concat([best.assign(arm="x"), best.assign(arm="y")])
    (gap,) = gaps.seed_gaps(rows, both, {"x": 1, "y": -1}).to_dict("records")
    assert (gap["gap"], gap["low"], gap["high"]) == (0, 0, 0)


def slow_budget_gap(rows, above, below, points=200_001):
    """The headline by brute force: both arms' best at each of many budgets, seed 0."""
    frame = rows.checkpoints
    frame = frame[frame["kl"] > 0]
    sides = [frame[frame["arm"] == arm] for arm in (above, below)]
    low = max(side["kl"].min() for side in sides)
    high = min(side["kl"].max() for side in sides)
    budgets = np.exp(np.linspace(np.log(low), np.log(high), points))
    rates = []
    for side in sides:
        side = side.sort_values("kl")
        best = np.full(points, -np.inf)
        rate = np.zeros(points)
        for row in side.itertuples():
            better = (row.kl <= budgets) & (row.win_rate_select > best)
            best[better], rate[better] = row.win_rate_select, row.win_rate_report
        rates.append(rate.mean())
    return rates[0] - rates[1]


def point(arm, kl, select, report=None, **more):
    report = select if report is None else report
    return {"arm": arm, "run": arm, "kl": kl, "select": select, "report": report, **more}


def test_budget_gap_by_hand(make_rows):
    # log-uniform from 1 to 16: four doublings. Online has 0.2 up to 4, then 0.6; offline 0.2 all
    # along, its better checkpoint at 32 is out of reach of both.
    rows = make_rows(
        point("online", 0.5, 0.1), point("online", 1.0, 0.2), point("online", 4.0, 0.6),
        point("online", 16.0, 0.3), point("offline", 1.0, 0.2), point("offline", 32.0, 0.9),
    )  # fmt: skip
    (gap,) = gaps.budget_gap(rows, WEIGHTS).to_dict("records")
    assert (gap["kl_low"], gap["kl_high"]) == (1.0, 16.0)
    assert gap["gap"] == pytest.approx(0.5 * 0.4)
    assert (gap["online"], gap["offline"]) == (pytest.approx(0.4), pytest.approx(0.2))
    assert gap["low"] < gap["gap"] < gap["high"]


def test_budget_gap_against_brute_force(study_rows):
    frame = study_rows.checkpoints
    rows = Rows(frame[frame["seed"] == 0], study_rows.stream, study_rows.outcomes)
    (gap,) = gaps.budget_gap(rows, WEIGHTS).to_dict("records")
    assert gap["gap"] == pytest.approx(slow_budget_gap(rows, "online", "offline"), abs=1e-4)
    (turned,) = gaps.budget_gap(rows, {"offline": 1, "online": -1}).to_dict("records")
    assert turned["gap"] == pytest.approx(-gap["gap"])
    assert turned["low"] == pytest.approx(-gap["high"])


def test_one_lucky_checkpoint_moves_the_headline_little(make_rows):
    """The peak jumps by 0.5; the headline by the few budgets from 7 to 8."""
    steady = [point(arm, float(kl), 0.3) for arm in ("online", "offline") for kl in (1, 2, 4, 8)]
    lucky = [*steady, point("online", 7.0, 0.8)]
    before, after = (
        gaps.budget_gap(make_rows(*rows), WEIGHTS)["gap"][0] for rows in (steady, lucky)
    )
    assert before == pytest.approx(0.0)
    assert after == pytest.approx(0.5 * math.log(8 / 7) / math.log(8))
    assert gaps.peak_gap(make_rows(*lucky), WEIGHTS)["gap"][0] == pytest.approx(0.5)


def test_the_choice_at_a_budget_never_looks_at_the_half_that_is_reported(make_rows):
    rows = make_rows(
        point("online", 1.0, 0.5, 0.1), point("online", 2.0, 0.4, 0.9), point("online", 4.0, 0.3),
        point("offline", 1.0, 0.2), point("offline", 4.0, 0.2),
    )  # fmt: skip
    assert gaps.budget_gap(rows, WEIGHTS)["gap"][0] == pytest.approx(0.1 - 0.2)


def test_ranges_that_do_not_meet_are_told(make_rows):
    rows = make_rows(point("online", 5.0, 0.5), point("offline", 1.0, 0.2))
    (gap,) = gaps.budget_gap(rows, WEIGHTS).to_dict("records")
    assert math.isnan(gap["gap"]) and gap["seed"] == 0


def test_three_arms_at_equal_kl(make_rows):
    """How far shuffled is below the middle of online and offline, over the range of all three."""
    rows = make_rows(
        point("online", 1.0, 0.6), point("online", 16.0, 0.6), point("offline", 1.0, 0.2),
        point("offline", 8.0, 0.2), point("shuffled", 2.0, 0.3), point("shuffled", 16.0, 0.3),
    )  # fmt: skip
    (gap,) = gaps.budget_gap(rows, {"online": 0.5, "offline": 0.5, "shuffled": -1}).to_dict(
        "records"
    )
    assert (gap["kl_low"], gap["kl_high"]) == (2.0, 8.0)
    assert gap["gap"] == pytest.approx(0.1)
    assert [gap[arm] for arm in ("online", "offline", "shuffled")] == pytest.approx([0.6, 0.2, 0.3])
    both = gaps.budget_gap(rows.__class__(rows.checkpoints, rows.stream, rows.outcomes), WEIGHTS)
    assert both["gap"][0] == pytest.approx(0.4)


def test_a_seed_without_one_of_the_arms_counts_none(make_rows):
    rows = make_rows(point("online", 1.0, 0.6), point("online", 2.0, 0.6))
    assert gaps.budget_gap(rows, WEIGHTS).empty and gaps.peak_gap(rows, WEIGHTS).empty


def test_measures_with_errors_of_their_own(make_rows):
    """Errors of independent measurements add in squares; a standard error is 1/1.96 of a reach."""
    frame = make_rows(
        {"arm": "online", "accuracy": 0.5, "accuracy_low": 0.47, "accuracy_high": 0.53},
        {"arm": "offline", "accuracy": 0.7, "accuracy_low": 0.66, "accuracy_high": 0.74},
    ).checkpoints
    (gap,) = gaps.of_measure(frame, "accuracy", {"offline": 1, "online": -1}).to_dict("records")
    assert (gap["gap"], gap["low"], gap["high"]) == pytest.approx((0.2, 0.15, 0.25))
    shift = "chosen_log_prob_shift"
    (one,) = gaps.of_measure(frame, shift, {"online": -1}, f"{shift}_se").to_dict("records")
    assert (one["gap"], one["high"]) == pytest.approx((1.0, 1.0 + Z * 0.1))
    (moved,) = gaps.shifted(gaps.of_measure(frame, "accuracy", {"online": -1}), 0.55).to_dict(
        "records"
    )
    assert (moved["gap"], moved["low"], moved["high"]) == pytest.approx((0.05, 0.02, 0.08))
