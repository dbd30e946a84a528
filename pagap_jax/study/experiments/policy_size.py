"""Hypothesis 5: are larger policies enough?

Policies of further sizes, each from a π_sft of its own, with the same golden policy, preference
models and data. (§5.5, Fig. 10, 11, 14)
"""

import math

import numpy as np
import pandas as pd

from pagap_jax.study import gaps, statistics
from pagap_jax.study.arms import OFFLINE, ONLINE, SHUFFLED, Arm, Scale, varied
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.findings import Finding, finding
from pagap_jax.study.rows import Rows


def of_other_sizes(scale: Scale) -> tuple[Arm, ...]:
    """The three arms of each further size."""
    return tuple(
        varied(arm, size, size=size) for size in scale.sizes for arm in (ONLINE, OFFLINE, SHUFFLED)
    )


def larger_policies_peak_higher(rows: Rows) -> Finding:
    """The largest size against the smallest, online."""
    small, large = _extremes(rows)
    return finding(
        "larger policies peak higher",
        "The best policy of the largest size wins more often than the best of the smallest.",
        "Fig. 10, 14",
        "win rate of the best online checkpoint, largest minus smallest size",
        gaps.peak_gap(rows, {large: 1, small: -1}) if small != large else _NONE,
    )


def they_peak_at_a_similar_kl(rows: Rows) -> Finding:
    """'Similar' is within a factor of 2; one seed alone has no interval."""
    small, large = _extremes(rows)
    kl = statistics.peak(rows.checkpoints).pivot(index="seed", columns="arm", values="kl")
    gap = pd.Series(dtype=float)
    if small != large and {small, large} <= {*kl.columns}:
        gap = (math.log(2) - np.log(kl[large] / kl[small]).abs()).dropna()
    return finding(
        "they peak at a similar KL",
        "Policies of all sizes peak at a similar KL.",
        "Fig. 10",
        "log 2 minus the distance in log KL of both peaks, online",
        _without_interval(gap),
    )


def gap_to_shuffled_narrows(rows: Rows) -> Finding:
    """By the best possible performance relative to online's (Fig. 11)."""
    return finding(
        "the gap to shuffled narrows",
        "The larger the policy, the nearer shuffled comes to online.",
        "Fig. 11",
        "0.9 quantile of shuffled relative to online, largest minus smallest size",
        _without_interval(_growth(rows, "shuffled")),
    )


def gap_to_offline_narrows_less(rows: Rows) -> Finding:
    """The same, shuffled's growth minus offline's."""
    return finding(
        "the gap to offline narrows less",
        "With larger policies offline comes nearer to online less than shuffled does.",
        "Fig. 11",
        "growth of the relative 0.9 quantile with size, shuffled minus offline",
        _without_interval((_growth(rows, "shuffled") - _growth(rows, "offline")).dropna()),
    )


def _extremes(rows: Rows) -> tuple[str, str]:
    """Online's arm of the smallest and of the largest size."""
    frame = rows.checkpoints
    methods = statistics.methods(frame)
    sizes = frame[methods == "online"].sort_values("policy_parameters")["arm"]
    return (sizes.iloc[0], sizes.iloc[-1]) if len(sizes) else ("", "")


def _growth(rows: Rows, method: str) -> pd.Series:
    """Relative best possible performance at the largest minus that at the smallest size."""
    table = statistics.best_possible(rows.checkpoints)
    of_method = table[table["method"] == method].sort_values("policy_parameters")
    if of_method["policy_parameters"].nunique() < 2:
        return pd.Series(dtype=float)
    by_seed = of_method.groupby("seed")["relative"]
    return (by_seed.last() - by_seed.first()).dropna()


def _without_interval(effects: pd.Series) -> pd.DataFrame:
    """Effects by seed; one seed alone can't say how sure they are."""
    nothing = [math.nan] * len(effects)
    columns = {"seed": effects.index, "gap": effects.to_numpy(), "low": nothing, "high": nothing}
    return pd.DataFrame(columns)


_NONE = pd.DataFrame(columns=["seed", "gap", "low", "high"])
POLICY_SIZE = Experiment(
    name="policy_size",
    title="Hypothesis 5: policy size",
    question="Are larger policies enough to close the gap?",
    arms=lambda scale: (ONLINE, OFFLINE, SHUFFLED, *of_other_sizes(scale)),
    figures=("fig_10", "fig_11", "fig_14"),
    findings=(
        larger_policies_peak_higher,
        they_peak_at_a_similar_kl,
        gap_to_shuffled_narrows,
        gap_to_offline_narrows_less,
    ),
)
