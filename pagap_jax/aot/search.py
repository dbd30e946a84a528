"""The smallest slice that a job fits on, and what would help where it doesn't fit."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from pagap_jax.accelerators import Slice, slices
from pagap_jax.aot.command import Job, compile_job, hold
from pagap_jax.aot.compiling import Report
from pagap_jax.errors import ConfigError

# Fully sharded, the least that a chip has to hold; what the user says himself stays.
SEARCHED = ("PARAMETER_PARTITIONING_DIMS", "NUM_PARTITIONS", "NUM_MICROBATCHES")
NEXT_TO_FULL = 0.97  # of HBM; a prediction beyond it isn't tried


@dataclasses.dataclass(frozen=True)
class Found:
    """A slice, the settings with which the job fits on it, and what it then needs."""

    slice: Slice
    settings: dict[str, int]
    reports: list[Report]


def search(read: Callable[[dict], Job], accelerator: str, say: Callable[[str], None]) -> Found:
    """Tries the slices of a generation from the smallest on, with as few microbatches as fit.

    Args:
        read: the job with some macros set.
        say: is told of every attempt; each takes as long as a compilation.

    Raises:
        ConfigError: it fits on none.
    """
    for slice_ in slices(accelerator):
        for settings in _attempts(read, slice_):
            number: int | None = 1
            while number is not None:
                chosen = settings | ({"NUM_MICROBATCHES": number} if number > 1 else {})
                reports = compile_job(read(chosen), slice_)
                say(f"{slice_} {_shown(chosen)}: {_worst(reports)}")
                if all(report.fits for report in reports):
                    return Found(slice_, chosen, reports)
                number = _more_parts(read, settings, slice_, reports, number)
    raise ConfigError(f"{accelerator}: the job fits on none of its slices")


def _attempts(read: Callable[[dict], Job], slice_: Slice) -> Iterator[dict[str, int]]:
    """Fully sharded over as few partitions as leave each data shard a row; none if it can't fit."""
    partitions = 1
    while partitions <= slice_.chips:
        settings = {"PARAMETER_PARTITIONING_DIMS": 2, "NUM_PARTITIONS": partitions}
        try:
            held = hold(read(settings), slice_)
        except ConfigError:  # a batch that can't be spread so thinly
            partitions *= 2
            continue
        if held < NEXT_TO_FULL * slice_.accelerator.hbm * 2**30:
            yield settings
        return


def _more_parts(
    read: Callable[[dict], Job],
    settings: dict[str, int],
    slice_: Slice,
    reports: Sequence[Report],
    number: int,
) -> int | None:
    """The least number of microbatches that may fit, as temporaries shrink with their size."""
    worst = max(reports, key=lambda report: report.hbm["total"] / report.limit)
    held = worst.hbm["total"] - worst.hbm["temporaries"]
    job = read(settings)
    if "num_microbatches" not in job.arguments:
        return None
    parts = 2 * number
    while job.arguments["batch_size"] % parts == 0:
        if held + worst.hbm["temporaries"] * number / parts < NEXT_TO_FULL * worst.limit:
            try:
                hold(read(settings | {"NUM_MICROBATCHES": parts}), slice_)
            except ConfigError:
                return None
            return parts
        parts *= 2
    return None


def advice(read: Callable[[dict], Job], slice_: Slice, reports: Sequence[Report]) -> list[str]:
    """The three settings that would save most, by what they would save a chip.

    What is held is counted anew for each setting; that temporaries are halved with the batch is
    an estimate.
    """
    job, worst = read({}), max(reports, key=lambda report: report.hbm["total"] / report.limit)
    before = hold(job, slice_)
    number = job.arguments.get("num_microbatches")
    candidates: list[dict] = [
        {"PARAMETER_PARTITIONING_DIMS": 2},
        {"NUM_PARTITIONS": 2 * job.num_partitions},
    ]
    if "frozen_dtype" in job.arguments:
        candidates.append({"FROZEN_DTYPE": "'bfloat16'"})
    saved: dict[str, float] = {}
    for settings in candidates:
        try:
            saved[_shown(settings)] = before - hold(read(settings), slice_)
        except ConfigError:
            continue
    if number is not None:
        saved[f"NUM_MICROBATCHES={2 * number} (estimated)"] = worst.hbm["temporaries"] / 2
    best = sorted(saved.items(), key=lambda item: -item[1])[:3]
    return [f"{what}: {bytes_ / 2**30:.2f} GiB less" for what, bytes_ in best if bytes_ > 0]


def _shown(settings: dict) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _worst(reports: Sequence[Report]) -> str:
    worst = max(reports, key=lambda report: report.hbm["total"] / report.limit)
    used, limit = worst.hbm["total"] / 2**30, worst.limit / 2**30
    return f"{'fits' if worst.fits else 'too large'}, {used:.1f} of {limit:.1f} GiB"
