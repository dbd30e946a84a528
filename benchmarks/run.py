"""How fast it is, in one run: `make bench`, or `python -m benchmarks.run --help`.

The machine's noise is in all programs alike: they take turns, medians are shown, and what counts
are the ratios to the plain reference (benchmarks/plain.py) and to what the machine could do.
"""

import argparse
import json
import statistics
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.counts import Machine, once
from benchmarks.measures import SIZES, Bench, Measure

RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Measures, shows a table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=3, help="calls of each program")
    parser.add_argument("--only", default="", help="measures whose name holds this")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--profile", help="folder: one call of each of our programs, for XProf")
    arguments = parser.parse_args()
    jax.config.update("jax_numpy_rank_promotion", "allow")  # the plain reference broadcasts
    console = Console()
    with console.status("what the machine can do"):
        machine = Machine.measured(2 * arguments.rounds + 1)
    console.print(
        f"{machine.flops / 1e9:.0f} GFLOP/s in matrix products, {machine.bandwidth / 1e9:.0f} GB/s"
    )
    bench = Bench(SIZES[arguments.size], machine)
    results = {}
    for measure in bench.measures():
        if arguments.only in measure.name:
            results[measure.name] = medians(measure, arguments.rounds, console)
            console.print(table(results[measure.name]))
            if arguments.profile:
                profile(measure, arguments.profile)
    rows = {name: row for measure in results.values() for name, row in measure.items()}
    content = {
        "size": arguments.size,
        "rounds": arguments.rounds,
        "machine": {"flops": machine.flops, "bytes_per_second": machine.bandwidth},
        "measures": rows,
    }
    arguments.results.write_text(json.dumps(content, indent=1) + "\n")


def medians(measure: Measure, rounds: int, console: Console) -> dict[str, dict]:
    """A row per program: seconds, rate, ratio to the plain one, share of the limit."""
    seconds: dict[str, list[float]] = {name: [] for name in measure.programs}
    with console.status(f"{measure.name}: compiling") as status:
        for program in measure.programs.values():
            jax.block_until_ready(program())
        for turn in range(rounds):
            for name, program in measure.programs.items():
                status.update(f"{measure.name}: {name}, round {turn + 1} of {rounds}")
                seconds[name].append(once(program))
    median = {name: statistics.median(times) for name, times in seconds.items()}
    unit, number = measure.per
    return {
        f"{measure.name}, {name}": {
            "seconds": seconds,
            "rate": number / seconds,
            "unit": f"{unit}/s",
            "ratio_to_reference": median["plain"] / seconds,
            "fraction_of_limit": measure.limits.get(name, measure.limit) / seconds,
        }
        for name, seconds in median.items()
    }


def table(rows: dict[str, dict]) -> Table:
    """The results as a table."""
    shown = Table("measure", "seconds", "rate", "times plain", "of the limit")
    for name, row in rows.items():
        shown.add_row(
            name,
            f"{row['seconds']:.3f}",
            f"{row['rate']:.4g} {row['unit']}",
            f"{row['ratio_to_reference']:.2f}",
            f"{row['fraction_of_limit']:.0%}",
        )
    return shown


def profile(measure: Measure, folder: str) -> None:
    """A trace of one call of our program; open it with XProf or Perfetto."""
    with jax.profiler.trace(f"{folder}/{measure.name.replace(' ', '_')}"):
        jax.block_until_ready(next(iter(measure.programs.values()))())


if __name__ == "__main__":
    main()
