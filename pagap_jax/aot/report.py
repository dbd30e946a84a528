"""What the compiler said, for people and for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pagap_jax.accelerators import Slice
from pagap_jax.aot.compiling import Report
from pagap_jax.aot.job import Job, options_of

GIB = 2**30


def as_json(
    reports: Sequence[Report],
    slice_: Slice,
    job: Job,
    settings: Mapping[str, Any],
    helpful: Sequence[str],
) -> str:
    """One object: the slices, whether all fit, each program's numbers a chip in bytes, FLOP, s."""
    programs = [
        {
            **dataclasses.asdict(report),
            "step_seconds": report.step_seconds,
            "flop_utilisation_bound": report.flop_utilisation_bound,
        }
        for report in reports
    ]
    fits = all(report.fits for report in reports)
    chips = job.num_slices * slice_.chips
    head = {"topology": str(slice_), "slices": job.num_slices, "chips": chips, "fits": fits}
    head |= {"settings": dict(settings), "would_help": list(helpful)}
    return json.dumps({**head, "programs": programs}, indent=1)


def show(
    reports: Sequence[Report],
    slice_: Slice,
    job: Job,
    settings: Mapping[str, Any],
    helpful: Sequence[str],
) -> None:
    """A table with a column a program; every number is one chip's.

    Args:
        settings: that a search found.
        helpful: what would, where it doesn't fit.
    """
    table = Table(
        title=f"{job.name} on {job.num_slices} x {slice_}: {job.num_slices * slice_.chips} chips,"
        f" {job.num_slices * slice_.hosts} hosts; numbers of one chip",
        title_justify="left",
    )
    table.add_column("")
    for report in reports:
        table.add_column(report.program, justify="right")
    kinds = dict.fromkeys(kind for report in reports for kind in report.hbm)
    for kind in [*(k for k in kinds if k != "total"), "total"]:
        held = (report.hbm.get(kind) for report in reports)
        table.add_row(f"{kind}, GiB", *("" if x is None else f"{x / GIB:.2f}" for x in held))
    table.add_row("of HBM, GiB", *(f"{report.limit / GIB:.2f}" for report in reports))
    table.add_row("fits", *("yes" if report.fits else "NO" for report in reports))
    table.add_section()
    table.add_row("TFLOP", *(f"{report.flops / 1e12:.3f}" for report in reports))
    for kind in dict.fromkeys(kind for report in reports for kind in report.collectives):
        given = (report.collectives.get(kind, 0.0) for report in reports)
        table.add_row(f"{kind}, GB", *(f"{x / 1e9:.3f}" for x in given))
    for kind in dict.fromkeys(kind for report in reports for kind in report.seconds):
        least = (report.seconds.get(kind) for report in reports)
        table.add_row(f"{kind}, ms about", *("" if x is None else f"{x * 1e3:.1f}" for x in least))
    bounds = (f"{r.flop_utilisation_bound:.0%}" if r.fits else "" for r in reports)
    table.add_row("model FLOP utilisation, at best", *bounds)
    table.add_row("compiled in, s", *(f"{report.compile_seconds:.0f}" for report in reports))
    fits = all(report.fits for report in reports)
    console = Console(width=max(100, Console().width))
    console.print(table)
    if settings:
        console.print(("found: " if fits else "tried: ") + options_of(settings))
    for line in helpful:
        console.print(f"would help: {line}")
