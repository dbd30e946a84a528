"""The tables of the report."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from pagap_jax.study import report_page as page
from pagap_jax.study import statistics
from pagap_jax.study.results import Gate

METHODS = ("online", "offline")
NOTHING = "–"


def peaks(frame: pd.DataFrame) -> str:
    """The best checkpoint of each seed and method, and their difference."""
    best = statistics.peak(frame)
    gaps = statistics.peak_gap(frame).set_index("seed").to_dict("index")
    rows = []
    for row in best[best["method"].isin(METHODS)].to_dict("records"):
        seed = row["seed"]
        rows.append(
            (
                str(seed),
                row["method"],
                row["run"],
                str(row["step"]),
                _number(row["kl"], 2),
                _number(row["win_rate_select"]),
                _number(row["win_rate_report"]),
                interval(row["win_rate_report_low"], row["win_rate_report_high"]),
                gap(gaps[seed]) if row["method"] == "online" and seed in gaps else "",
            )
        )
    caption = (
        "The best checkpoint of each seed and method over all its runs. It is chosen by its win "
        "rate on the select half of the prompts; the report half is the result, with Wilson's "
        "95 % interval. The interval of a difference (Newcombe) takes the two rates for "
        "independent; they share prompts, so it is rather too wide."
    )
    headers = ("seed", "method", "run", "step", "KL", "select half", "report half", "95 %")
    return page.table(caption, (*headers, "online − offline"), rows, text_columns=(1, 2))


def by_kl_bin(frame: pd.DataFrame) -> str:
    """Best win rate in bins of KL, method beside method."""
    keys = ["kl_low", "kl_high"]
    cells = statistics.best_by_kl_bin(frame)
    gaps = statistics.seed_gaps(statistics.best_in_kl_bins(frame), keys)
    labels = {key: _bin(*key) for key in zip(cells["kl_low"], cells["kl_high"], strict=True)}
    caption = (
        "Best checkpoint of each seed in a bin of KL (chosen on the select half, reported on the "
        "report half), mean ± standard error over seeds, with the 95 % interval: over seeds, or "
        "over prompts where there is one seed. In brackets the number of seeds and of checkpoints."
    )
    return _compared(caption, cells, gaps, keys, labels)


def up_to_kl(frame: pd.DataFrame) -> str:
    """Best win rate with at most some KL, method beside method."""
    cells = statistics.win_rate_up_to_kl(frame)
    gaps = statistics.seed_gaps(statistics.best_up_to_kl(frame), ["kl_limit"])
    labels = {(limit,): f"up to {limit:g}" for limit in cells["kl_limit"]}
    caption = "The same for the best checkpoint with at most that KL. In brackets, seeds."
    return _compared(caption, cells, gaps, ["kl_limit"], labels)


def quantiles(frame: pd.DataFrame) -> str:
    """The 0.9 quantile of each method's win rates (Fig. 11)."""
    table = statistics.ninety_percent_quantile(frame)
    rows = []
    for method in METHODS:
        of_method = table[table["method"] == method]
        means = (_number(of_method[column].mean()) for column in ("quantile", "relative"))
        by_seed = ", ".join(f"{value:.3f}" for value in of_method["quantile"])
        rows.append((method, *means, by_seed or NOTHING))
    caption = (
        "The 0.9 quantile of the win rates (all prompts) over every checkpoint and "
        "hyper-parameter of a method, mean over seeds, and divided by that of online. "
        "Corresponds to one policy size of Fig. 11 of the paper."
    )
    headers = ("method", "0.9 quantile", "relative to online", "by seed")
    return page.table(caption, headers, rows)


