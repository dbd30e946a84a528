"""The tables of the report."""

import math
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from pagap_jax.study import gaps, statistics
from pagap_jax.study import report_page as page
from pagap_jax.study.findings import Finding
from pagap_jax.study.rows import Rows

NOTHING = "–"
STARTS = ("sft", "golden")  # policies that no arm trained
ABOVE, BELOW = "online", "offline"  # what the tables at equal KL compare
COMPARED = {ABOVE: 1.0, BELOW: -1.0}


def trained(frame: pd.DataFrame) -> pd.Series:
    """Which rows an arm trained; 'sft, xl' is a start too."""
    return ~frame["arm"].str.split(", ").str[0].isin(STARTS)


def arms_of(frame: pd.DataFrame) -> list[str]:
    """The arms that were trained, the paper's two first."""
    found = frame[trained(frame)]["arm"].unique()
    first = [arm for arm in (ABOVE, BELOW) if arm in found]
    return first + sorted(set(found) - set(first))


def arms(frame: pd.DataFrame, names: Collection[str], task: str) -> str:
    """Each arm of an experiment in numbers."""
    found = frame[frame["arm"].isin(names)]
    best = statistics.mean_over_seeds(statistics.peak(found), ["arm"]).set_index("arm")
    lines = []
    for arm in arms_of(found):
        of_arm = found[found["arm"] == arm]
        first = of_arm.iloc[0]
        by_seed = of_arm.groupby("seed")["win_rate"].quantile(0.9)
        peak = best.loc[arm].to_dict() if arm in best.index else None
        lines.append(
            (
                arm,
                f"{first['pairs']}, {first['data_order']}",
                f"{first['loss']}, {first['reduction']}",
                str(first["policy_size"]),
                f"{of_arm['run'].nunique()}, {of_arm['seed'].nunique()}, {len(of_arm)}",
                _mean_and_se(peak) if peak else NOTHING,
                interval(peak["low"], peak["high"]) if peak else NOTHING,
                _number(peak["kl"], 1) if peak else NOTHING,
                _number(by_seed.mean()),
            )
        )
    caption = (
        f"Arms on {task}. Peak: win rate of the best checkpoint, chosen on the select half of the "
        "prompts and reported on the other, mean over seeds ± standard error, with its 95 % "
        "interval (over prompts where there is one seed) and its KL. The last column is the 0.9 "
        "quantile of the win rates over all checkpoints."
    )
    headers = ("arm", "pairs, order", "loss", "size", "runs, seeds, checkpoints", "peak", "95 %")
    return page.table(caption, (*headers, "at KL", "0.9 quantile"), lines, text_columns=(1, 2, 3))


def findings(found: Sequence[Finding]) -> str:
    """What the paper found, and what this study says of it."""
    rows = []
    for one in found:
        effect, over = NOTHING, ""
        if one.verdict != "not asked":
            sure = not math.isnan(one.low)
            bounds = _signed_interval(one.low, one.high) if sure else "no interval"
            effect = f"{one.effect:+.3f} {bounds}"
            over = f"{one.seeds} seeds" if one.over == "seeds" else f"{one.over}, one seed"
        by_seed = ", ".join(f"{value:+.3f}" for value in one.by_seed)
        rows.append((one.sentence, one.verdict, effect, over, one.source, one.measured, by_seed))
    caption = (
        "Sentences of the paper, measured on this study's rows. Effects have 95 % intervals: over "
        "seeds (Student's t), or over prompts where there is one seed, paired and clustered by "
        "prompt; such an interval says nothing of what another seed would give. Verdict, by a rule "
        "fixed before any run: it agrees where the whole interval is above 0, disagrees where all "
        "of it is below."
    )
    headers = ("the paper", "verdict", "effect", "interval over", "source", "measured", "by seed")
    kinds = ("agrees", "disagrees", "undecided")
    return page.table(caption, headers, rows, text_columns=(1, 3, 4, 5), cell_kinds=kinds)


