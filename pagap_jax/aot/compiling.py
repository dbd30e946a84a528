"""Compiles programs for a TPU slice that isn't there, and reads what the compiler made of them."""

import dataclasses
import functools
import importlib.util
import math
import os
import re
import time
from typing import Any

import jax
from jax.experimental import topologies

from pagap_jax.accelerators import Accelerator, Slice
from pagap_jax.aot.flops import count_flops
from pagap_jax.aot.job import Job
from pagap_jax.aot.programs import Program, Shapes, programs_of
from pagap_jax.aot.traffic import Traffic, read_traffic
from pagap_jax.errors import ConfigError, RetryError
from pagap_jax.model.sharding import make_mesh

# The compiler would ask which machine this is, and complain that nobody answers.
NOBODY_TO_ASK = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    # Nothing here uses a TPU: compilations may run beside each other, and after a killed one.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Two ways in which the compiler refuses; arguments and results are among what it calls temporaries.
_REFUSALS = (
    re.compile(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm"),
    re.compile(r"temporaries \(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Report:
    """What a program is on a slice; all numbers are those of one chip.

    Attributes:
        hbm: bytes by kind, and 'total'.
        limit: bytes of HBM that the compiler grants.
        flops: of matrix products, the program's divided by the chips.
        model_flops: the same without what is computed again.
        collectives: bytes by kind.
        seconds: estimates for its products, its HBM traffic and its collectives, each at the rate
            that the chip has at best; of a program that doesn't fit, for its products alone.
        compile_seconds: it took to compile, here.
    """

    program: str
    fits: bool
    hbm: dict[str, float]
    limit: float
    flops: float
    model_flops: float
    collectives: dict[str, float]
    seconds: dict[str, float]
    compile_seconds: float

    @property
    def step_seconds(self) -> float:
        """Where all three run beside each other without waiting: no forecast."""
        return max(self.seconds.values())

    @property
    def flop_utilisation_bound(self) -> float:
        """Share of the chip's FLOP/s that the model's FLOPs take where nothing ever waits."""
        compute = self.seconds["compute"] * self.model_flops / self.flops
        return compute / self.step_seconds


def require_compiler() -> None:
    """Raises ConfigError where libtpu isn't installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "TPUs' compiler isn't here: `make pods` installs it into .tpu, for PYTHONPATH"
        )


@functools.cache
def devices_of(slice_: Slice, num_slices: int = 1) -> list[Any]:
    """The slice's chips, as the compiler describes them.

    Raises:
        ConfigError: libtpu isn't installed, or doesn't take the slice.
    """
    require_compiler()
    for name, value in NOBODY_TO_ASK.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {}
    if slice_.accelerator.name == "v4":
        options["chip_config_name"] = "megacore"  # a chip's two cores as one device
    if slice_.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if num_slices > 1:
        options["num_slices"] = num_slices
    try:
        topology = topologies.get_topology_desc(
            platform="tpu", topology_name=str(slice_), **options
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{slice_}: TPUs' compiler didn't take it ({str(error).splitlines()[0]})"
        ) from error
    return list(topology.devices)


def compile_job(job: Job, slice_: Slice, all_programs: bool = True) -> list[Report]:
    """A report of each of its programs; to the first that doesn't fit if not `all_programs`."""
    shapes, programs = _programs(job, slice_)
    plain: list[Any] = [None] * len(programs)
    model = job.arguments.get("model")
    if model is not None and model.remat_policy != "none":
        arguments = {**job.arguments, "model": dataclasses.replace(model, remat_policy="none")}
        _, plain = _programs(dataclasses.replace(job, arguments=arguments), slice_)
    reports: list[Report] = []
    for program, without_remat in zip(programs, plain, strict=True):
        reports.append(compile_program(program, shapes, slice_, without_remat))
        if not (all_programs or reports[-1].fits):
            break
    return reports


def hold(job: Job, slice_: Slice) -> float:
    """Bytes that a chip has to hold at least: resident arrays plus gradients.

    Raises:
        ConfigError: the job's batch or the slice doesn't fit the partitioning.
    """
    _, programs = _programs(job, slice_)
    return max(
        sum(map(bytes_on_a_chip, program.held.values()))
        + ("optimizer" in program.held and bytes_on_a_chip(program.held["parameters"]))
        for program in programs
    )


def _programs(job: Job, slice_: Slice) -> tuple[Shapes, list[Program]]:
    # gin's bindings are those of the job that was read last: this one.
    mesh = make_mesh(devices=devices_of(slice_, job.num_slices))
    shapes = Shapes(mesh, job.prompt_length, job.response_length)
    return shapes, programs_of(job.name, shapes, job.arguments)


def compile_program(
    program: Program, shapes: Shapes, slice_: Slice, without_remat: Program | None = None
) -> Report:
    """Traces, compiles and reads one program.

    Args:
        without_remat: the program that computes nothing again, where that is another one.
    """
    start = time.perf_counter()
    with jax.set_mesh(shapes.mesh):
        traced = program.function.trace(*program.arguments)
        plain = traced
        if without_remat:
            plain = without_remat.function.trace(*without_remat.arguments)
        flops, model_flops = _flops(traced, shapes), _flops(plain, shapes, again=False)
        held = {kind: bytes_on_a_chip(tree) for kind, tree in program.held.items()}
        limit = float(slice_.accelerator.hbm * 2**30)
        try:
            compiled = traced.lower().compile()
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            used = next((x for x in (r.search(str(error)) for r in _REFUSALS) if x), None)
            if used is None:
                raise_if_out_of_memory(program.name, error)
                raise
            total, limit = (float(used[i]) * _UNITS[used[i + 1]] for i in (1, 3))
            total += max(0.0, sum(held.values()) - bytes_on_a_chip(program.arguments))
            return Report(
                program.name, False, _by_kind(held, program.caches, total), limit, flops,
                model_flops, {}, {"compute": flops / slice_.accelerator.flops},
                time.perf_counter() - start,
            )  # fmt: skip
    memory = compiled.memory_analysis()
    # Arguments and results are in the peak. The sum of the sizes that are told beside it can be a
    # third more than what the compiler allocates (by its own report, with `xla_dump_to`).
    total = float(memory.peak_memory_in_bytes + memory.generated_code_size_in_bytes)
    # What the job holds beside this program's own arguments takes room as well.
    total += max(0.0, sum(held.values()) - memory.argument_size_in_bytes)
    traffic = read_traffic(compiled.as_text(), slice_.chips)
    return Report(
        program.name, total <= limit, _by_kind(held, program.caches, total), limit, flops,
        model_flops, dict(traffic.collectives), _seconds(slice_.accelerator, flops, traffic),
        time.perf_counter() - start,
    )  # fmt: skip


def raise_if_out_of_memory(program: str, error: Exception) -> None:
    """Raises RetryError where the compiler ran out of this machine's memory, not of a chip's."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        said = (str(error) or "MemoryError").splitlines()[0]
        raise RetryError(
            f"{program}: TPUs' compiler ran out of this machine's memory ({said}). Let nothing else"
            " run beside it, or take a machine with more"
        ) from error


def _flops(traced: Any, shapes: Shapes, again: bool = True) -> float:
    """FLOPs of one chip."""
    return count_flops(traced.jaxpr.jaxpr, shapes.response_length, again) / shapes.mesh.size


def bytes_on_a_chip(tree: Any) -> float:
    """Bytes of the largest pieces of abstract arrays with shardings."""
    return float(
        sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )
    )


def _by_kind(held: dict[str, float], caches: float, total: float) -> dict[str, float]:
    kinds = {**held, "caches": caches}
    return {**kinds, "temporaries": max(0.0, total - sum(kinds.values())), "total": total}


def _seconds(accelerator: Accelerator, flops: float, traffic: Traffic) -> dict[str, float]:
    # As if a collective went along one dimension of the torus, whose wires are a share of all; one
    # that spans more of them takes less.
    wires = accelerator.interconnect / accelerator.dimensions
    return {
        "compute": flops / accelerator.flops,
        "hbm": traffic.hbm / accelerator.bandwidth,
        "interconnect": traffic.sent / wires + traffic.sent_between_slices / accelerator.network,
    }
