"""FLOPs of a traced program: its matrix products, loops and recomputation included."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax

# Products that a kernel computes again, of those that it makes.
COMPUTED_AGAIN = {"attention_backward": 1 / 5}


def count_flops(jaxpr: Any, while_trips: int, again: bool = True) -> float:
    """FLOPs of all devices together.

    Args:
        jaxpr: of `jitted.trace(...)`.
        while_trips: upper bound for while loops: the maximum number of sampled tokens.
        again: whether what kernels compute again counts.
    """
    count = functools.partial(count_flops, while_trips=while_trips, again=again)
    total = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = equation.invars[0].aval.shape
            contraction = math.prod(left[i] for i in contracted)
            total += 2.0 * contraction * math.prod(equation.outvars[0].aval.shape)
        elif name == "scan":
            total += parameters["length"] * count(parameters["jaxpr"].jaxpr)
        elif name == "while":
            total += while_trips * count(parameters["body_jaxpr"].jaxpr)
        elif name == "cond":  # the dearest branch
            branches = parameters["branches"]
            total += max(count(branch.jaxpr) for branch in branches)
        elif name == "shard_map":  # what it holds is one device's
            total += parameters["mesh"].size * count(parameters["jaxpr"])
        elif name == "pallas_call":
            spared = 0.0 if again else COMPUTED_AGAIN.get(parameters["name"], 0.0)
            total += parameters["cost_estimate"].flops * (1 - spared)
        else:
            total += sum(count(inner) for inner in inner_jaxprs(parameters))
    return total


def inner_jaxprs(parameters: dict[str, Any]) -> Iterator[Any]:
    """Programs among the parameters of an equation."""
    for value in jax.tree.leaves(
        list(parameters.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
    ):
        if hasattr(value, "jaxpr"):
            yield value.jaxpr
        elif hasattr(value, "eqns"):
            yield value
