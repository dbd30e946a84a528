"""From rows to comparisons: peaks, win rate at equal KL, and how sure of them one can be.

Pure functions on the frame of `results.collect_rows`. Wherever a checkpoint is chosen for its win
rate, the choice looks at one half of the prompts and the number comes from the other half: a
maximum over checkpoints of a noisy rate is biased upwards, most for the method with most of them.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import special

KL_BINS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, math.inf)
KL_LIMITS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
_RATE = "win_rate_report"
_RATE_COLUMNS = [_RATE, f"{_RATE}_low", f"{_RATE}_high"]


@dataclasses.dataclass(frozen=True)
class SeedSummary:
    """A quantity over seeds; what needs two seeds is NaN with one, everything is NaN with none."""

    mean: float
    se: float  # standard error of the mean
    low: float  # 95 % interval of the mean (Student's t)
    high: float
    t: float
    p_one_sided: float  # of a mean this high or higher if the true mean were 0
    seeds: int


def summarize_seeds(values: Iterable[float]) -> SeedSummary:
    """Mean, standard error and one-sided t test against 0; NaN values count as no seed."""
    array = np.asarray(list(values), dtype=float)
    array = array[~np.isnan(array)]
    seeds, nan = len(array), math.nan
    if seeds < 2:
        mean = float(array[0]) if seeds else nan
        return SeedSummary(mean, nan, nan, nan, nan, nan, seeds)
    mean = float(array.mean())
    se = float(array.std(ddof=1)) / math.sqrt(seeds)
    reach = float(special.stdtrit(seeds - 1, 0.975)) * se
    t = mean / se if se else math.copysign(math.inf, mean) if mean else nan
    p = float(special.stdtr(seeds - 1, -t))
    return SeedSummary(mean, se, mean - reach, mean + reach, t, p, seeds)


def select_best(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The checkpoint of each group with the highest `win_rate_select`, as its whole row.

    Ties go to the smaller KL, then to run and step in their order, so that the choice never looks
    at the half that is reported. Groups come out sorted; rows without a win rate can't be chosen.
    """
    ranked = frame.dropna(subset=["win_rate_select", _RATE]).sort_values(
        ["win_rate_select", "kl", "run", "step"], ascending=[False, True, True, True], kind="stable"
    )
    best = ranked.groupby(list(by), sort=False).head(1)
    return best.sort_values(list(by), kind="stable", ignore_index=True)


def peak(frame: pd.DataFrame) -> pd.DataFrame:
    """The best checkpoint of each seed and method over all its runs and steps (§5, Fig. 1)."""
    return select_best(frame, ["seed", "method"])


def best_in_kl_bins(frame: pd.DataFrame, bins: Sequence[float] = KL_BINS) -> pd.DataFrame:
    """The best checkpoint of each seed and method in each bin kl_low < KL <= kl_high.

    A checkpoint at KL 0 is the SFT policy, no method's merit, and belongs to no bin.
    """
    return select_best(_with_kl_bins(frame, bins), ["seed", "method", "kl_low", "kl_high"])


def best_by_kl_bin(frame: pd.DataFrame, bins: Sequence[float] = KL_BINS) -> pd.DataFrame:
    """`best_in_kl_bins` averaged over seeds: one row per method and bin, see `mean_over_seeds`.

    A column `checkpoints` counts those that there were to choose from.
    """
    by = ["method", "kl_low", "kl_high"]
    counts = _with_kl_bins(frame, bins).groupby(by).size().to_dict()
    table = mean_over_seeds(best_in_kl_bins(frame, bins), by)
    keys = table[by].itertuples(index=False, name=None)
    return table.assign(checkpoints=[counts[key] for key in keys])


def best_up_to_kl(frame: pd.DataFrame, kls: Sequence[float] = KL_LIMITS) -> pd.DataFrame:
    """The best checkpoint of each seed and method among those with KL <= kl_limit."""
    parts = [frame[frame["kl"] <= limit].assign(kl_limit=float(limit)) for limit in kls]
    return select_best(pd.concat(parts), ["seed", "method", "kl_limit"])


def win_rate_up_to_kl(frame: pd.DataFrame, kls: Sequence[float] = KL_LIMITS) -> pd.DataFrame:
    """`best_up_to_kl` averaged over seeds: one row per method and limit, see `mean_over_seeds`."""
    return mean_over_seeds(best_up_to_kl(frame, kls), ["method", "kl_limit"])


