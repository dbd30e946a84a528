"""The text of a compiled program: its computations, sizes of shapes, turns of loops, groups."""

import dataclasses
import math
import re

import numpy as np

SIZES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2,
         "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}  # fmt: skip
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%([\w.\-]+) = (.+?) ([a-z][a-z0-9\-]*)\((.*)")
ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    rest: str  # operands and attributes
    is_root: bool

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.partition("), ")[0])

    def called(self, attribute: str) -> str:
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.rest)
        return found[1] if found else ""


Computation = dict[str, Instruction]


def read_computations(text: str) -> tuple[dict[str, Computation], str]:
    """All computations by name, and the name of the one that the program starts with."""
    found: dict[str, Computation] = {}
    entry = name = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name = header[2]
            entry = name if header[1] else entry
            found[name] = {}
        elif name and (match := _INSTRUCTION.match(line)):
            root, called, shape, opcode, rest = match.groups()
            found[name][called] = Instruction(called, shape, opcode, rest, bool(root))
    return found, entry


def trips_of(condition: Computation) -> int:
    """The largest whole number that the loop's condition holds."""
    numbers = [
        int(number[1])
        for i in condition.values()
        if i.opcode == "constant"
        and i.shape.startswith("s32[]")
        and (number := re.match(r"(\d+)\)", i.rest))
    ]
    return max(numbers, default=1)


def bytes_of(shape: str, on_chip: bool = True) -> float:
    """Bytes of all arrays of a shape; those in on-chip memory, `S(n)`, only where `on_chip`."""
    total = 0.0
    for kind, dims, layout in ARRAY.findall(shape):
        if on_chip or "S(" not in layout:
            total += SIZES.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n)
    return total


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
