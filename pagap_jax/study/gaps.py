"""From rows to effects: how far arms lie apart, seed by seed, and how sure of it one can be.

An effect is a weighted sum of win rates, {'online': 1, 'offline': −1}: whatever is compared is
compared at equal KL, on the same prompts, on the half of them that chose nothing.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import special

from pagap_jax.study.outcomes import paired_difference
from pagap_jax.study.rows import Rows
from pagap_jax.study.statistics import RATE, peak, ranked

NORMAL_95 = float(special.ndtri(0.975))
_POINT = ["study", "seed", "run", "step"]
_GAP = ["gap", "low", "high"]
Weights = Mapping[str, float | int]  # by arm


def budget_gap(rows: Rows, weights: Weights) -> pd.DataFrame:
    """Arms at equal KL, averaged over their common range of log KL: the headline's statistic.

    An arm's win rate at a budget κ is that of its best checkpoint with 0 < KL <= κ. The rates are
    added up, weighted, at each κ and averaged, uniformly in log κ, from the largest of the arms'
    smallest KL to the smallest of their largest: no single checkpoint carries it, and it has no
    bins.

    Args:
        weights: of the arms; {'online': 1, 'offline': -1} is the headline, {'online': .5,
            'offline': .5, 'shuffled': -1} says how far shuffled is below the middle of the two.

    Returns:
        seed, gap, low, high (95 % over prompts, paired), kl_low, kl_high, then each arm's own
        average. A seed in which the ranges don't meet keeps its row, with NaN.
    """
    found = []
    frame = rows.checkpoints[rows.checkpoints["kl"] > 0]
    for seed, of_seed in frame.groupby("seed", sort=True):
        sides = {arm: of_seed[of_seed["arm"] == arm] for arm in weights}
        if any(side.empty for side in sides.values()):
            continue
        low = max(float(side["kl"].min()) for side in sides.values())
        high = min(float(side["kl"].max()) for side in sides.values())
        if low >= high:
            found.append((seed, *[math.nan] * 3, low, high, *[math.nan] * len(sides)))
            continue
        best = {arm: frontier(side, low, high) for arm, side in sides.items()}
        rates = [float((side[RATE] * side["weight"]).sum()) for side in best.values()]
        found.append((seed, *weighted(rows, best, weights), low, high, *rates))
    return pd.DataFrame(found, columns=["seed", *_GAP, "kl_low", "kl_high", *weights])


def peak_gap(rows: Rows, weights: Weights) -> pd.DataFrame:
    """The same of the arms' best checkpoints, whatever their KL."""
    return seed_gaps(rows, peak(rows.checkpoints), weights)


def seed_gaps(
    rows: Rows, best: pd.DataFrame, weights: Weights, by: Sequence[str] = ()
) -> pd.DataFrame:
    """Weighted sum of the arms' chosen checkpoints in each seed (and group) that has all of them.

    Args:
        best: a row a seed, arm and group.

    Returns:
        seed, `by`, gap, low, high (95 % over prompts, paired), then each arm's own win rate.
    """
    keys, found = ["seed", *by], []
    for key, group in best[best["arm"].isin(weights)].groupby(keys, sort=True):
        sides = {arm: group[group["arm"] == arm].assign(weight=1.0) for arm in weights}
        if not any(side.empty for side in sides.values()):
            rates = [float(side[RATE].iloc[0]) for side in sides.values()]
            found.append((*key, *weighted(rows, sides, weights), *rates))
    return pd.DataFrame(found, columns=[*keys, *_GAP, *weights])


def weighted(
    rows: Rows, sides: Mapping[str, pd.DataFrame], weights: Weights
) -> tuple[float, float, float]:
    """Weighted sum of some arms' win rates on the report half, with 95 % bounds.

    Args:
        sides: by arm, rows of checkpoints of one seed, with a column `weight` that sums to 1.

    Returns:
        Sum, low, high; the interval is over prompts, paired.
    """
    both = [side.assign(weight=side["weight"] * weights[arm]) for arm, side in sides.items()]
    points = pd.concat(both)[[*_POINT, "weight"]].itertuples(index=False, name=None)
    outcomes, shares = [], {}
    for i, (*point, weight) in enumerate(points):
        outcomes.append(rows.outcomes[tuple(point)])
        shares[i] = weight
    gap, se = paired_difference(shares, outcomes)
    return gap, gap - NORMAL_95 * se, gap + NORMAL_95 * se


def frontier(frame: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    """The checkpoints that are best at some KL budget between low and high, with their weights.

    Returns:
        Rows of `frame` by KL, with a column `weight`: the share of [log low, log high] over which
        each is the best one with at most that KL.
    """
    ordered = ranked(frame[frame["kl"] <= high]).sort_values("kl", kind="stable")
    select = ordered["win_rate_select"]
    records = ordered[select > select.cummax().shift(fill_value=-math.inf)]
    starts = np.log(records["kl"].clip(lower=low).to_numpy())
    ends = np.append(starts[1:], math.log(high))
    shares = records.assign(weight=(ends - starts) / math.log(high / low))
    return shares[shares["weight"] > 0]


def of_measure(
    frame: pd.DataFrame, column: str, weights: Weights, error: str | None = None
) -> pd.DataFrame:
    """Weighted sum of one measure of the arms' runs in each seed that has all of them.

    Args:
        frame: one row a seed and arm.
        error: column of its standard error; without one the interval comes from `column`_low and
            `column`_high.

    Returns:
        seed, gap, low, high: 95 % over what was measured; errors of the arms are taken as
        independent, which makes it too wide where they were measured on the same pairs.
    """
    found = []
    for seed, group in frame[frame["arm"].isin(weights)].groupby("seed", sort=True):
        rows = group.set_index("arm")
        if {*weights} - {*rows.index}:
            continue
        reach = [
            weight * NORMAL_95 * rows.loc[arm, error]
            if error
            else weight * (rows.loc[arm, f"{column}_high"] - rows.loc[arm, f"{column}_low"]) / 2
            for arm, weight in weights.items()
        ]
        gap = float(sum(weight * rows.loc[arm, column] for arm, weight in weights.items()))
        half = float(np.linalg.norm(np.array(reach, float)))
        found.append((seed, gap, gap - half, gap + half))
    return pd.DataFrame(found, columns=["seed", *_GAP])


def shifted(gaps: pd.DataFrame, by: float) -> pd.DataFrame:
    """Effects with a number added: a threshold becomes 0, which verdicts are about."""
    return gaps.assign(**{name: gaps[name] + by for name in _GAP})
