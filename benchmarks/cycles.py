"""What TPUs' compiler estimates that a program takes: cycles of XLA's own, bundles of kernels.

XLA notes estimated cycles beside each instruction; of a kernel it leaves, on request, the bundles
of instructions that a core issues one a cycle, in `*NAME*final_bundles.txt` of its dump. Both leave
out waiting for memory. What a kernel does in some steps of its grid alone (under `pl.when`) counts
once for all steps along the grid's last axis: ours do such things at most that often.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pagap_jax.aot.flops import inner_jaxprs
from pagap_jax.aot.hlo import Instruction, read_computations, trips_of

CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
OPERANDS = re.compile(r"operand_layout_constraints=\{(.*?)\}, (?:frontend|metadata|backend)")
BUNDLE = re.compile(r"\s*(?:0x[0-9a-f]+|\d+)\s+(?:LH|LB|LE|PB|PF|CT)?:\s*([> ]*)\{")
BOUNDS = re.compile(r"iteration_bounds: \(([\d, ]*)\)")
BRANCH = re.compile(r"= sbr\.rel \(.*?\) target = \$region(\d+)")
DELAY = 5  # bundles from a branch on that are issued whether it is taken or not
KERNEL = 'custom_call_target="tpu_custom_call"'


@dataclasses.dataclass
class Cost:
    """What a program takes, or a loop's body for one turn, by instructions' place in the model.

    Attributes:
        number: how many instructions are of that kind.
    """

    cycles: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bundles: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    number: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    @property
    def total(self) -> int:
        return sum(self.cycles.values()) + sum(self.bundles.values())

    def add(self, other: "Cost", times: int = 1) -> None:
        for mine, others in zip(vars(self).values(), vars(other).values(), strict=True):
            for kind, n in others.items():
                mine[kind] += n * times


def read_costs(
    text: str, kernels: Mapping[tuple[str, str], int] | None
) -> tuple[Cost, dict[str, tuple[int, Cost]]]:
    """A program's cost with its loops turned, and each loop's: its turns, and what one takes.

    Args:
        text: of the compiled program.
        kernels: bundles of a call, of `read_kernels`; None counts no bundles.
    """
    computations, entry = read_computations(text)
    bundles = collections.defaultdict(int) if kernels is None else kernels
    loops: dict[str, tuple[int, Cost]] = {}

    def cost_of(name: str) -> Cost:
        cost = Cost()
        for instruction in computations[name].values():
            if instruction.opcode == "while":
                turns = trips_of(computations[instruction.called("condition")])
                body = cost_of(instruction.called("body"))
                loops[instruction.called("body")] = (turns, body)
                cost.add(body, turns)
            elif instruction.opcode == "conditional":
                branches = instruction.rest.partition("branch_computations")[2].partition("}")[0]
                names = re.findall(r"%([\w.\-]+)", branches)
                cost.add(max(map(cost_of, names), key=lambda c: c.total))
            elif instruction.opcode == "call":
                cost.add(cost_of(instruction.called("to_apply")))
            else:
                _add(cost, instruction, bundles)
        return cost

    return cost_of(entry), dict(sorted(loops.items(), key=lambda x: -x[1][0] * x[1][1].total))


def _add(cost: Cost, instruction: Instruction, kernels: Mapping[tuple[str, str], int]) -> None:
    if KERNEL in instruction.rest:
        name = kernel_name(instruction.name)
        cost.bundles[name] += kernels[name, _shapes(instruction.rest)]
        cost.number[name] += 1
    elif estimate := CYCLES.search(instruction.rest):
        kind = kind_of(instruction)
        cost.cycles[kind] += int(estimate[1])
        cost.number[kind] += 1


def kernel_calls(jaxpr: Any) -> Iterator[Any]:
    """The equations of a traced program that call kernels."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            yield equation
            continue
        for inner in inner_jaxprs(equation.params):
            yield from kernel_calls(inner)


def read_kernels(dump: Path) -> dict[tuple[str, str], int]:
    """Bundles of a call, by kernel and the shapes that it is given.

    The compiler leaves a file for each compilation of a kernel: calls of the same shapes may have
    several, which differ in where operands lie; the dearest counts.
    """
    found: dict[tuple[str, str], int] = {}
    for path in dump.glob("*-schedule-analysis_final_bundles.txt"):
        text = path.read_text(errors="replace")
        if KERNEL not in text:
            continue
        time, instruction, *_ = path.name.split("-")
        (bundles,) = dump.glob(f"{time}-{instruction}-[0-9]*[0-9]-final_bundles.txt")
        key = (kernel_name(instruction), _shapes(text))
        found[key] = max(found.get(key, 0), bundles_of(bundles.read_text(errors="replace")))
    return found


def bundles_of(text: str) -> int:
    """Bundles outside of the loop over the grid, and those in it as often as it turns."""
    lines = [line for line in text.splitlines() if BUNDLE.match(line)]
    depths = [match[1].count(">") for line in lines if (match := BUNDLE.match(line))]
    assert depths and max(depths) <= 1, "a loop within a grid step has turns that nobody counts"
    bounds = BOUNDS.search(text)
    sizes = [int(size) for size in bounds[1].split(",")] if bounds else [1]
    skipped, steps = _skipped_bundles(lines), math.prod(sizes)
    return depths.count(0) + (depths.count(1) - skipped) * steps + skipped * steps // sizes[-1]


def _skipped_bundles(lines: list[str]) -> int:
    """Bundles that a branch in the loop jumps over, of branches with no other one inside."""
    places = {n: match[1] for n, line in enumerate(lines) if (match := BRANCH.search(line))}
    ends = {
        n: next((m for m in range(n, len(lines)) if f"empty region {region} " in lines[m]), 0)
        for n, region in places.items()
    }
    inner = {n: end for n, end in ends.items() if not any(n < other < end for other in places)}
    return sum(max(end - n - DELAY, 0) for n, end in inner.items())


def kernel_name(instruction: str) -> str:
    """'attention_forward' of 'attention_forward.12'."""
    return instruction.rstrip("0123456789.")


def _shapes(call: str) -> str:
    """Shapes of a kernel's operands, without layouts."""
    match = OPERANDS.search(call)
    return re.sub(r"\{[^}]*\}", "", match[1]) if match else ""


def kind_of(instruction: Instruction) -> str:
    """An instruction's place in the model, the same for all layers."""
    kind = instruction.name.rstrip("0123456789.")
    operation = re.search(r'op_name="([^"]*)"', instruction.rest)
    if not operation:
        return kind
    place = re.sub(r"layers_\d+", "layers", operation[1])
    return f"{'/'.join(place.split('/')[-2:])} ({kind})"