def mean_over_seeds(best: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Averages chosen checkpoints over seeds.

    Args:
        best: one row per seed and group, as `select_best` gives it.
        by: columns that make a group.

    Returns:
        `by`, kl (mean over the chosen), win_rate, se, low, high, seeds. low and high bound 95 %:
        over seeds (Student's t, cut to [0, 1]) where there are several, else over prompts.
    """
    rows = []
    for key, group in best.groupby(list(by), sort=True):
        over_seeds = summarize_seeds(group[_RATE])
        low, high = max(0.0, over_seeds.low), min(1.0, over_seeds.high)
        if over_seeds.seeds == 1:
            low, high = (float(group[column].iloc[0]) for column in _RATE_COLUMNS[1:])
        measures = (over_seeds.mean, over_seeds.se, low, high, over_seeds.seeds)
        rows.append((*key, float(group["kl"].mean()), *measures))
    return pd.DataFrame(rows, columns=[*by, "kl", "win_rate", "se", "low", "high", "seeds"])


def seed_gaps(
    best: pd.DataFrame, by: Sequence[str] = (), above: str = "online", below: str = "offline"
) -> pd.DataFrame:
    """Difference of two methods' chosen checkpoints in each seed (and group) that has both.

    Returns:
        seed, `by`, above and below (win rates on the report half), gap, low, high. The 95 %
        interval is Newcombe's, from the two Wilson intervals. It takes the two rates for
        independent; on shared prompts they go up and down together, so it is rather too wide.
    """
    keys = ["seed", *by]
    sides = [best.loc[best["method"] == name, [*keys, *_RATE_COLUMNS]] for name in (above, below)]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_a", "_b")).sort_values(keys)
    rate_a, low_a, high_a = (both[f"{column}_a"].to_numpy() for column in _RATE_COLUMNS)
    rate_b, low_b, high_b = (both[f"{column}_b"].to_numpy() for column in _RATE_COLUMNS)
    gaps = both[keys].assign(above=rate_a, below=rate_b, gap=rate_a - rate_b)
    gaps["low"] = gaps["gap"] - np.hypot(rate_a - low_a, high_b - rate_b)
    gaps["high"] = gaps["gap"] + np.hypot(high_a - rate_a, rate_b - low_b)
    return gaps.reset_index(drop=True)


def peak_gap(frame: pd.DataFrame, above: str = "online", below: str = "offline") -> pd.DataFrame:
    """Peak of one method minus peak of another, seed by seed; columns as `seed_gaps`."""
    return seed_gaps(peak(frame), above=above, below=below)


def equal_kl_gap(
    frame: pd.DataFrame,
    low: float = 3.0,
    high: float = 6.0,
    above: str = "online",
    below: str = "offline",
) -> pd.DataFrame:
    """Difference of two methods at equal KL, seed by seed.

    In every bin of `KL_BINS` between low and high that both methods reach, their best checkpoints
    are compared; the gap of a seed is the mean over those bins.

    Returns:
        seed, above, below, gap, bins. A seed in which no bin has both methods keeps its row, with
        bins 0 and gap NaN, so that it can't be overlooked.
    """
    edges = sorted({low, high, *(edge for edge in KL_BINS if low < edge < high)})
    best = best_in_kl_bins(frame, edges)
    by_bin = seed_gaps(best, ["kl_low", "kl_high"], above, below).groupby("seed")
    means = by_bin[["above", "below", "gap"]].mean().assign(bins=by_bin.size())
    compared = frame[frame["method"].isin([above, below])]
    table = means.reindex(pd.Index(sorted(compared["seed"].unique()), name="seed"))
    return table.assign(bins=table["bins"].fillna(0).astype(int)).reset_index()


def ninety_percent_quantile(frame: pd.DataFrame, reference: str = "online") -> pd.DataFrame:
    """Best possible performance as Fig. 11 and 14 define it, for the rows of one policy size.

    Returns:
        seed, method, quantile (0.9, of the win rates over all prompts of every checkpoint and
        hyper-parameter of the method), relative (divided by that of `reference`; NaN without it).
    """
    quantiles = frame.groupby(["seed", "method"])["win_rate"].quantile(0.9)
    table = quantiles.rename("quantile").reset_index()
    references = table[table["method"] == reference].set_index("seed")["quantile"]
    return table.assign(relative=table["quantile"] / table["seed"].map(references))


def run_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per method and run: its peak, and every measure at its last step, mean over seeds.

    Returns:
        method, run, seeds, loss, reduction, beta, learning_rate, train_steps, peak_win_rate (report
        half), peak_se, peak_kl, then at the last step final_win_rate (all prompts), final_kl,
        proxy_win_rate, accuracy, chosen_log_prob_shift, response_length, share_finished,
        share_unique.
    """
    settings = ["loss", "reduction", "beta", "learning_rate", "train_steps"]
    last = ["proxy_win_rate", "accuracy", "chosen_log_prob_shift"]
    last += ["response_length", "share_finished", "share_unique"]
    by = ["method", "run"]
    final = frame.sort_values("step", kind="stable").groupby(["seed", *by]).tail(1)
    final = final.rename(columns={"win_rate": "final_win_rate", "kl": "final_kl"})
    runs = final.groupby(by)
    table = runs[settings].first().assign(seeds=runs.size())
    peaks = mean_over_seeds(select_best(frame, ["seed", *by]), by)
    peaks = peaks.rename(columns={"win_rate": "peak_win_rate", "se": "peak_se", "kl": "peak_kl"})
    finals = runs[["final_win_rate", "final_kl", *last]].mean()
    kept = ["peak_win_rate", "peak_se", "peak_kl"]
    table = table.join(peaks.set_index(by)[kept]).join(finals).reset_index()
    return table.sort_values(["method", "loss", "beta", "learning_rate", "train_steps", "run"])[
        [*by, "seeds", *settings, *kept, *finals.columns]
    ].reset_index(drop=True)


def _with_kl_bins(frame: pd.DataFrame, bins: Sequence[float]) -> pd.DataFrame:
    edges = np.asarray(bins, dtype=float)
    position = np.searchsorted(edges, frame["kl"].to_numpy(), side="left") - 1
    inside = (position >= 0) & (position < len(edges) - 1) & frame["kl"].notna().to_numpy()
    position = position[inside]
    return frame[inside].assign(kl_low=edges[position], kl_high=edges[position + 1])
