"""The least memory with which a job is known to run, from launch/needs.csv.

The table has a row for each job that TPUs' compiler was asked about, on the smallest slice it fits
on. launch/README.md says how to add one.
"""

import csv
import dataclasses
import functools
import re
from pathlib import Path

import gin

from pagap_jax.accelerators import Slice, parse_slice
from pagap_jax.configuration import Configuration
from pagap_jax.errors import ConfigError, DataError

TABLE = Path(__file__).with_name("needs.csv")


@dataclasses.dataclass(frozen=True)
class Size:
    """What decides how much memory a job needs, besides how it is spread.

    Attributes:
        job: pagap's name; 'align online' and 'align offline' are two.
        models: of T5 1.1's published sizes, by role: 'policy=xl proxy=large'.
        batch: rows of a step.
        prompt_length: tokens, as is `response_length`.
    """

    job: str
    models: str
    batch: int
    prompt_length: int
    response_length: int

    def is_at_least(self, other: "Size") -> bool:
        """Whether this is the other's job with batches and lengths no smaller."""
        return (
            (self.job, self.models) == (other.job, other.models)
            and self.batch >= other.batch
            and self.prompt_length >= other.prompt_length
            and self.response_length >= other.response_length
        )


@dataclasses.dataclass(frozen=True)
class Need:
    """A row of the table.

    Attributes:
        slice: the smallest that the job fits on.
        settings: macros with which it does.
        gib_a_chip: of HBM, as the compiler allocates it at the peak.
    """

    size: Size
    slice: Slice
    settings: str
    gib_a_chip: float

    @property
    def gib(self) -> float:
        """Of all chips together."""
        return self.gib_a_chip * self.slice.chips


@functools.cache
def read_needs(path: Path = TABLE) -> list[Need]:
    """The rows of a table.

    Raises:
        DataError: a row doesn't read; names file and line.
    """
    needs = []
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                lengths = (int(row["prompt_length"]), int(row["response_length"]))
                size = Size(row["job"], row["models"], int(row["batch"]), *lengths)
                gib = float(row["gib_a_chip"])
                needs.append(Need(size, parse_slice(row["slice"]), row["settings"], gib))
            except (KeyError, TypeError, ValueError, ConfigError) as error:
                raise DataError(f"{path}:{number}: found {row}, expected a row: {error}") from error
    return needs


def size_of(job: str, configuration: Configuration, batch: int) -> Size | None:
    """The size of the job that gin was configured for last; None where it names no lengths."""
    text = configuration.operative_config_text()
    if job == "align":
        job = "align online" if re.search(r"^Online\.", text, re.M) else "align offline"
    found = re.findall(r"^(\w+)/t5_1_1\.size = '(\w+)'$", text, re.M)
    models = " ".join(f"{role}={size}" for role, size in sorted(set(found)))
    try:
        lengths = gin.query_parameter("%TASK_FEATURE_LENGTHS")
    except ValueError:
        return None
    return Size(job, models, batch, lengths["inputs"], lengths["targets"])


def check_room(size: Size, slice_: Slice, num_slices: int = 1) -> None:
    """Refuses a slice with less memory than the least that is known to do.

    Raises:
        ConfigError: what was found, and what fits.
    """
    known = [need for need in read_needs() if size.is_at_least(need.size)]
    room = slice_.chips * num_slices * slice_.accelerator.hbm
    if not known or room >= (least := min(known, key=lambda need: need.gib)).gib:
        return
    settings = f" with {least.settings}" if least.settings else ""
    raise ConfigError(
        f"--slice: found {slice_}, whose chips have {room:,.1f} GiB, expected at least"
        f" {least.gib:,.1f}: the least that {size.job} ({size.models}) is known to need"
        f" ({least.slice}{settings}; {TABLE.parent.name}/{TABLE.name})"
    )
