"""Cloud TPUs: what a chip has at best, and which slices there are; no speed was measured.

One table for `pagap compile`, which asks whether a job fits, and for launch/, which asks for the
slice by the names that the engines use.
"""

import dataclasses
import math

from pagap_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One generation of chips.

    Attributes:
        hbm: GiB a chip that the compiler lets a program have (asked of libtpu by a program that is
            too large), a little else than what the chip is sold with.
        flops: bfloat16 FLOP/s a chip, at most.
        bandwidth: bytes/s between a chip and its HBM.
        interconnect: bytes/s of all links of a chip in a slice, one way.
        network: bytes/s a chip between slices, over the data-centre network.
        dimensions: of its tori, 2 or 3.
        chips_per_host: of a slice of several hosts.
        single_host: chips of the slices that one host serves.
        cores_in_name: what one chip counts in an accelerator type ('v5p-8' has four chips).
        type_prefix: of Cloud TPU's accelerator types.
        gke: the value of GKE's node label cloud.google.com/gke-tpu-accelerator.
    """

    name: str
    hbm: float
    flops: float
    bandwidth: float
    interconnect: float
    network: float
    dimensions: int
    chips_per_host: int
    single_host: tuple[int, ...]
    cores_in_name: int
    type_prefix: str
    gke: str


ACCELERATORS = {
    a.name: a
    for a in (
        Accelerator(
            "v4", 30.75, 275e12, 1.2e12, 300e9, 6.25e9, 3, 4, (4,), 2, "v4", "tpu-v4-podslice",
        ),
        Accelerator(
            "v5e", 15.75, 197e12, 0.8e12, 200e9, 3.1e9, 2, 4, (1, 4, 8), 1, "v5litepod",
            "tpu-v5-lite-podslice",
        ),
        Accelerator(
            "v5p", 95.74, 459e12, 2.76e12, 600e9, 6.25e9, 3, 4, (4,), 2, "v5p", "tpu-v5p-slice",
        ),
        Accelerator(
            "v6e", 31.25, 918e12, 1.6e12, 448e9, 12.5e9, 2, 4, (1, 4, 8), 1, "v6e", "tpu-v6e-slice",
        ),
    )
}  # fmt: skip

# Of the tori of two dimensions these alone exist; those of three are multiples of 2x2x1.
PLANES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBOIDS = (
    "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are wired to each other, e.g. v5p:4x4x4."""

    accelerator: Accelerator
    topology: str

    @property
    def chips(self) -> int:
        return math.prod(int(n) for n in self.topology.split("x"))

    @property
    def hosts(self) -> int:
        if self.chips in self.accelerator.single_host:
            return 1
        return self.chips // self.accelerator.chips_per_host

    @property
    def chips_per_host(self) -> int:
        return self.chips // self.hosts

    @property
    def accelerator_type(self) -> str:
        """As Cloud TPU names it: 'v5p-128' has 64 chips."""
        return f"{self.accelerator.type_prefix}-{self.chips * self.accelerator.cores_in_name}"

    def __str__(self) -> str:
        return f"{self.accelerator.name}:{self.topology}"


def slices(name: str) -> list[Slice]:
    """The usual slices of a generation, smallest first."""
    accelerator = _accelerator(name, name)
    names = PLANES if accelerator.dimensions == 2 else CUBOIDS
    return [Slice(accelerator, topology) for topology in names]


def slices_of(text: str) -> list[Slice]:
    """'v4,v5p:4x4x4' as slices, all of a generation or the one named, the smallest first.

    That is the one with fewest chips, and of equally many with the least HBM.

    Raises:
        ConfigError: as `parse_slice`.
    """
    found = [
        one
        for part in text.split(",")
        for one in (slices(part) if part in ACCELERATORS else [parse_slice(part)])
    ]
    return sorted(dict.fromkeys(found), key=lambda one: (one.chips, one.accelerator.hbm))


def parse_slice(text: str) -> Slice:
    """'v5p:4x4x4' as a slice, or as quotas name it: 'v5p-128', 'v5litepod-8', 'v5e-8'.

    Raises:
        ConfigError: no such generation, or none of its slices; names those that are.
    """
    if ":" not in text and "-" in text:
        return _slice_of_quota(text)
    name, _, topology = text.partition(":")
    accelerator = _accelerator(name, text)
    known = [s.topology for s in slices(name)]
    if topology not in known:
        raise ConfigError(
            f"topology {text!r}: found {topology or 'nothing'!r} after the colon, expected one of"
            f" {', '.join(known)}"
        )
    return Slice(accelerator, topology)


def _slice_of_quota(text: str) -> Slice:
    """Where several topologies have as many chips there is one that is usual."""
    name, _, size = text.rpartition("-")
    names = {a.type_prefix: a.name for a in ACCELERATORS.values()}
    name = names.get(name, name)
    of_size = {
        str(one.chips * one.accelerator.cores_in_name): one
        for one in slices(_accelerator(name, text).name)
    }
    if size not in of_size:
        raise ConfigError(
            f"slice {text!r}: found {size!r} after the hyphen, expected one of {', '.join(of_size)}"
        )
    return of_size[size]


def _accelerator(name: str, text: str) -> Accelerator:
    if name not in ACCELERATORS:
        raise ConfigError(
            f"accelerator {text!r}: found {name!r}, expected one of {', '.join(ACCELERATORS)},"
            " with a topology as in v5p:4x4x4"
        )
    return ACCELERATORS[name]
