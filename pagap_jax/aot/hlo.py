"""Bytes that a compiled TPU program moves, read from its text: HBM and collectives by kind.

Instructions of a loop count as often as it turns, which the constant in its condition tells. What
the compiler keeps in on-chip memory (a layout with `S(n)`) isn't HBM traffic.
"""

import collections
import dataclasses
import math
import re

import numpy as np

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# What reads and writes nothing by itself.
FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "conditional",
        "call", "after-all", "partition-id", "opt-barrier", "async-start"}  # fmt: skip
# Which array of its shape an instruction makes that another one waits for.
STARTS = {"copy-start": 0, "all-gather-start": 1, "collective-permute-start": 1}
SIZES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2,
         "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}  # fmt: skip
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (.+?) ([a-z][a-z0-9\-]*)\((.*)")
_ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    rest: str  # operands and attributes

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.partition("), ")[0])

    def called(self, attribute: str) -> str:
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.rest)
        return found[1] if found else ""


@dataclasses.dataclass
class Traffic:
    """Of one chip, in bytes.

    Attributes:
        collectives: of the arrays that collectives are given (all-gather: that it makes), by kind.
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
    computations, entry = _computations(text)
    devices = re.search(r"num_partitions=(\d+)", text.partition("\n")[0])
    reader = _Reader(computations, chips_per_slice, int(devices[1]) if devices else 1)
    return reader.traffic_of(entry)


def _computations(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    found: dict[str, dict[str, Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name = header[2]
            entry = name if header[1] else entry
            found[name] = {}
        elif name and (match := _INSTRUCTION.match(line)):
            found[name][match[1]] = Instruction(*match.groups())
    return found, entry


@dataclasses.dataclass
class _Reader:
    """One program's computations."""

    computations: dict[str, dict[str, Instruction]]
    chips_per_slice: int
    devices: int

    def traffic_of(self, name: str) -> Traffic:
        """Of a computation, with what it calls."""
        total = Traffic()
        around = self.computations[name]
        for instruction in around.values():
            opcode = instruction.opcode
            if opcode == "while":
                trips = _trips(self.computations[instruction.called("condition")])
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
                total.hbm += _hbm(instruction, around, self.computations)
        return total

    def _collective(self, kind: str, instruction: Instruction, around: dict) -> Traffic:
        groups = replica_groups(instruction.rest, self.devices)
        size = groups.shape[1]
        given = sum(_bytes(around[o].shape) for o in instruction.operands if o in around)
        payload = given * size if kind == "all-gather" else given
        rings = {"collective-permute": 1.0, "all-reduce": 2.0 * (size - 1) / size}
        sent = payload * rings.get(kind, (size - 1) / size)
        slices = groups // self.chips_per_slice
        between = bool(np.any(slices != slices[:, :1]))
        collectives = collections.defaultdict(float, {kind: float(payload)})
        return Traffic(0.0, collectives, 0.0 if between else sent, sent if between else 0.0)


def _trips(condition: dict[str, Instruction]) -> int:
    """The largest whole number that the loop's condition holds."""
    numbers = [
        int(number[1])
        for i in condition.values()
        if i.opcode == "constant"
        and i.shape.startswith("s32[]")
        and (number := re.match(r"(\d+)\)", i.rest))
    ]
    return max(numbers, default=1)


def _bytes(shape: str, on_chip: bool = True) -> float:
    """Of all arrays of a shape; without those in on-chip memory where `on_chip` is False."""
    total = 0.0
    for kind, dims, layout in _ARRAY.findall(shape):
        if on_chip or "S(" not in layout:
            total += SIZES.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n)
    return total


def _hbm(instruction: Instruction, around: dict, computations: dict) -> float:
    """Read and written by one instruction, a slice of a large array counting as the slice."""
    written = _bytes(instruction.shape, on_chip=False)
    if instruction.opcode in STARTS:  # its shape holds what it reads, too
        arrays = list(_ARRAY.finditer(instruction.shape))
        written = _bytes(arrays[STARTS[instruction.opcode]][0], on_chip=False)
    if instruction.opcode == "dynamic-update-slice":
        written = 0.0
    if instruction.opcode in ("dynamic-slice", "gather"):
        return 2 * written
    fused = computations.get(instruction.called("calls"), {})
    read = 0.0
    for number, operand in enumerate(instruction.operands):
        whole = _bytes(around[operand].shape, on_chip=False) if operand in around else 0.0
        sliced = _sliced(fused, number) if whole and fused else None
        if sliced is None:
            read += whole
            continue
        read += sliced
        if whole == written:  # updated in place
            written = 0.0
    return read + written


def _sliced(fused: dict[str, Instruction], number: int) -> float | None:
    """Bytes that a fusion takes of a parameter by slices; None where it takes all of it."""
    parameter = next(
        (i for i in fused.values() if i.opcode == "parameter" and i.rest.startswith(f"{number})")),
        None,
    )
    if parameter is None:
        return None
    users = [i for i in fused.values() if parameter.name in i.operands]
    total = 0.0
    for user in users:
        is_first = user.operands[0] == parameter.name  # the others say where
        if user.opcode == "dynamic-slice" and is_first:
            total += _bytes(user.shape)
        elif user.opcode == "dynamic-update-slice" and is_first:
            update = fused.get(user.operands[1])
            total += _bytes(update.shape) if update else 0.0
        else:
            return None
    return total if users else None


def replica_groups(attributes: str, devices: int) -> np.ndarray:
    """[groups, members] of a collective's device numbers, from any of XLA's three notations."""
    if match := re.search(
        r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes
    ):
        to, dims, order = (_numbers(part) for part in match.groups())
        ids = np.arange(math.prod(dims)).reshape(dims)
        return ids.transpose(order).reshape(to) if order else ids.reshape(to)
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\](?:[^{]*?)\{([^}]*)\}", attributes):
        axes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
        grouped = re.findall(r"'([^']+)'", match[2])
        dims = [int(n) for n in axes.values()]
        names = list(axes)
        order = [i for i, n in enumerate(names) if n not in grouped] + [
            names.index(n) for n in grouped
        ]
        ids = np.arange(math.prod(dims)).reshape(dims).transpose(order)
        return ids.reshape(-1, math.prod(int(axes[n]) for n in grouped))
    if match := re.search(r"replica_groups=\{(\{.*?\})\}", attributes):
        return np.array([_numbers(group) for group in re.findall(r"\{([\d,]+)\}", match[1])])
    if pairs := re.search(r"source_target_pairs=\{(\{.*?\})\}", attributes):
        return np.array([_numbers(pair) for pair in re.findall(r"\{([\d,]+)\}", pairs[1])])
    return np.arange(devices)[None]  # nothing said, or {}: all of them


def _numbers(text: str | None) -> list[int]:
    return [int(n) for n in text.split(",")] if text else []
