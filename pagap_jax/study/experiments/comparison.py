"""Online against offline at equal KL (Fig. 1, §3): what the hypotheses set out to explain."""

import pandas as pd

from pagap_jax.study import gaps, statistics
from pagap_jax.study.arms import OFFLINE, ONLINE
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.findings import Finding, finding
from pagap_jax.study.rows import Rows


def online_is_above_at_equal_kl(rows: Rows) -> Finding:
    """The headline: `gaps.budget_gap`."""
    return finding(
        "online above offline at equal KL",
        "At equal KL from the SFT policy online has the higher win rate.",
        "Fig. 1",
        "win rate of online minus offline, mean over the common range of log KL",
        gaps.budget_gap(rows, {"online": 1, "offline": -1}),
    )


def online_peaks_higher(rows: Rows) -> Finding:
    """The best checkpoints of both, whatever their KL."""
    return finding(
        "online peaks higher",
        "The best online policy wins more often than the best offline policy.",
        "Fig. 1",
        "win rate of the best online checkpoint minus that of the best offline one",
        gaps.peak_gap(rows, {"online": 1, "offline": -1}),
    )


def online_falls_again(rows: Rows) -> Finding:
    """Over-optimisation, the paper's first finding, online."""
    return _falls_again(rows, "online")


def offline_falls_again(rows: Rows) -> Finding:
    """Over-optimisation offline."""
    return _falls_again(rows, "offline")


def _falls_again(rows: Rows, arm: str) -> Finding:
    return finding(
        f"{arm} falls again",
        f"Beyond some KL the win rate of {arm} falls again.",
        "Fig. 1",
        f"win rate of the best {arm} checkpoint minus that of the {arm} checkpoint with most KL",
        _fall(rows, arm),
    )


def _fall(rows: Rows, arm: str) -> pd.DataFrame:
    """Best checkpoint minus that of the largest KL; 0 where they are the same."""
    frame = rows.checkpoints[rows.checkpoints["arm"] == arm]
    furthest = frame.sort_values("kl", kind="stable").groupby("seed").tail(1)
    sides = [statistics.peak(frame).assign(arm="best"), furthest.assign(arm="furthest")]
    return gaps.seed_gaps(rows, pd.concat(sides), {"best": 1, "furthest": -1})


COMPARISON = Experiment(
    name="comparison",
    title="Online and offline at equal KL",
    question="Is online better than offline at equal KL from the SFT policy?",
    arms=lambda _: (ONLINE, OFFLINE),
    figures=("fig_1", "over_optimisation"),
    findings=(
        online_is_above_at_equal_kl,
        online_peaks_higher,
        online_falls_again,
        offline_falls_again,
    ),
)