def runs(frame: pd.DataFrame) -> str:
    """Every run, averaged over seeds."""
    rows = []
    for row in statistics.run_summary(frame).to_dict("records"):
        rows.append(
            (
                row["run"],
                f"{row['loss']}, {row['reduction']}",
                f"{row['beta']:g}",
                f"{row['learning_rate']:g}",
                str(row["train_steps"]),
                str(row["seeds"]),
                f"{_mean_and_se(row, 'peak_win_rate', 'peak_se')} @ {_number(row['peak_kl'], 1)}",
                f"{_number(row['final_win_rate'])} @ {_number(row['final_kl'], 1)}",
                _number(row["proxy_win_rate"]),
                _number(row["accuracy"]),
                _number(row["response_length"], 1),
                _number(row["share_finished"], 2),
                _number(row["share_unique"], 2),
            )
        )
    caption = (
        "Each run, mean over its seeds. Peak: win rate on the report half, with its standard "
        "error over seeds, at its KL. The rest is measured at the last step: win rate over all "
        "prompts at its KL, win rate as the proxy model sees it, accuracy as a classifier of "
        "D_golden, tokens a response, share of responses that ended and that were unique."
    )
    settings = ("run", "loss", "β", "rate", "steps", "seeds")
    measures = ("peak @ KL", "final @ KL", "proxy", "accuracy", "length", "finished", "unique")
    return page.table(caption, (*settings, *measures), rows, text_columns=(1,))


def gates(entries: Sequence[Gate]) -> str:
    """What each stage had to reach, and whether it did."""
    rows = [
        (gate.name, f"{gate.measured:.4g}", gate.bar, "passed" if gate.passed else "missed")
        for gate in entries
    ]
    caption = "What each stage had to reach before the next one made sense."
    headers = ("gate", "measured", "bar", "result")
    kinds = ("passed", "missed")
    return page.table(caption, headers, rows, text_columns=(2, 3), cell_kinds=kinds)


def data(entries: Mapping) -> str:
    """What became of the data: nested counts and rates, one line each."""
    caption = "What was read, what was dropped and why, and how much was cut off."
    return page.table(caption, ("data", "value"), list(_flattened(entries)))


def interval(low: float, high: float) -> str:
    """Both ends, in brackets."""
    return f"[{low:.3f}, {high:.3f}]"


def gap(row: Mapping) -> str:
    """A difference with its interval: a row of `statistics.seed_gaps`."""
    return f"{row['gap']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def signed(value: float) -> str:
    """A difference without its interval."""
    return NOTHING if math.isnan(value) else f"{value:+.3f}"


def _compared(
    caption: str, cells: pd.DataFrame, gaps: pd.DataFrame, keys: list[str], labels: dict
) -> str:
    """A row per group, a column per method, and the difference over seeds that have both."""
    by_cell = {(row["method"], *(row[k] for k in keys)): row for row in cells.to_dict("records")}
    rows = []
    for key in sorted(labels):
        found = [by_cell.get((method, *key)) for method in METHODS]
        if not any(found):
            continue
        here = gaps.loc[(gaps[keys] == list(key)).all(axis=1), "gap"]
        over_seeds = statistics.summarize_seeds(here)
        spread = f" ± {over_seeds.se:.3f}" if over_seeds.seeds > 1 else ""
        difference = f"{signed(over_seeds.mean)}{spread} ({over_seeds.seeds})"
        cells_here = (_cell(row) for row in found)
        rows.append((labels[key], *cells_here, difference if over_seeds.seeds else NOTHING))
    return page.table(caption, ("KL", *METHODS, "online − offline"), rows)


def _cell(row: Mapping | None) -> str:
    if row is None:
        return NOTHING
    counts = [str(row[name]) for name in ("seeds", "checkpoints") if name in row]
    return f"{_mean_and_se(row)} {interval(row['low'], row['high'])} ({', '.join(counts)})"


def _flattened(entries: Mapping, above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in entries.items():
        name = f"{above} › {key}" if above else str(key)
        if isinstance(value, Mapping):
            yield from _flattened(value, name)
        elif isinstance(value, float):
            yield name, f"{value:.4g}"
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, f"{value:,}"
        else:
            yield name, str(value)


def _mean_and_se(row: Mapping, mean: str = "win_rate", se: str = "se") -> str:
    return _number(row[mean]) + ("" if math.isnan(row[se]) else f" ± {row[se]:.3f}")


def _bin(low: float, high: float) -> str:
    return f"over {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def _number(value: float, digits: int = 3) -> str:
    return NOTHING if math.isnan(value) else f"{value:.{digits}f}"
