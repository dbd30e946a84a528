"""A slice that a job fits on, the smallest first, and what would help where it doesn't fit."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from pagap_jax.accelerators import Slice
from pagap_jax.aot.command import Job, compile_job, hold
from pagap_jax.aot.compiling import Report, devices_of
from pagap_jax.errors import ConfigError

NEXT_TO_FULL = 0.97  # of HBM; a prediction beyond it isn't tried
WORTH_SAYING = 2**27  # bytes that advice has to save
Settings = dict[str, Any]
Read = Callable[[Settings], Job]  # the job with some macros set


@dataclasses.dataclass(frozen=True)
class Found:
    """A slice, the settings with which the job fits on it, and what it then needs."""

    slice: Slice
    settings: Settings
    reports: list[Report]


def search(
    read: Read, slices: Sequence[Slice], said: Collection[str], say: Callable[[str], None]
) -> Found:
    """The first of the slices on which the job fits, with the fewest microbatches that will do.

    Parameters are fully sharded, over as few partitions as leave each data shard a row. What else
    might help (recomputation, say) isn't tried.

    Args:
        said: macros that the user sets himself, which stay.
        say: is told of every attempt; each takes as long as a compilation.

    Raises:
        ConfigError: it fits on none.
    """
    for slice_ in slices:
        for settings in _attempts(read, slice_, said):
            chosen: Settings | None = settings
            while chosen is not None:
                reports = compile_job(read(chosen), slice_)
                say(f"{slice_} {_shown(chosen)}: {_sentence(reports)}")
                if all(report.fits for report in reports):
                    return Found(slice_, chosen, reports)
                chosen = _in_more_parts(read, chosen, slice_, reports, said)
    tried = ", ".join(map(str, slices))
    raise ConfigError(f"the job fits on none of {tried} fully sharded; try REMAT_POLICY='full'")


def _attempts(read: Read, slice_: Slice, said: Collection[str]) -> Iterator[Settings]:
    """How to spread the job over a slice; nothing if what it holds is too large already."""
    devices_of(slice_, read({}).num_slices)  # what it refuses, no partitioning mends
    partitions = 1
    while partitions <= slice_.chips:
        settings = {"PARAMETER_PARTITIONING_DIMS": 2, "NUM_PARTITIONS": partitions}
        settings = {name: value for name, value in settings.items() if name not in said}
        try:
            held = hold(read(settings), slice_)
        except ConfigError:  # a batch that can't be spread so thinly
            partitions = slice_.chips + 1 if "NUM_PARTITIONS" in said else 2 * partitions
            continue
        if held < NEXT_TO_FULL * slice_.accelerator.hbm * 2**30:
            yield settings
        return


def _in_more_parts(
    read: Read, settings: Settings, slice_: Slice, reports: Sequence[Report], said: Collection[str]
) -> Settings | None:
    """The fewest microbatches that may fit, as temporaries shrink with their size."""
    job, worst = read(settings), fullest(reports)
    number = job.arguments.get("num_microbatches")
    if number is None or "NUM_MICROBATCHES" in said:
        return None
    held = worst.hbm["total"] - worst.hbm["temporaries"]
    parts = 2 * number
    while job.arguments["batch_size"] % parts == 0:
        if held + worst.hbm["temporaries"] * number / parts < NEXT_TO_FULL * worst.limit:
            chosen = settings | {"NUM_MICROBATCHES": parts}
            return chosen if _holds(read, chosen, slice_) is not None else None
        parts *= 2
    return None


def advice(read: Read, slice_: Slice, reports: Sequence[Report]) -> list[str]:
    """The three settings that would save most, by what they would save a chip.

    What is held is counted anew for each setting; that temporaries are halved with the batch is
    an estimate.
    """
    job, temporaries = read({}), fullest(reports).hbm["temporaries"]
    before = hold(job, slice_)
    candidates: list[tuple[Settings, float]] = [
        ({"PARAMETER_PARTITIONING_DIMS": 2}, 0.0),
        ({"NUM_PARTITIONS": 2 * job.num_partitions}, 0.0),
    ]
    if "frozen_dtype" in job.arguments:
        candidates.append(({"FROZEN_DTYPE": "'bfloat16'"}, 0.0))
    if number := job.arguments.get("num_microbatches"):
        candidates.append(({"NUM_MICROBATCHES": 2 * number}, temporaries / 2))
    saved: list[tuple[float, str]] = []
    for settings, estimated in candidates:
        held = _holds(read, settings, slice_)
        if held is not None and (gain := before - held + estimated) > WORTH_SAYING:
            about = "about " if estimated else ""
            saved.append((gain, f"{_shown(settings)}: {about}{gain / 2**30:.2f} GiB less"))
    return [line for _, line in sorted(saved, reverse=True)[:3]]


def fullest(reports: Sequence[Report]) -> Report:
    """Of a job's programs the one that needs the largest share of a chip's memory."""
    return max(reports, key=lambda report: report.hbm["total"] / report.limit)


def _holds(read: Read, settings: Settings, slice_: Slice) -> float | None:
    """Bytes that a chip has to hold; None where the batch can't be spread so."""
    try:
        return hold(read(settings), slice_)
    except ConfigError:
        return None


def _shown(settings: Settings) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _sentence(reports: Sequence[Report]) -> str:
    worst = fullest(reports)
    used, limit = worst.hbm["total"] / 2**30, worst.limit / 2**30
    return f"{'fits' if worst.fits else 'too large'}, {used:.1f} of {limit:.1f} GiB"
