"""Hypothesis 1: does online win because its data cover more?

Offline learning on D_online, all that an online run sampled: in its order (which has to give the
online run again), shuffled, and shuffled within blocks. (§5.1, Fig. 4, 13, App. F and G)
"""

import numpy as np
import pandas as pd

from pagap_jax.study import gaps
from pagap_jax.study.arms import OFFLINE, ONLINE, SHUFFLED, Arm, Place, Scale
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.findings import Finding, finding
from pagap_jax.study.rows import Rows

REPLAYED = Arm(
    name="replayed",
    pairs_name="D_online",
    pairs=Place("online", "d_online"),
    settings={"DATA_ORDER": "recorded"},
    like="online",
    one_run=True,
    stores_reference=False,
)
MEASURES = ("kl", "win_rate", "accuracy", "chosen_log_prob_shift", "response_length")
TOLERANCE = 0.001  # App. F: within about 0.1 %


def blocks(scale: Scale) -> tuple[Arm, ...]:
    """D_online shuffled within blocks of some batches, lightly and heavily (App. G)."""
    return tuple(
        Arm(
            name=f"{word} shuffled",
            pairs_name="D_online",
            pairs=Place("online", "d_online"),
            settings={"SHUFFLE_BLOCK": block},
            like="online",
            one_run=True,
        )
        for word, block in zip(("lightly", "heavily"), scale.blocks, strict=bool(scale.blocks))
    )


def replay_is_the_online_run(rows: Rows) -> Finding:
    """0.1 % minus the largest relative difference of any measure of any checkpoint.

    The interval is the effect itself: nothing is drawn anew.
    """
    return finding(
        "replay reproduces online",
        "Offline learning on D_online in its order is the online run, within about 0.1 %.",
        "App. F",
        f"{TOLERANCE} minus the largest relative difference of {', '.join(MEASURES)} at any step",
        _replay_differences(rows),
    )


def _replay_differences(rows: Rows) -> pd.DataFrame:
    found = []
    for seed, frame in rows.baseline(("online", "replayed")).groupby("seed", sort=True):
        sides = [frame[frame["arm"] == arm].set_index("step") for arm in ("online", "replayed")]
        online, replayed = (side[list(MEASURES)] for side in sides)
        shared = online.index.intersection(replayed.index)
        if len(shared):
            scale = np.maximum(online.loc[shared].abs(), 1e-9)
            worst = float(((replayed.loc[shared] - online.loc[shared]).abs() / scale).max().max())
            found.append((seed, *[TOLERANCE - worst] * 3))
    return pd.DataFrame(found, columns=["seed", "gap", "low", "high"])


def shuffled_is_below_online(rows: Rows) -> Finding:
    """The same pairs in another order aren't as good as online."""
    return finding(
        "shuffled below online",
        "Offline learning on the shuffled D_online stays below online at equal KL.",
        "Fig. 4",
        "win rate of online minus shuffled, mean over the common range of log KL",
        gaps.budget_gap(rows, {"online": 1, "shuffled": -1}),
    )


def shuffled_adds_little(rows: Rows) -> Finding:
    """'Little' is less than half of the way from offline to online."""
    return finding(
        "shuffled adds little over offline",
        "Offline learning on the shuffled D_online is little better than on D_golden.",
        "Fig. 4",
        "middle of online and offline minus shuffled, at equal KL",
        gaps.budget_gap(rows, {"online": 0.5, "offline": 0.5, "shuffled": -1}),
    )


def light_shuffling_keeps_online(rows: Rows) -> Finding:
    """Nearer to online's baseline than to the uniformly shuffled one."""
    return finding(
        "light shuffling keeps online",
        "D_online shuffled within small blocks still gives online's result.",
        "Fig. 13",
        "lightly shuffled minus the middle of online and shuffled, at equal KL",
        gaps.budget_gap(rows, {"lightly shuffled": 1, "online": -0.5, "shuffled": -0.5}),
    )


def heavy_shuffling_loses_online(rows: Rows) -> Finding:
    """Nearer to the uniformly shuffled one than to online's baseline."""
    return finding(
        "heavy shuffling loses online",
        "D_online shuffled within large blocks no longer gives online's result.",
        "Fig. 13",
        "middle of online and shuffled minus heavily shuffled, at equal KL",
        gaps.budget_gap(rows, {"heavily shuffled": -1, "online": 0.5, "shuffled": 0.5}),
    )


DATA_COVERAGE = Experiment(
    name="data_coverage",
    title="Hypothesis 1: data coverage",
    question="Does online win because the data that it samples cover more?",
    arms=lambda scale: (ONLINE, OFFLINE, SHUFFLED, REPLAYED, *blocks(scale)),
    figures=("fig_4", "fig_13", "app_f"),
    findings=(
        replay_is_the_online_run,
        shuffled_is_below_online,
        shuffled_adds_little,
        light_shuffling_keeps_online,
        heavy_shuffling_loses_online,
    ),
)
