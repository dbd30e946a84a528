"""Where the pairs of an align step come from: the one thing in which online and offline differ."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int

from pagap_jax.array_types import Array, RandomKey, ResponseTokens
from pagap_jax.policies import Encoded

PromptBatch = dict[str, jax.Array]  # columns of TokenPairs, B rows each


@struct.dataclass
class PairBatch:
    """Two labelled responses to each prompt of a batch."""

    response_a: ResponseTokens
    response_b: ResponseTokens
    choice: Int[Array, " B"]  # 0: a is chosen, 1: b, -1: a tie, which has no part in the loss
    probability: Float[Array, " B"]  # the labelling model's P(a preferred), nan where unknown
    prompt_truncated: Bool[Array, " B"]  # it saw the prompt without its beginning
    # Summed log-probs of a and b under the reference, where they are known beforehand.
    reference: Float[Array, "B 2"] | None = None


def pairs_of(batch: PromptBatch) -> PairBatch:
    """The pairs in a batch's columns."""
    return PairBatch(
        response_a=batch["response_a"],
        response_b=batch["response_b"],
        choice=batch["choice"],
        probability=batch["probability"],
        prompt_truncated=batch.get(  # of a data set it isn't known
            "prompt_truncated", jnp.zeros(batch["choice"].shape, bool)
        ),
        reference=batch.get("reference"),
    )


@runtime_checkable  # so that the tests can check it
class PairSource(Protocol):
    """A pure function, traced into the align step."""

    def __call__(
        self,
        params: Any,
        judge_params: Any,
        encode: Callable[[], Encoded],
        batch: PromptBatch,
        key: RandomKey,
    ) -> PairBatch:
        """Pairs for the prompts of `batch`.

        Args:
            encode: gives the prompts encoded under `params`; with microbatches it costs an encoder
                pass, which a source that doesn't call it saves.
        """
        ...
