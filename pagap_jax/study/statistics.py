"""From rows to what is best: peaks, frontiers, win rates in bins of KL, means over seeds.

Wherever a checkpoint is chosen for its win rate, the choice looks at one half of the prompts and
the number comes from the other half: a maximum over checkpoints of a noisy rate is biased upwards,
most for the arm with most of them. Functions take the rows of one study.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import special

KL_BINS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, math.inf)
KL_LIMITS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
RATE = "win_rate_report"


@dataclasses.dataclass(frozen=True)
class SeedSummary:
    """A quantity over seeds; what needs two seeds is NaN with one, everything is NaN with none."""

    mean: float
    se: float  # standard error of the mean
    low: float  # 95 % interval of the mean (Student's t)
    high: float
    p_one_sided: float  # of a mean this high or higher if the true mean were 0
    seeds: int


def summarize_seeds(values: Iterable[float]) -> SeedSummary:
    """Mean, standard error and one-sided t test against 0; NaN values count as no seed."""
    array = np.asarray(list(values), dtype=float)
    array = array[~np.isnan(array)]
    seeds, nan = len(array), math.nan
    if seeds < 2:
        mean = float(array[0]) if seeds else nan
        return SeedSummary(mean, nan, nan, nan, nan, seeds)
    mean = float(array.mean())
    se = float(array.std(ddof=1)) / math.sqrt(seeds)
    reach = float(special.stdtrit(seeds - 1, 0.975)) * se
    t = mean / se if se else math.copysign(math.inf, mean) if mean else nan
    p = float(special.stdtr(seeds - 1, -t))
    return SeedSummary(mean, se, mean - reach, mean + reach, p, seeds)


def select_best(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The checkpoint of each group with the highest `win_rate_select`, as its whole row.

    Ties go to the smaller KL, then to run and step in their order, so that the choice never looks
    at the half that is reported. Groups come out sorted; rows without a win rate can't be chosen.
    """
    best = ranked(frame).groupby(list(by), sort=False).head(1)
    return best.sort_values(list(by), kind="stable", ignore_index=True)


def ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """The checkpoints that can be chosen, the best first."""
    return frame.dropna(subset=["win_rate_select", RATE]).sort_values(
        ["win_rate_select", "kl", "run", "step"], ascending=[False, True, True, True], kind="stable"
    )


def peak(frame: pd.DataFrame) -> pd.DataFrame:
    """The best checkpoint of each seed and arm over all its runs and steps (§2.1, Fig. 1)."""
    return select_best(frame, ["seed", "arm"])


def best_in_kl_bins(frame: pd.DataFrame, bins: Sequence[float] = KL_BINS) -> pd.DataFrame:
    """The best checkpoint of each seed and arm in each bin kl_low < KL <= kl_high.

    A checkpoint at KL 0 is the SFT policy, no arm's merit, and belongs to no bin.
    """
    return select_best(_with_kl_bins(frame, bins), ["seed", "arm", "kl_low", "kl_high"])


def best_by_kl_bin(frame: pd.DataFrame, bins: Sequence[float] = KL_BINS) -> pd.DataFrame:
    """`best_in_kl_bins` averaged over seeds: one row per arm and bin, see `mean_over_seeds`.

    A column `checkpoints` counts those that there were to choose from.
    """
    by = ["arm", "kl_low", "kl_high"]
    counts = _with_kl_bins(frame, bins).groupby(by).size().to_dict()
    table = mean_over_seeds(best_in_kl_bins(frame, bins), by)
    keys = table[by].itertuples(index=False, name=None)
    return table.assign(checkpoints=[counts[key] for key in keys])


def best_up_to_kl(frame: pd.DataFrame, kls: Sequence[float] = KL_LIMITS) -> pd.DataFrame:
    """The best checkpoint of each seed and arm among those with KL <= kl_limit."""
    parts = [frame[frame["kl"] <= limit].assign(kl_limit=float(limit)) for limit in kls]
    return select_best(pd.concat(parts), ["seed", "arm", "kl_limit"])


