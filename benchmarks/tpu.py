"""What a TPU's compiler makes of the jobs' programs, without a TPU: cycles, bundles, memory.

    make pods; PYTHONPATH=.tpu python -m benchmarks.tpu --bundles

Each program is compiled ahead of time for one chip of the topology, with attention's kernels and
with the plain formula. Cycles are the compiler's own estimates of XLA's instructions, bundles those
of the kernels' code (counted with --bundles), loops as often as they turn. They leave out waiting
for memory: good for comparing two ways to write the same, not for seconds. Of a v4 or v5p a chip's
two cores count as one, which share its work.
"""

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # no TPU is looked for: only its compiler is used

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from benchmarks import on_tpu
from benchmarks.cycles import Cost, kernel_calls, read_costs, read_kernels
from pagap_jax.accelerators import parse_slice
from pagap_jax.aot.compiling import devices_of, raise_if_out_of_memory
from pagap_jax.aot.programs import Program, Shapes, programs_of
from pagap_jax.errors import PagapError
from pagap_jax.jobs.align import Objective
from pagap_jax.jobs.inputs import TrainedJudge
from pagap_jax.jobs.pair_origins import Offline, Online
from pagap_jax.model.config import T5Config, t5_1_1
from pagap_jax.model.sharding import make_mesh, replicated
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.train.optimizer import adafactor

