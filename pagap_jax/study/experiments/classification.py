"""Hypothesis 3: is offline a better classifier, and a worse policy for it?

Accuracy along D_online, against win rate, and over training; App. E.1: on the policy's own
samples. (§5.3, Fig. 6 to 8)
"""

import math

import pandas as pd
from scipy import stats

from pagap_jax.study import gaps, statistics
from pagap_jax.study.arms import OFFLINE, ONLINE, SHUFFLED, Place, Scale
from pagap_jax.study.experiments.experiment import Experiment, Measurement
from pagap_jax.study.findings import Finding, finding
from pagap_jax.study.rows import Rows

ARMS = ("online", "shuffled", "offline")
# The paper: 0.60 to 0.70 offline, about 0.5 online. What lies below the middle is 'about 0.5'.
ABOUT_CHANCE = 0.55


def along_the_stream(scale: Scale) -> tuple[Measurement, ...]:
    """Fig. 6: proxy, online and offline policy on pairs of D_online."""
    checkpoint = f"checkpoints/{scale.late_step}"
    reads = {
        "STREAM_DIR": Place("online", "d_online"),
        "ONLINE_CHECKPOINT_DIR": Place("online", checkpoint),
        "OFFLINE_CHECKPOINT_DIR": Place("offline", checkpoint),
    }
    return (Measurement("rows/stream", "classify_stream", reads),)


def proxy_accuracy_falls(rows: Rows) -> Finding:
    """First half of the stream's steps minus the second half."""
    return finding(
        "proxy accuracy falls along D_online",
        "The further online has trained, the less often the proxy model agrees with the golden one"
        " on what it samples.",
        "Fig. 6",
        "accuracy on the first half of the steps minus that on the second half",
        _fall_along_stream(rows.stream[rows.stream["classifier"] == "proxy"]),
    )


