"""FLOPs of a traced program: its matrix products, loops and recomputation included."""

import math
from collections.abc import Iterator
from typing import Any

import jax


def count_flops(jaxpr: Any, while_trips: int) -> float:
    """FLOPs of all devices together.

    Args:
        jaxpr: of `jitted.trace(...)`.
        while_trips: of loops that end when they like, that of tokens: the most it can make.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = equation.invars[0].aval.shape
            contraction = math.prod(left[i] for i in contracted)
            total += 2.0 * contraction * math.prod(equation.outvars[0].aval.shape)
        elif name == "scan":
            total += parameters["length"] * count_flops(parameters["jaxpr"].jaxpr, while_trips)
        elif name == "while":
            total += while_trips * count_flops(parameters["body_jaxpr"].jaxpr, while_trips)
        elif name == "cond":  # platforms among them: the dearest is that of TPUs
            branches = parameters["branches"]
            total += max(count_flops(branch.jaxpr, while_trips) for branch in branches)
        else:
            total += sum(count_flops(inner, while_trips) for inner in _inner(parameters))
    return total


def _inner(parameters: dict[str, Any]) -> Iterator[Any]:
    for value in jax.tree.leaves(
        list(parameters.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
    ):
        if hasattr(value, "jaxpr"):
            yield value.jaxpr
        elif hasattr(value, "eqns"):
            yield value
