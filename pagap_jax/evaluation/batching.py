"""A function of a batch over all rows of some columns."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax.model.sharding import batch_sharding, put_batch, replicated
from pagap_jax.progress import progress_bar

Columns = dict[str, np.ndarray]


def compile_for(function: Callable, num_models: int, mesh: Mesh) -> Callable:
    """Jits `function(*models, batch)`; the batch is spread over devices, results are whole."""
    shardings = (*[None] * num_models, batch_sharding(mesh))
    return jax.jit(function, in_shardings=shardings, out_shardings=replicated(mesh))


def map_batches(
    function: Callable,
    models: tuple[Any, ...],
    columns: Columns,
    mesh: Mesh,
    batch_size: int,
    note: str = "",
) -> Any:
    """`function(*models, batch)` over batches of one size; results joined along the first axis.

    The last batch is filled up with its last row, and the results of such rows are dropped.

    Args:
        function: jitted (`compile_for`) or not; its results have the batch first.
        models: parameters, already where they belong.
    """
    if not hasattr(function, "lower"):
        function = compile_for(function, len(models), mesh)
    total = len(next(iter(columns.values())))
    results = []
    with jax.set_mesh(mesh), progress_bar() as progress:
        task = progress.add_task("evaluate", total=total, note=note)
        for start in range(0, total, batch_size):
            rows = np.minimum(np.arange(start, start + batch_size), total - 1)
            batch = put_batch({name: column[rows] for name, column in columns.items()}, mesh)
            results.append(jax.device_get(function(*models, batch)))
            progress.update(task, completed=min(start + batch_size, total))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *results)
