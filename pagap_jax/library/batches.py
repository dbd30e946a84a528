"""Rows of texts in batches of a few sizes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from pagap_jax.errors import DataError
from pagap_jax.mapping.batching import map_batches
from pagap_jax.model.sharding import check_batch_size, make_mesh, num_batch_shards

BATCH_SIZE = 32  # prompts at a time, at most


@dataclasses.dataclass(frozen=True)
class Batches:
    """How many rows go through a program at once: of a few sizes, so that few are compiled.

    Attributes:
        most: rows, at most.
    """

    mesh: Mesh
    most: int

    @classmethod
    def on(cls, mesh: Mesh | None, most: int | None) -> "Batches":
        """On a mesh, else on all devices; at most 32 rows, or one a device, where `most` is None.

        Raises:
            ConfigError: `most` can't be spread evenly over the devices.
        """
        mesh = make_mesh() if mesh is None else mesh
        shards = num_batch_shards(mesh)
        most = shards * max(1, BATCH_SIZE // shards) if most is None else most
        check_batch_size(most, mesh)
        return cls(mesh, most)

    def size_for(self, rows: int) -> int:
        """The smallest of a few sizes that has room; rows are filled up to it."""
        size = num_batch_shards(self.mesh)
        while size < min(rows, self.most):
            size *= 2
        return min(size, self.most)

    def map(
        self,
        function: Callable,
        models: tuple[Any, ...],
        columns: Mapping[str, Any],
        by_length: bool = True,
    ) -> Any:
        """`map_batches` with a batch that suits the number of rows."""
        size = self.size_for(len(columns["prompt"]))
        return map_batches(function, models, columns, self.mesh, size, by_length)


def several(name: str, texts: Sequence[Any]) -> list[Any]:
    """The texts; raises DataError, naming what they are, where there are none, or one alone."""
    if isinstance(texts, str):
        raise DataError(f"{name}: found one text, expected a list of texts")
    if not len(texts):
        raise DataError(f"{name}: found none, expected at least one")
    return list(texts)


def as_many(name: str, texts: Sequence[Any], prompts: np.ndarray) -> list[Any]:
    """The texts, one to each prompt; raises DataError where there aren't as many."""
    if (found := len(several(name, texts))) != len(prompts):
        raise DataError(f"{name}: found {found}, expected {len(prompts)}, one to each prompt")
    return list(texts)
