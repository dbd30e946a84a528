"""The tables of the report that tell how a study was made: its gates, its data."""

from collections.abc import Iterator, Mapping, Sequence

from pagap_jax.data.length_picture import draw_lengths
from pagap_jax.study import drawing
from pagap_jax.study import report_page as page
from pagap_jax.study.context import Gate
from pagap_jax.study.wording import STAGES, data_name

_SHOWN_BY_ITSELF = ("sources", "lengths", "dropped", "noted")  # of what was read


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


def what_was_read(entries: Mapping) -> Iterator[str]:
    """Sources, what was left out and lengths, for each data set that the first seed prepared.

    Args:
        entries: results of stages by seed; other seeds' data sets differ in the made-up task alone.
    """
    of_seed: Mapping = next(iter(entries.values()), {})
    for stage in ("pairs", "sft_pairs"):
        found = of_seed.get(stage, {})
        if "splits" not in found:
            continue
        rows = [
            (
                name,
                ", ".join(one["files"]),
                one["recognised"],
                f"{one['rows']:,}",
                f"{one['pairs']:,}",
            )
            for name, one in found.get("sources", {}).items()
        ]
        if rows:
            headers = ("source", "files", "recognised as", "rows", "pairs handed on")
            yield page.table(f"Files read for '{stage}'.", headers, rows, text_columns=(1, 2))
        reasons = [
            (reason, what, f"{number:,}")
            for what in ("dropped", "noted")
            for reason, number in found.get(what, {}).items()
        ]
        caption = f"What of '{stage}' was left out, or kept with a note."
        yield page.table(caption, ("reason", "what became of it", "pairs"), reasons, (1,))
        if "lengths" in found["splits"].get("train", {}):
            with drawing.style():
                drawn = draw_lengths(found)
            svg = drawing.inline_svg(drawn, f"lengths-{stage}", "Lengths of prompts and responses")
            yield page.figure(svg, f"Lengths in '{stage}' before anything was cut.", "narrow", "")


def data(entries: Mapping) -> str:
    """What became of the data: counts and rates, a column a seed."""
    named: dict[tuple[str, str], dict[str, str]] = {}
    for seed, stages in entries.items():
        for stage, result in stages.items():
            for path, value in _flattened(result):
                key = STAGES.get(stage, stage), data_name(path)
                named.setdefault(key, {})[seed] = value
    rows = [
        (stage, name, *(values.get(seed, "") for seed in entries))
        for (stage, name), values in named.items()
    ]
    caption = "Counts and rates of each stage that made data or judged them."
    return page.table(caption, ("stage", "what", *map(str, entries)), rows, text_columns=(1,))


def _flattened(
    entries: Mapping, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in entries.items():
        path = (*above, str(key))
        if key in _SHOWN_BY_ITSELF:
            continue
        if isinstance(value, Mapping):
            yield from _flattened(value, path)
        elif isinstance(value, bool):
            yield path, "yes" if value else "no"
        elif isinstance(value, float):
            yield path, f"{value:.4g}"
        elif isinstance(value, int):
            yield path, f"{value:,}"
        else:
            yield path, str(value)
