"""A preference model's judgement of a whole data set."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax.compilation import FEW
from pagap_jax.data.reading import Column
from pagap_jax.data.stored import TokenPairs
from pagap_jax.errors import NotANumberError
from pagap_jax.mapping.batching import compile_for, map_batches
from pagap_jax.mapping.kept import KeptRows
from pagap_jax.preference_models import Judgement, PreferenceModel


@functools.lru_cache(maxsize=FEW)
def compile_judge(model: PreferenceModel, mesh: Mesh) -> Callable:
    """Jits `(params, batch)`: both orders of each pair."""

    def judge(params: Any, batch: dict[str, jax.Array]) -> Judgement:
        return model.judge(params, batch["prompt"], batch["response_a"], batch["response_b"])

    return compile_for(judge, 1, mesh)


@dataclasses.dataclass(frozen=True)
class Judge:
    """A preference model with its parameters, compiled once for a mesh."""

    function: Callable
    params: Any
    mesh: Mesh
    batch_size: int

    @classmethod
    def compiled(cls, model: PreferenceModel, params: Any, mesh: Mesh, batch_size: int) -> "Judge":
        return cls(compile_judge(model, mesh), params, mesh, batch_size)

    def __call__(
        self,
        prompt: Column,
        response_a: Column,
        response_b: Column,
        kept: KeptRows | None = None,
    ) -> Judgement:
        """Judges (a, b) of every row in both orders; columns as long as the data, on the host.

        Args:
            kept: as `map_batches` takes it.

        Raises:
            NotANumberError: what it says of a pair is no number.
        """
        columns = {"prompt": prompt, "response_a": response_a, "response_b": response_b}
        judged = map_batches(
            self.function, (self.params,), columns, self.mesh, self.batch_size, kept=kept
        )
        if (bad := np.flatnonzero(~np.isfinite(judged.log_odds_ab - judged.log_odds_ba))).size:
            raise NotANumberError(
                f"the preference model's answer is no number for {bad.size} of {len(prompt)} pairs,"
                f" the first of them pair {bad[0]}"
            )
        return judged


def labelled(pairs: TokenPairs, judged: Judgement) -> TokenPairs:
    """The pairs with a preference model's choices: the sign of r(x, a, b) − r(x, b, a) (App. A)."""
    probability = np.asarray(judged.probability, np.float32)
    return dataclasses.replace(pairs, choice=judged.choice.astype(np.int8), probability=probability)