def win_rate_up_to_kl(frame: pd.DataFrame, kls: Sequence[float] = KL_LIMITS) -> pd.DataFrame:
    """`best_up_to_kl` averaged over seeds: one row per arm and limit, see `mean_over_seeds`."""
    return mean_over_seeds(best_up_to_kl(frame, kls), ["arm", "kl_limit"])


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
        over_seeds = summarize_seeds(group[RATE])
        low, high = max(0.0, over_seeds.low), min(1.0, over_seeds.high)
        if over_seeds.seeds == 1:
            low, high = (float(group[f"{RATE}_{end}"].iloc[0]) for end in ("low", "high"))
        measures = (over_seeds.mean, over_seeds.se, low, high, over_seeds.seeds)
        rows.append((*key, float(group["kl"].mean()), *measures))
    return pd.DataFrame(rows, columns=[*by, "kl", "win_rate", "se", "low", "high", "seeds"])


def methods(frame: pd.DataFrame) -> pd.Series:
    """Arms without the policy's size: 'online, xl' at size 'xl' is 'online'."""
    pairs = zip(frame["arm"], frame["policy_size"], strict=True)
    names = [arm.removesuffix(f", {size}") for arm, size in pairs]
    return pd.Series(names, frame.index, dtype=object)


def best_possible(frame: pd.DataFrame, reference: str = "online") -> pd.DataFrame:
    """Best possible performance as Fig. 11 and 14 define it.

    A setting counts where the method was run with it at every size: a size with a wider sweep would
    look better for that alone.

    Returns:
        seed, method, policy_size, policy_parameters, quantile (0.9, of the win rates over all
        prompts of every checkpoint and hyper-parameter of a method at a size), relative (divided by
        that of `reference` at the size; NaN without it).
    """
    by = ["seed", "method", "policy_size", "policy_parameters"]
    setting = ["method", "learning_rate", "beta", "train_steps"]
    named = frame.assign(method=methods(frame))
    sizes = named.groupby("method")["policy_size"].transform("nunique")
    everywhere = named.groupby(setting)["policy_size"].transform("nunique") == sizes
    grouped = named[everywhere].groupby(by)["win_rate"]
    table = grouped.quantile(0.9).rename("quantile").reset_index()
    references = table[table["method"] == reference].set_index(["seed", "policy_size"])["quantile"]
    keys = pd.MultiIndex.from_frame(table[["seed", "policy_size"]])
    found = pd.Series(references).reindex(keys).to_numpy()
    return table.assign(relative=table["quantile"] / found)


def run_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and run: its peak, and every measure at its last step, mean over seeds.

    Returns:
        arm, run, seeds, pairs, data_order, loss, reduction, beta, learning_rate, train_steps,
        peak_win_rate (report half), peak_se, peak_kl, then at the last step final_win_rate (all
        prompts), final_kl, proxy_win_rate, accuracy, self_accuracy, chosen_log_prob_shift,
        response_length, share_finished, share_unique.
    """
    settings = ["pairs", "data_order", "loss", "reduction", "beta", "learning_rate", "train_steps"]
    last = ["proxy_win_rate", "accuracy", "self_accuracy", "chosen_log_prob_shift"]
    last += ["response_length", "share_finished", "share_unique"]
    by = ["arm", "run"]
    final = last_checkpoints(frame)
    final = final.rename(columns={"win_rate": "final_win_rate", "kl": "final_kl"})
    runs = final.groupby(by)
    table = runs[settings].first().assign(seeds=runs.size())
    peaks = mean_over_seeds(select_best(frame, ["seed", *by]), by)
    peaks = peaks.rename(columns={"win_rate": "peak_win_rate", "se": "peak_se", "kl": "peak_kl"})
    finals = runs[["final_win_rate", "final_kl", *last]].mean()
    kept = ["peak_win_rate", "peak_se", "peak_kl"]
    table = table.join(peaks.set_index(by)[kept]).join(finals).reset_index()
    return table.sort_values(["arm", "loss", "beta", "learning_rate", "train_steps", "run"])[
        [*by, "seeds", *settings, *kept, *finals.columns]
    ].reset_index(drop=True)


def last_checkpoints(frame: pd.DataFrame) -> pd.DataFrame:
    """The last step of each seed's runs."""
    by_step = frame.sort_values("step", kind="stable")
    return by_step.groupby(["study", "seed", "arm", "run"]).tail(1)


def _with_kl_bins(frame: pd.DataFrame, bins: Sequence[float]) -> pd.DataFrame:
    edges = np.asarray(bins, dtype=float)
    position = np.searchsorted(edges, frame["kl"].to_numpy(), side="left") - 1
    inside = (position >= 0) & (position < len(edges) - 1) & frame["kl"].notna().to_numpy()
    position = position[inside]
    return frame[inside].assign(kl_low=edges[position], kl_high=edges[position + 1])
