"""Bytes that a compiled TPU program moves: HBM, and collectives by kind.

Instructions of a loop count as often as it turns, which the constant in its condition tells. What
the compiler keeps in on-chip memory isn't HBM traffic.
"""

import collections
import dataclasses
import re

import numpy as np

from pagap_jax.aot.fusions import hbm_bytes
from pagap_jax.aot.hlo import (
    Computation,
    Instruction,
    bytes_of,
    read_computations,
    replica_groups,
    trips_of,
)

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# What reads and writes nothing by itself.
FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "conditional",
        "call", "after-all", "partition-id", "opt-barrier", "async-start"}  # fmt: skip


@dataclasses.dataclass
class Traffic:
    """Bytes that one chip moves.

    Attributes:
        collectives: operand bytes per collective kind (all-gather: output bytes).
        sent: that leave a chip for it in a ring, over the wires of a slice.
        sent_between_slices: the same, over the data-centre network.
    """

    hbm: float = 0.0
    collectives: dict[str, float] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(float)
    )
    sent: float = 0.0
    sent_between_slices: float = 0.0

    def add(self, other: "Traffic", times: float = 1.0) -> None:
        self.hbm += times * other.hbm
        self.sent += times * other.sent
        self.sent_between_slices += times * other.sent_between_slices
        for kind, payload in other.collectives.items():
            self.collectives[kind] += times * payload


def read_traffic(text: str, chips_per_slice: int) -> Traffic:
    """What `compiled.as_text()` says that each chip moves."""
    computations, entry = read_computations(text)
    devices = re.search(r"num_partitions=(\d+)", text.partition("\n")[0])
    reader = _Reader(computations, chips_per_slice, int(devices[1]) if devices else 1)
    return reader.traffic_of(entry)


@dataclasses.dataclass
class _Reader:
    """One program's computations."""

    computations: dict[str, Computation]
    chips_per_slice: int
    devices: int

    def traffic_of(self, name: str) -> Traffic:
        """Traffic of a computation, with what it calls."""
        total = Traffic()
        around = self.computations[name]
        for instruction in around.values():
            opcode = instruction.opcode
            if opcode == "while":
                trips = trips_of(self.computations[instruction.called("condition")])
                total.add(self.traffic_of(instruction.called("body")), float(trips))
            elif opcode == "conditional":
                branches = instruction.rest.partition("branch_computations")[2].partition("}")[0]
                names = re.findall(r"%([\w.\-]+)", branches)
                total.add(max(map(self.traffic_of, names), key=lambda t: t.hbm + t.sent))
            elif opcode in ("call", "async-start"):
                if to := instruction.called("to_apply") or instruction.called("calls"):
                    total.add(self.traffic_of(to))
            kind = next((kind for kind in COLLECTIVES if opcode in (kind, f"{kind}-start")), None)
            if kind:
                total.add(self._collective(kind, instruction, around))
            if opcode not in FREE and not opcode.endswith("-done"):
                total.hbm += hbm_bytes(instruction, around, self.computations)
        return total

    def _collective(self, kind: str, instruction: Instruction, around: Computation) -> Traffic:
        groups = replica_groups(instruction.rest, self.devices)
        size = groups.shape[1]
        given = sum(bytes_of(around[o].shape) for o in instruction.operands if o in around)
        payload = given * size if kind == "all-gather" else given
        rings = {"collective-permute": 1.0, "all-reduce": 2.0 * (size - 1) / size}
        sent = payload * rings.get(kind, (size - 1) / size)
        slices = groups // self.chips_per_slice
        between = bool(np.any(slices != slices[:, :1]))
        collectives = collections.defaultdict(float, {kind: float(payload)})
        return Traffic(0.0, collectives, 0.0 if between else sent, sent if between else 0.0)
