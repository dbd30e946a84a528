"""What a TPU's compiler makes of the sampler and the align step, without a TPU.

    pip install -e '.[tpu]'; python -m benchmarks.tpu --topology v4:2x2x1

The programs are compiled ahead of time for one chip of the topology. Cycles are the compiler's own
estimates, summed over the instructions of the program outside of loops and of each loop's body: one
token of the sampler, one chunk of log-probs. They leave out what runs beside them: copies between
memories that are waited for elsewhere. Good for comparing two ways to write the same, not for
seconds.
"""

import argparse
import collections
import dataclasses
import json
import os
import re
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # no TPU is looked for: only its compiler is used

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from rich.console import Console
from rich.table import Table

from benchmarks import plain
from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.step import AlignStep, FrozenModels, Reduction
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.model.config import T5Config
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.train.optimizer import adafactor
from pagap_jax.train.state import TrainState

T5_1_1 = {  # emb_dim, num_heads, layers, mlp_dim
    "small": (512, 6, 8, 1024),
    "base": (768, 12, 12, 2048),
    "large": (1024, 16, 24, 2816),
}
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
TOP = 12  # instructions shown of a loop


def main() -> None:
    """Compiles what is asked for and prints what the compiler says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="v4:2x2x1", help="kind:chips, as libtpu names them")
    parser.add_argument("--size", choices=T5_1_1, default="large")
    parser.add_argument("--layers", type=int, help="instead of the size's own: quick to compile")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--prompt_length", type=int, default=1024)
    parser.add_argument("--response_length", type=int, default=128)
    parser.add_argument(
        "--programs", nargs="+", default=["sampler", "align"],
        choices=["sampler", "align", "plain_sampler"],
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    topology = topologies.get_topology_desc(platform="tpu", topology_name=arguments.topology)
    programs = Programs(arguments, SingleDeviceSharding(topology.devices[0]))
    for name in arguments.programs:
        report = describe(getattr(programs, name)().compile())
        if arguments.json:
            print(json.dumps({"program": name, **report}))
        else:
            show(name, report, Console())


class Programs:
    """The lowered programs of one size."""

    def __init__(self, arguments: argparse.Namespace, sharding: SingleDeviceSharding):
        """Shapes alone: nothing as large as a model is made."""
        emb_dim, num_heads, layers, mlp_dim = T5_1_1[arguments.size]
        layers = arguments.layers or layers
        config = T5Config(
            vocab_size=32128, emb_dim=emb_dim, num_heads=num_heads, num_encoder_layers=layers,
            num_decoder_layers=layers, mlp_dim=mlp_dim, mlp_activations=("gelu", "linear"),
            dropout_rate=0.0,
        )  # fmt: skip
        self.arguments, self.sharding = arguments, sharding
        self.policy = Policy(Transformer(config), 32100, arguments.response_length)
        token = jnp.ones((1, 1), jnp.int32)

        def init() -> Any:
            variables = self.policy.transformer.init(jax.random.key(0), token, token, token)
            return meta.unbox(variables["params"])

        self.params = self._on_chip(jax.eval_shape(init))
        self.key = self._on_chip(jax.eval_shape(lambda: jax.random.key(0)))
        self.prompt = self._tokens(arguments.prompt_length)

    def sampler(self) -> Any:
        """Two samples a prompt, the encoder included."""
        policy, method = self.policy, SamplingMethod()

        def sample(params, prompt, key):
            return policy.sample(params, policy.encode(params, prompt), key, 2, method).tokens

        return jax.jit(sample).lower(self.params, self.prompt, self.key)

    def plain_sampler(self) -> Any:
        """The same by benchmarks/plain.py, in bfloat16."""
        policy, response = self.policy, self.arguments.response_length
        params = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=self.sharding),
            self.params,
        )

        def sample(params, prompt, key):
            config = policy.transformer.config
            return plain.sample(params, config, prompt, key, 2, response, policy.sampleable_size)

        return jax.jit(sample).lower(params, self.prompt, self.key)

    def align(self) -> Any:
        """The offline step, the reference in it."""
        step = AlignStep(self.policy, offline_pairs, AlignmentLoss.IPO, Reduction.SUM, adafactor())
        opt_state = self._on_chip(jax.eval_shape(step.optimizer.init, self.params))
        count = self._on_chip(jax.ShapeDtypeStruct((), jnp.int32))
        response, rows = self._tokens(self.arguments.response_length), (self.arguments.prompts,)
        batch = {
            "prompt": self.prompt,
            "response_a": response,
            "response_b": response,
            "choice": self._on_chip(jax.ShapeDtypeStruct(rows, jnp.int8)),
            "probability": self._on_chip(jax.ShapeDtypeStruct(rows, jnp.float32)),
        }
        state = TrainState(count, self.params, opt_state)
        rates = (np.float32(1e-5), np.float32(0.1))
        frozen = FrozenModels(self.params, None)
        return jax.jit(step, donate_argnums=0).lower(state, batch, *rates, self.key, frozen)

    def _tokens(self, length: int) -> jax.ShapeDtypeStruct:
        shape = (self.arguments.prompts, length)
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=self.sharding)

    def _on_chip(self, tree: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding), tree
        )


@dataclasses.dataclass
class Loop:
    """Estimated cycles of a computation, and of its dearest kinds of instructions."""

    cycles: int
    instructions: list[tuple[str, int, int]]  # what, how many, cycles of them all


def describe(compiled: Any) -> dict[str, Any]:
    """FLOPs, bytes, HBM, and cycles of the entry and of each loop's body that takes a thousand."""
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    loops = read_loops(compiled.as_text())
    return {
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "hbm_bytes": held + memory.temp_size_in_bytes,
        "loops": {name: dataclasses.asdict(loop) for name, loop in loops.items()},
    }


