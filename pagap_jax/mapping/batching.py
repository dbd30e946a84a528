"""A function of a batch over all rows of some columns."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax import stopping
from pagap_jax.data.batches import length_bucket
from pagap_jax.data.reading import Column, read_batch, token_lengths
from pagap_jax.mapping.kept import KeptRows
from pagap_jax.model.sharding import batch_sharding, put_batch, replicated, rows_of_process
from pagap_jax.policies import Policy
from pagap_jax.processes import asked_to_stop
from pagap_jax.progress import progress_bar
from pagap_jax.sampling.methods import SamplingMethod

UNSAVED = "the batch under way, to keep what is done"
STOPPED = "asked to stop; all that was saved is kept: the same command goes on"


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
    kept: KeptRows | None = None,
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
        kept: what an earlier process did, which isn't done again. Where this one is stopped, and at
            the end, what is done is kept there.

    Raises:
        StoppedError: asked to stop, between two batches.
    """
    if not hasattr(function, "lower"):
        function = compile_for(function, len(models), mesh)
    prompt, mine = columns["prompt"], rows_of_process(batch_size, mesh)
    order = order_by_length(prompt) if by_length else np.arange(len(prompt))
    total = len(order)
    done, before = kept.read() if kept else (0, [])
    results: list[Any] = []

    def batch_from(start: int) -> Any:
        rows = order[np.minimum(np.arange(start, start + batch_size), total - 1)]
        return put_batch(read_batch(columns, rows, mine), mesh)

    with jax.set_mesh(mesh), progress_bar() as progress, contextlib.ExitStack() as until_kept:
        task = progress.add_task("evaluate", total=total, completed=done, note="")
        for start in range(done, total, batch_size):
            if asked_to_stop():
                if kept and results:
                    kept.write(start, _joined(before, jax.device_get(results)))
                raise stopping.stopped(STOPPED)
            results.append(function(*models, batch_from(start)))
            if kept and start == done:
                until_kept.enter_context(stopping.unsaved(UNSAVED))
            # Waits for the batch before this one: the device has always one to work on.
            results[-2:-1] = jax.device_get(results[-2:-1])
            progress.update(task, completed=min(start + batch_size, total))
        results[-1:] = jax.device_get(results[-1:])
        # All of it was kept: what its arrays are of is known without computing.
        one = results[-1] if results else jax.eval_shape(function, *models, batch_from(0))
        arrays = _joined(before, results)
        if kept and results:
            kept.write(total, arrays)
    back = np.argsort(order)
    return jax.tree.unflatten(jax.tree.structure(one), [of[:total][back] for of in arrays])


def _joined(before: Sequence[np.ndarray], results: Sequence[Any]) -> list[np.ndarray]:
    """Each array of all results, along the first axis."""
    parts = [*[before] * bool(before), *map(jax.tree.leaves, results)]
    return [np.concatenate(of) for of in zip(*parts, strict=True)]


def order_by_length(prompt: Column) -> np.ndarray:
    """Row numbers by the buckets of the prompts' lengths; in a bucket as they were."""
    buckets = [length_bucket(n, prompt.shape[1]) for n in token_lengths(prompt).tolist()]
    return np.argsort(buckets, kind="stable")
