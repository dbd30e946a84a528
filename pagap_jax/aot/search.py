"""A slice that a job fits on, the smallest first, and what would help where it doesn't fit."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from pagap_jax.accelerators import Slice
from pagap_jax.aot.compiling import Report, compile_job, hold, require_compiler
from pagap_jax.aot.job import Job, options_of
from pagap_jax.errors import ConfigError

NEXT_TO_FULL = 0.97  # of HBM; a prediction beyond it isn't tried
WORTH_SAYING = 2**27  # bytes that advice has to save
RECOMPUTING = {"REMAT_POLICY": "'full'"}
SAMPLING_PARTS = "NUM_SAMPLING_PARTS"
Settings = dict[str, Any]
Read = Callable[[Settings], Job]  # the job with some macros set


@dataclasses.dataclass(frozen=True)
class Found:
    """A slice, the settings that were tried on it last, and what the job then needs."""

    slice: Slice
    settings: Settings
    reports: list[Report]


def search(
    read: Read, slices: Sequence[Slice], said: Collection[str], say: Callable[[str], None]
) -> Found | None:
    """The first of the slices on which the job fits; the last that was tried if it fits on none.

    Parameters are fully sharded, over as few partitions as leave each data shard a row. An update
    that is too large is cut into 2, 4 or more microbatches; where no such number looks as if it
    would do, its activations are computed again.

    Args:
        said: macros that the user sets himself, which stay.
        say: called with a line for every slice and attempt, each of which is a compilation.

    Returns:
        None if nothing was tried, because what a chip has to hold is too large for all of them.
    """
    require_compiler()
    tried: Found | None = None
    for slice_ in slices:
        chosen = _spread(read, slice_, said, say)
        while chosen is not None:
            tried = Found(slice_, chosen, compile_job(read(chosen), slice_, all_programs=False))
            reports = tried.reports
            say(f"{slice_} {options_of(chosen)}: {_sentence(reports)}")
            if reports[-1].fits:
                return tried
            chosen = next(
                (
                    less
                    for less in _with_less(read, chosen, reports[-1], said)
                    if _leaves_room(_holds(read, less, slice_), slice_)
                ),
                None,
            )
    return tried


def _spread(
    read: Read, slice_: Slice, said: Collection[str], say: Callable[[str], None]
) -> Settings | None:
    """How to spread the job over a slice; None where that needs no compilation to fail."""
    partitions, refusal = 1, "has too few rows for it"
    while partitions <= slice_.chips:
        settings = {"PARAMETER_PARTITIONING_DIMS": 2, "NUM_PARTITIONS": partitions}
        settings = {name: value for name, value in settings.items() if name not in said}
        try:
            held = hold(read(settings), slice_)
        except ConfigError as error:  # a batch that can't be spread so thinly, say
            refusal = str(error)
            partitions = slice_.chips + 1 if "NUM_PARTITIONS" in said else 2 * partitions
            continue
        if _leaves_room(held, slice_):
            return settings
        limit = slice_.accelerator.hbm
        refusal = f"has to hold {held / 2**30:.1f} of {limit} GiB and works beside them"
        break
    say(f"{slice_}: {refusal}")
    return None


def _with_less(
    read: Read, settings: Settings, worst: Report, said: Collection[str]
) -> Iterator[Settings]:
    """What may fit where `settings` need `worst`, the cheapest first."""
    if "optimizer" not in worst.hbm:
        return  # only an update can be cut
    job = read(settings)
    if parts := fewest_microbatches(job, worst, said):
        yield settings | {"NUM_MICROBATCHES": parts}
    if job.arguments["model"].remat_policy == "none" and "REMAT_POLICY" not in said:
        yield {k: v for k, v in settings.items() if k != "NUM_MICROBATCHES"} | RECOMPUTING
    if worst.hbm.get("caches", 0.0) > WORTH_SAYING and SAMPLING_PARTS not in said:
        yield settings | {SAMPLING_PARTS: 2 * sampling_parts(job)}


def sampling_parts(job: Job) -> int:
    """Parts of a batch that an online job samples for in turn."""
    return job.arguments["pair_origin"].num_sampling_parts


def fewest_microbatches(job: Job, report: Report, said: Collection[str]) -> int | None:
    """The fewest with which an update may fit, as its activations shrink with a microbatch."""
    number = job.arguments.get("num_microbatches")
    if number is None or "NUM_MICROBATCHES" in said:
        return None
    gradients = report.hbm["parameters"]
    activations = activation_bytes(job, report)
    steady = report.hbm["total"] - report.hbm["temporaries"] + 2 * gradients  # those, and the sum
    parts = 2 * number
    while job.arguments["batch_size"] % parts == 0:
        if steady + activations * number / parts < NEXT_TO_FULL * report.limit:
            return parts
        parts *= 2
    return None


def activation_bytes(job: Job, report: Report) -> float:
    """Bytes of an update's temporaries but its gradients, or their sum over microbatches."""
    kept = 1 + (job.arguments.get("num_microbatches", 1) > 1)
    return max(0.0, report.hbm["temporaries"] - kept * report.hbm["parameters"])