def peaks(rows: Rows) -> str:
    """The best checkpoint of each seed and arm, and the difference of online and offline."""
    best = statistics.peak(rows.checkpoints)
    apart = gaps.peak_gap(rows, COMPARED).set_index("seed").to_dict("index")
    lines = []
    for row in best[best["arm"].isin(COMPARED)].to_dict("records"):
        seed = row["seed"]
        lines.append(
            (
                str(seed),
                row["arm"],
                row["run"],
                str(row["step"]),
                _number(row["kl"], 2),
                _number(row["win_rate_select"]),
                _number(row["win_rate_report"]),
                interval(row["win_rate_report_low"], row["win_rate_report_high"]),
                gap(apart[seed]) if row["arm"] == ABOVE and seed in apart else "",
            )
        )
    caption = (
        "The best checkpoint of each seed and arm over all its runs. It is chosen by its win rate "
        "on the select half of the prompts; the report half is the result, with Wilson's 95 % "
        "interval. The interval of a difference is over prompts, paired."
    )
    headers = ("seed", "arm", "run", "step", "KL", "select half", "report half", "95 %")
    return page.table(caption, (*headers, f"{ABOVE} − {BELOW}"), lines, text_columns=(1, 2))


def by_kl_bin(rows: Rows) -> str:
    """Best win rate in bins of KL, arm beside arm."""
    keys = ["kl_low", "kl_high"]
    frame = _compared_rows(rows)
    cells = statistics.best_by_kl_bin(frame)
    apart = gaps.seed_gaps(rows, statistics.best_in_kl_bins(frame), COMPARED, keys)
    labels = {key: _bin(*key) for key in zip(cells["kl_low"], cells["kl_high"], strict=True)}
    caption = (
        "Best checkpoint of each seed in a bin of KL (chosen on the select half, reported on the "
        "report half), mean ± standard error over seeds, with the 95 % interval: over seeds, or "
        "over prompts where there is one seed. In brackets the number of seeds and of checkpoints."
    )
    return _compared(caption, cells, apart, keys, labels)


def up_to_kl(rows: Rows) -> str:
    """Best win rate with at most some KL, arm beside arm."""
    frame = _compared_rows(rows)
    cells = statistics.win_rate_up_to_kl(frame)
    apart = gaps.seed_gaps(rows, statistics.best_up_to_kl(frame), COMPARED, ["kl_limit"])
    labels = {(limit,): f"up to {limit:g}" for limit in cells["kl_limit"]}
    caption = "The same for the best checkpoint with at most that KL. In brackets, seeds."
    return _compared(caption, cells, apart, ["kl_limit"], labels)


def quantiles(frame: pd.DataFrame) -> str:
    """The 0.9 quantile of each method's win rates at each policy size (Fig. 11, 14)."""
    table = statistics.best_possible(frame[trained(frame)])
    rows = []
    by = ["method", "policy_parameters", "policy_size"]
    for (method, parameters, size), group in table.groupby(by, sort=True):
        means = (_number(group[column].mean()) for column in ("quantile", "relative"))
        by_seed = ", ".join(f"{value:.3f}" for value in group["quantile"])
        rows.append((method, f"{size}, {parameters:,}", *means, by_seed))
    caption = (
        "The 0.9 quantile of the win rates (all prompts) over every checkpoint of a method at a "
        "policy size (with its number of parameters), of the settings that it was run with at "
        "every size; mean over seeds, and divided by that of online at the size."
    )
    headers = ("method", "size", "0.9 quantile", "relative to online", "by seed")
    return page.table(caption, headers, rows, text_columns=(1,))


def self_classification(frame: pd.DataFrame) -> str:
    """Accuracy on the policy's own samples at the end of each run (App. E.1)."""
    rows = []
    last = statistics.last_checkpoints(frame)
    for row in last[trained(last)].to_dict("records"):
        low, high = row["self_accuracy_low"], row["self_accuracy_high"]
        chance = "above" if low > 0.5 else "below" if high < 0.5 else "can't be told from it"
        cells = (row["run"], str(row["seed"]), str(row["step"]), _number(row["self_accuracy"]))
        rows.append((*cells, interval(low, high), str(row["self_accuracy_pairs"]), chance))
    caption = (
        "The policy as a classifier of pairs that it sampled itself, against the golden model's "
        "label, at the last step of each run (App. E.1). The paper finds no policy better than "
        "chance, 0.5."
    )
    headers = ("run", "seed", "step", "accuracy", "95 %", "pairs", "chance")
    return page.table(caption, headers, rows, text_columns=(6,))