PROGRAMS = ("layer", "encoder", "sampler", "judge", "offline", "online")
TOP = 12  # kinds of instructions shown


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to compile: with kernels or by the formula, and what is computed again."""

    kernels: bool
    remat_policy: str

    def __str__(self) -> str:
        again = "" if self.remat_policy == "none" else f", recomputation {self.remat_policy}"
        return ("kernels" if self.kernels else "formula") + again

    @classmethod
    def parse(cls, text: str) -> "Way":
        name, _, remat = text.partition(":")
        if name not in ("kernels", "formula"):
            raise argparse.ArgumentTypeError(f"found {text!r}, expected kernels or formula:full")
        return cls(name == "kernels", remat or "none")


def main() -> None:
    """Compiles what is asked for and prints what the compiler says."""
    arguments = parse_arguments()
    if arguments.only_kernels:
        compile_kernels(arguments)
        return
    kernels = bundles_of_kernels() if arguments.bundles else None
    console, rows = Console(), []
    for name, way, program, mesh in programs(arguments):
        print(f"{name}, {way}: compiling", file=sys.stderr, flush=True)
        rows.append({"program": name, "way": str(way), **measure(program, mesh, kernels)})
        if arguments.json:
            print(json.dumps(rows[-1]), flush=True)
        elif arguments.details:
            show_details(rows[-1], console)
    if not arguments.json:
        show(rows, console)


def programs(arguments: argparse.Namespace) -> Iterator[tuple[str, Way, Program, Mesh]]:
    """All that are asked for, each way."""
    mesh = make_mesh(devices=devices_of(parse_slice(arguments.topology))[:1])
    for name in arguments.programs:
        for way in arguments.ways:
            yield name, way, program_of(name, way, mesh, arguments), mesh


def bundles_of_kernels() -> dict[tuple[str, str], int]:
    """Bundles of a call, by kernel and shapes.

    A process of its own compiles the kernels alone: what the compiler is to leave of them it would
    leave of every instruction of a program, gigabytes.
    """
    command = [sys.executable, "-m", "benchmarks.tpu", *sys.argv[1:], "--only_kernels"]
    with tempfile.TemporaryDirectory(prefix="bundles-") as dump:
        flags = f"--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true"
        environment = os.environ | {"LIBTPU_INIT_ARGS": flags}
        code = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode
        if code:  # -9: the kernel of this machine ended it, for its memory
            sys.exit(
                f"benchmarks.tpu: the compilation of the kernels alone ended with {code}: what it"
                " says is above; where there is nothing, this machine's memory was too small"
            )
        return read_kernels(Path(dump))


def compile_kernels(arguments: argparse.Namespace) -> None:
    """Each kernel of the programs by itself."""
    known = set()
    for name, _, program, mesh in programs(arguments):
        print(f"{name}: kernels", file=sys.stderr, flush=True)
        with jax.set_mesh(mesh):
            traced = program.function.trace(*program.arguments)
            for call in kernel_calls(traced.jaxpr.jaxpr):
                shapes = [x.aval for x in call.invars]
                if (key := (call.params["name"], str(shapes))) in known:
                    continue
                known.add(key)
                arrays = [
                    jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh))
                    for x in shapes
                ]
                try:
                    jax.jit(alone_of(call)).lower(*arrays).compile()
                except (jax.errors.JaxRuntimeError, MemoryError) as error:
                    raise_if_out_of_memory(call.params["name"], error)
                    raise


def alone_of(call: Any) -> Callable:
    """A program of one call of a kernel, by the kernel's name."""

    def kernel(*arrays: Any) -> Any:
        return call.primitive.bind(*arrays, **call.params)

    kernel.__name__ = call.params["name"]
    return kernel


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="v4:2x2x1", help="kind:chips, as libtpu names them")
    parser.add_argument("--size", choices=("small", "base", "large", "xl"), default="large")
    parser.add_argument("--layers", type=int, help="instead of the size's own: quick to compile")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--prompt_length", type=int, default=1024)
    parser.add_argument("--response_length", type=int, default=128)
    parser.add_argument("--programs", nargs="+", default=PROGRAMS, choices=PROGRAMS)
    parser.add_argument(
        "--ways", nargs="+", type=Way.parse, default=[Way(True, "none"), Way(False, "full")],
        help="kernels, formula, kernels:full, formula:full; after the colon what the backward pass"
        " finds saved",
    )  # fmt: skip
    parser.add_argument("--unrolled", action="store_true", help="layers without a scan over them")
    parser.add_argument("--bundles", action="store_true", help="count those of kernels, too")
    parser.add_argument("--only_kernels", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--details", action="store_true", help="the dearest instructions")
    parser.add_argument("--json", action="store_true", help="a line a program")
    return parser.parse_args()


def measure(
    program: Program, mesh: Mesh, kernels: Mapping[tuple[str, str], int] | None
) -> dict[str, Any]:
    """Compiles one program; what it needs, or why it isn't compiled."""
    start = time.perf_counter()
    with jax.set_mesh(mesh):
        try:
            compiled = program.function.lower(*program.arguments).compile()
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            return {"failed": (str(error) or "MemoryError").partition("\n")[0][:200]}
    memory = compiled.memory_analysis()
    total, loops = read_costs(compiled.as_text(), kernels)
    return {
        "cycles": sum(total.cycles.values()),
        "bundles": sum(total.bundles.values()),
        "kernels": {name: (total.number[name], n) for name, n in total.bundles.items()},
        "hbm_bytes": memory.peak_memory_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "seconds": time.perf_counter() - start,
        "dearest": dearest(total),
        "loops": {
            body: {"turns": turns, "cycles": sum(cost.cycles.values()),
                   "bundles": sum(cost.bundles.values()), "dearest": dearest(cost)}
            for body, (turns, cost) in loops.items()
        },
    }  # fmt: skip


def program_of(name: str, way: Way, mesh: Mesh, arguments: argparse.Namespace) -> Program:
    """The very program of a job, with shapes as arguments."""
    model = t5_1_1(arguments.size, dropout_rate=0.0, scan_layers=not arguments.unrolled)
    model = dataclasses.replace(model, kernels=way.kernels, remat_policy=way.remat_policy)
    if arguments.layers:
        layers = {f"num_{part}_layers": arguments.layers for part in ("encoder", "decoder")}
        model = dataclasses.replace(model, **layers)
    shapes = Shapes(mesh, arguments.prompt_length, arguments.response_length)
    judge = TrainedJudge(model, "", arguments.prompt_length)
    job = {
        "model": model, "judge": judge, "sampling": SamplingMethod(), "optimizer": adafactor(),
        "batch_size": arguments.prompts, "objective": Objective("ipo", 0.1),
        "frozen_dtype": "bfloat16",
    }  # fmt: skip
    if name == "layer":
        return layer(shapes, model, arguments.prompts)
    if name == "encoder":
        return encoder(shapes, model, arguments.prompts)
    if name in ("sampler", "judge"):
        return programs_of("sample_pairs", shapes, job)[name == "judge"]
    origin = Online(judge, SamplingMethod()) if name == "online" else Offline()
    return programs_of("align", shapes, job | {"pair_origin": origin})[0]


def encoder(shapes: Shapes, model: T5Config, prompts: int) -> Program:
    """The policy's, alone."""
    policy = shapes.policy(model)
    arguments = (shapes.params(model), shapes.tokens(prompts)["prompt"])
    return Program("encoder", jax.jit(lambda p, x: policy.encode(p, x).hidden), arguments, {})


def layer(shapes: Shapes, model: T5Config, prompts: int) -> Program:
    """An encoder layer's attention alone, forward and backward."""
    attend = functools.partial(on_tpu.attend, model.kernels)
    length, width = shapes.prompt_length, model.joined_heads
    array = shapes.spread((prompts, length, width), jnp.dtype(model.dtype))
    biases = jax.ShapeDtypeStruct(
        (model.num_heads, on_tpu.BUCKETS), jnp.float32, sharding=replicated(shapes.mesh)
    )
    arguments = (array, array, array, array, biases, shapes.spread((prompts, length), bool))
    return Program(
        "layer", jax.jit(functools.partial(on_tpu.with_gradients, attend)), arguments, {}
    )


def dearest(cost: Cost) -> list[tuple[str, int, int]]:
    """What, how many, cycles or bundles of them all."""
    of_all = (cost.cycles + cost.bundles).most_common(TOP)
    return [(kind, cost.number[kind], n) for kind, n in of_all]


def cells(row: dict[str, Any]) -> Iterator[str]:
    """A row of the table."""
    yield from (row["program"], row["way"])
    if "failed" in row:
        yield row["failed"]
        return
    millions = [row["cycles"], row["bundles"], row["cycles"] + row["bundles"]]
    yield from (f"{n / 1e6:,.1f}" for n in millions)
    yield from (f"{row[kind] / 2**30:.2f}" for kind in ("hbm_bytes", "temporary_bytes"))
    yield f"{row['seconds']:.0f}"


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """A line a program and way."""
    table = Table(
        "program", "attention", "million cycles", "million bundles", "both", "HBM, GiB",
        "temporaries, GiB", "compiled in, s",
    )  # fmt: skip
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)


def show_details(row: dict[str, Any], console: Console) -> None:
    """The dearest instructions of a program, and of a turn of each of its loops."""
    whole = {"program": {"turns": 1, **row}} if "loops" in row else {}
    for name, part in {**whole, **row.get("loops", {})}.items():
        both = part["cycles"] + part["bundles"]
        title = f"{row['program']}, {row['way']}: {name}, {part['turns']} times"
        table = Table("instructions", "number", "cycles or bundles", title=title)
        for what, number, n in part["dearest"]:
            table.add_row(what, str(number), f"{n:,}")
        table.add_section()
        table.add_row("all", "", f"{both:,}")
        console.print(table)


if __name__ == "__main__":
    try:
        main()
    except PagapError as refused:
        sys.exit(f"benchmarks.tpu: {refused}")