def read_loops(text: str) -> dict[str, Loop]:
    """By the computation's name; the entry is 'outside of loops'."""
    computations: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if header and not line.startswith(" "):
            name = "outside of loops" if header[1] else header[2]
            computations[name] = []
        elif name:
            computations[name].append(line)
    found = {}
    for name, lines in computations.items():
        cycles: collections.Counter = collections.Counter()
        number: collections.Counter = collections.Counter()
        for line in lines:
            if estimate := CYCLES.search(line):
                cycles[kind_of(line)] += int(estimate[1])
                number[kind_of(line)] += 1
        if sum(cycles.values()) > 1000:
            top = [(kind, number[kind], n) for kind, n in cycles.most_common(TOP)]
            found[name] = Loop(sum(cycles.values()), top)
    return dict(sorted(found.items(), key=lambda item: -item[1].cycles))


def kind_of(line: str) -> str:
    """An instruction's place in the model, the same for all layers."""
    kind = line.split(" = ")[0].split("%")[-1].rstrip("0123456789.")
    operation = re.search(r'op_name="([^"]*)"', line)
    if not operation:
        return kind
    place = re.sub(r"layers_\d+", "layers", operation[1])
    return f"{'/'.join(place.split('/')[-2:])} ({kind})"


def show(name: str, report: dict[str, Any], console: Console) -> None:
    """A report as tables."""
    console.print(
        f"{name}: {report['flops']:.3e} FLOP, {report['bytes']:.3e} bytes,"
        f" {report['hbm_bytes'] / 2**30:.2f} GiB HBM"
    )
    for loop, found in report["loops"].items():
        table = Table("instructions", "number", "estimated cycles", title=loop)
        for what, number, cycles in found["instructions"]:
            table.add_row(what, str(number), f"{cycles:,}")
        table.add_section()
        table.add_row("all", "", f"{found['cycles']:,}")
        console.print(table)


if __name__ == "__main__":
    main()
