"""The tables of the report that tell how a study was made: its gates, its data."""

from collections.abc import Iterator, Mapping, Sequence

from pagap_jax.study import report_page as page
from pagap_jax.study.context import Gate


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