def runs(frame: pd.DataFrame) -> str:
    """Every run, averaged over seeds."""
    rows = []
    for row in statistics.run_summary(frame).to_dict("records"):
        rows.append(
            (
                row["run"],
                f"{row['pairs']}, {row['data_order']}",
                f"{row['loss']}, {row['reduction']}",
                f"{row['beta']:g}",
                f"{row['learning_rate']:g}",
                str(row["train_steps"]),
                str(row["seeds"]),
                f"{_mean_and_se(row, 'peak_win_rate', 'peak_se')} @ {_number(row['peak_kl'], 1)}",
                f"{_number(row['final_win_rate'])} @ {_number(row['final_kl'], 1)}",
                _number(row["proxy_win_rate"]),
                _number(row["accuracy"]),
                _number(row["self_accuracy"]),
                _number(row["response_length"], 1),
                _number(row["share_finished"], 2),
                _number(row["share_unique"], 2),
            )
        )
    caption = (
        "Each run, mean over its seeds. Peak: win rate on the report half, with its standard "
        "error over seeds, at its KL. The rest is measured at the last step: win rate over all "
        "prompts at its KL, win rate as the proxy model sees it, accuracy as a classifier of "
        "D_golden and of own samples, tokens a response, share of responses that ended and that "
        "were unique."
    )
    settings = ("run", "pairs", "loss", "β", "rate", "steps", "seeds")
    measures = ("peak @ KL", "final @ KL", "proxy", "accuracy", "own", "length", "finished")
    return page.table(caption, (*settings, *measures, "unique"), rows, text_columns=(1, 2))


def interval(low: float, high: float) -> str:
    """Both ends, in brackets."""
    return f"[{low:.3f}, {high:.3f}]"


def gap(row: Mapping) -> str:
    """A difference with its interval: a row of `statistics.seed_gaps`."""
    return f"{row['gap']:+.3f} {_signed_interval(row['low'], row['high'])}"


def signed(value: float) -> str:
    """A difference without its interval."""
    return NOTHING if math.isnan(value) else f"{value:+.3f}"


def _signed_interval(low: float, high: float) -> str:
    return f"[{low:+.3f}, {high:+.3f}]"


def _compared_rows(rows: Rows) -> pd.DataFrame:
    frame = rows.checkpoints
    return frame[frame["arm"].isin(COMPARED)]


def _compared(
    caption: str, cells: pd.DataFrame, apart: pd.DataFrame, keys: list[str], labels: dict
) -> str:
    """A row per group, a column per arm, and the difference over seeds that have both."""
    arms = arms_of(cells)
    by_cell = {(row["arm"], *(row[k] for k in keys)): row for row in cells.to_dict("records")}
    rows = []
    for key in sorted(labels):
        found = [by_cell.get((arm, *key)) for arm in arms]
        if not any(found):
            continue
        here = apart[(apart[keys] == list(key)).all(axis=1)].to_dict("records")
        over_seeds = statistics.summarize_seeds(row["gap"] for row in here)
        told = f"{signed(over_seeds.mean)} ± {over_seeds.se:.3f} ({over_seeds.seeds})"
        if over_seeds.seeds < 2:
            told = gap(here[0]) if here else NOTHING
        rows.append((labels[key], *map(_cell, found), told))
    return page.table(caption, ("KL", *arms, f"{ABOVE} − {BELOW}"), rows)


def _cell(row: Mapping | None) -> str:
    if row is None:
        return NOTHING
    counts = [str(row[name]) for name in ("seeds", "checkpoints") if name in row]
    return f"{_mean_and_se(row)} {interval(row['low'], row['high'])} ({', '.join(counts)})"


def _mean_and_se(row: Mapping, mean: str = "win_rate", se: str = "se") -> str:
    return _number(row[mean]) + ("" if math.isnan(row[se]) else f" ± {row[se]:.3f}")


def _bin(low: float, high: float) -> str:
    return f"over {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def _number(value: float, digits: int = 3) -> str:
    return NOTHING if math.isnan(value) else f"{value:.{digits}f}"
