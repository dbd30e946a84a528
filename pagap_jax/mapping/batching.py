"""A function of a batch over all rows of some columns."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax.data.batches import length_bucket
from pagap_jax.data.reading import Column, read_batch, token_lengths
from pagap_jax.model.sharding import batch_sharding, put_batch, replicated, rows_of_process
from pagap_jax.policies import Policy
from pagap_jax.progress import progress_bar
from pagap_jax.sampling.methods import SamplingMethod


def compile_for(function: Callable, num_models: int, mesh: Mesh) -> Callable:
    """Jits `function(*models, batch)`; the batch is spread over devices, results are whole."""
    shardings = (*[None] * num_models, batch_sharding(mesh))
    return jax.jit(function, in_shardings=shardings, out_shardings=replicated(mesh))


def compile_sampler(
    policy: Policy, sampling: SamplingMethod, key: jax.Array, mesh: Mesh
) -> Callable:
    """Jits `(params, batch)`: two responses to each prompt, as ids.

    Draws depend on the key and on `batch["row"]`, the number of the batch's first row.
    """

    def sample(params: Any, batch: dict) -> jax.Array:
        encoded = policy.encode(params, batch["prompt"])
        batch_key = jax.random.fold_in(key, batch["row"][0])
        return policy.sample(params, encoded, batch_key, 2, sampling).tokens

    return compile_for(sample, 1, mesh)


def map_batches(
    function: Callable,
    models: tuple[Any, ...],
    columns: Mapping[str, Column],
    mesh: Mesh,
    batch_size: int,
    by_length: bool = True,
) -> Any:
    """`function(*models, batch)` over batches of one size; results joined along the first axis.

    Prompts are trimmed to the longest of their batch. The last batch is filled up with its last
    row, and the results of such rows are dropped. Of several processes each reads the rows of its
    own devices, and has the results of all.

    Args:
        function: jitted (`compile_for`) or not; its results have the batch first.
        models: parameters, already where they belong.
        columns: arrays, or what is stored and is read batch by batch.
        by_length: puts prompts of like lengths into one batch; not where a row's result depends on
            its place in the batch, as that of a draw does. Results are in the order of the columns.
    """
    if not hasattr(function, "lower"):
        function = compile_for(function, len(models), mesh)
    prompt, mine = columns["prompt"], rows_of_process(batch_size, mesh)
    order = order_by_length(prompt) if by_length else np.arange(len(prompt))
    total = len(order)
    results: list[Any] = []
    with jax.set_mesh(mesh), progress_bar() as progress:
        task = progress.add_task("evaluate", total=total, note="")
        for start in range(0, total, batch_size):
            rows = order[np.minimum(np.arange(start, start + batch_size), total - 1)]
            batch = put_batch(read_batch(columns, rows, mine), mesh)
            results.append(function(*models, batch))
            # Waits for the batch before this one: the device has always one to work on.
            results[-2:-1] = jax.device_get(results[-2:-1])
            progress.update(task, completed=min(start + batch_size, total))
        results[-1:] = jax.device_get(results[-1:])
    back = np.argsort(order)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:total][back], *results)


def order_by_length(prompt: Column) -> np.ndarray:
    """Row numbers by the buckets of the prompts' lengths; in a bucket as they were."""
    buckets = [length_bucket(n, prompt.shape[1]) for n in token_lengths(prompt).tolist()]
    return np.argsort(buckets, kind="stable")