def advice(read: Read, slice_: Slice, reports: Sequence[Report]) -> list[str]:
    """The three settings that would save most, by what they would save a chip.

    What is held is counted anew for each setting; how activations shrink is an estimate.
    """
    job, worst = read({}), fullest(reports)
    before = hold(job, slice_)
    candidates: list[tuple[Settings, float]] = [
        ({"PARAMETER_PARTITIONING_DIMS": 2}, 0.0),
        ({"NUM_PARTITIONS": 2 * job.num_partitions}, 0.0),
    ]
    if "frozen_dtype" in job.arguments:
        candidates.append(({"FROZEN_DTYPE": "'bfloat16'"}, 0.0))
    if "optimizer" in worst.hbm:
        model, activations = job.arguments["model"], activation_bytes(job, worst)
        if model.remat_policy == "none":  # one layer's, and what goes into each
            layers = max(model.num_encoder_layers, model.num_decoder_layers)
            candidates.append((RECOMPUTING, activations * (1 - 1 / layers)))
        if (caches := worst.hbm.get("caches", 0.0)) > WORTH_SAYING:
            candidates.append(({SAMPLING_PARTS: 2 * sampling_parts(job)}, caches / 2))
        if number := job.arguments.get("num_microbatches"):
            summed = worst.hbm["parameters"] if number == 1 else 0.0
            candidates.append(({"NUM_MICROBATCHES": 2 * number}, activations / 2 - summed))
    saved: list[tuple[float, str]] = []
    for settings, estimated in candidates:
        held = _holds(read, settings, slice_)
        if held is not None and (gain := before - held + estimated) > WORTH_SAYING:
            about = "about " if estimated else ""
            saved.append((gain, f"{options_of(settings)}: {about}{gain / 2**30:.2f} GiB less"))
    return [line for _, line in sorted(saved, reverse=True)[:3]]


def fullest(reports: Sequence[Report]) -> Report:
    """The program of a job that needs the largest share of a chip's memory."""
    return max(reports, key=lambda report: report.hbm["total"] / report.limit)


def _holds(read: Read, settings: Settings, slice_: Slice) -> float | None:
    """Bytes that a chip has to hold; None where the job has no such setting or can't be spread."""
    try:
        return hold(read(settings), slice_)
    except ConfigError:
        return None


def _leaves_room(held: float | None, slice_: Slice) -> bool:
    """Whether the bytes that a chip has to hold leave room for anything else."""
    return held is not None and held < NEXT_TO_FULL * slice_.accelerator.hbm * 2**30


def _sentence(reports: Sequence[Report]) -> str:
    worst = fullest(reports)
    used, limit = worst.hbm["total"] / 2**30, worst.limit / 2**30
    return f"{'fits' if worst.fits else 'too large'}, {used:.1f} of {limit:.1f} GiB"