def _fall_along_stream(stream: pd.DataFrame) -> pd.DataFrame:
    found = []
    for seed, frame in stream.groupby("seed", sort=True):
        ordered = frame.sort_values("step")
        halves = ordered.iloc[: len(ordered) // 2], ordered.iloc[(len(ordered) + 1) // 2 :]
        if any(half.empty for half in halves):
            continue
        rates, counts = zip(*(_pooled(half) for half in halves), strict=True)
        variance = sum(r * (1 - r) / n for r, n in zip(rates, counts, strict=True))
        reach = gaps.NORMAL_95 * math.sqrt(variance)
        gap = rates[0] - rates[1]
        found.append((seed, gap, gap - reach, gap + reach))
    return pd.DataFrame(found, columns=["seed", "gap", "low", "high"])


def _pooled(frame: pd.DataFrame) -> tuple[float, float]:
    """Accuracy over all pairs of some rows, and their number."""
    pairs = frame["accuracy_pairs"]
    return float((frame["accuracy"] * pairs).sum() / pairs.sum()), float(pairs.sum())


def offline_classifies_better(rows: Rows) -> Finding:
    """At the last step of the baselines."""
    return finding(
        "offline is the better classifier",
        "As a classifier of D_golden the offline policy is better than the online policy.",
        "Fig. 8",
        "accuracy on D_golden of offline minus online, last step of the baselines",
        gaps.of_measure(_last(rows), "accuracy", {"offline": 1, "online": -1}),
    )


def online_is_no_classifier(rows: Rows) -> Finding:
    """'About 0.5' is below 0.55."""
    found = gaps.of_measure(_last(rows), "accuracy", {"online": -1})
    return finding(
        "online classifies at about chance",
        "The online policy classifies D_golden at about 0.5 or less.",
        "Fig. 8",
        f"{ABOUT_CHANCE} minus online's accuracy on D_golden, last step of the baseline",
        gaps.shifted(found, ABOUT_CHANCE),
    )


def accuracy_does_not_predict_win_rate(rows: Rows) -> Finding:
    """Spearman's ρ over all checkpoints of the three baselines; 'predicts' is ρ above 0.5.

    With one seed the interval is Fisher's, as if checkpoints were drawn independently.
    """
    return finding(
        "accuracy doesn't predict win rate",
        "How well a policy classifies D_golden doesn't say how often it wins.",
        "Fig. 7",
        "0.5 minus Spearman's ρ of accuracy and win rate over the baselines' checkpoints",
        _lack_of_correlation(rows),
    )


def _lack_of_correlation(rows: Rows) -> pd.DataFrame:
    found = []
    frame = rows.baseline(ARMS)
    for seed, of_seed in frame.groupby("seed", sort=True):
        known = of_seed[["accuracy", "win_rate"]].dropna()
        if of_seed["arm"].nunique() < 2 or len(known) < 4 or (known.nunique() < 2).any():
            continue
        rho = float(stats.spearmanr(known["accuracy"], known["win_rate"]).statistic)
        reach = gaps.NORMAL_95 / math.sqrt(len(known) - 3)
        z = math.atanh(min(max(rho, -0.999999), 0.999999))
        low, high = math.tanh(z - reach), math.tanh(z + reach)
        found.append((seed, 0.5 - rho, 0.5 - high, 0.5 - low))
    return pd.DataFrame(found, columns=["seed", "gap", "low", "high"])


def online_does_not_classify_its_own(rows: Rows) -> Finding:
    """App. E.1, online."""
    return _no_self_classifier(rows, "online")


def offline_does_not_classify_its_own(rows: Rows) -> Finding:
    """App. E.1, offline."""
    return _no_self_classifier(rows, "offline")


def _no_self_classifier(rows: Rows, arm: str) -> Finding:
    found = gaps.of_measure(_last(rows), "self_accuracy", {arm: -1})
    return finding(
        f"{arm} classifies its own samples at chance",
        f"The {arm} policy classifies pairs that it sampled itself no better than chance.",
        "App. E.1",
        f"{ABOUT_CHANCE} minus {arm}'s accuracy on its own samples, last step of the baseline",
        gaps.shifted(found, ABOUT_CHANCE),
    )


def chosen_log_prob_falls(rows: Rows) -> Finding:
    """The arm of which it falls least."""
    last = _last(rows)
    column = "chosen_log_prob_shift"
    least = last.sort_values(column).groupby("seed").tail(1).assign(arm="least")
    arms = last.groupby("seed")["arm"].nunique()
    least = least[least["seed"].isin(arms[arms > 1].index)]
    return finding(
        "chosen log-prob falls",
        "The log-probability of chosen responses falls for every method.",
        "Fig. 8",
        "fall of mean log π(y_w) on D_golden, nats, of the baseline that falls least",
        gaps.of_measure(least, column, {"least": -1}, f"{column}_se"),
    )


def it_falls_most_offline(rows: Rows) -> Finding:
    """Offline against the mean of the others."""
    column = "chosen_log_prob_shift"
    return finding(
        "chosen log-prob falls most offline",
        "The log-probability of chosen responses falls most for offline.",
        "Fig. 8",
        "fall of mean log π(y_w) on D_golden, nats, offline minus online, last step of baselines",
        gaps.of_measure(_last(rows), column, {"offline": -1, "online": 1}, f"{column}_se"),
    )


def _last(rows: Rows) -> pd.DataFrame:
    """The baselines at their last steps."""
    return statistics.last_checkpoints(rows.baseline(ARMS))


CLASSIFICATION = Experiment(
    name="classification",
    title="Hypothesis 3: offline is a better classifier than policy",
    question="Does offline training make a better classifier, and a worse policy for it?",
    arms=lambda _: (ONLINE, OFFLINE, SHUFFLED),
    measurements=along_the_stream,
    figures=("fig_6", "fig_7", "fig_8"),
    findings=(
        proxy_accuracy_falls,
        offline_classifies_better,
        online_is_no_classifier,
        accuracy_does_not_predict_win_rate,
        online_does_not_classify_its_own,
        offline_does_not_classify_its_own,
        chosen_log_prob_falls,
        it_falls_most_offline,
    ),
)
