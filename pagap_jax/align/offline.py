"""Offline: the data set's own pairs."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from pagap_jax.align.pairs import PairBatch, PromptBatch
from pagap_jax.array_types import RandomKey
from pagap_jax.policies import Encoded


def offline_pairs(
    params: Any,
    judge_params: Any,
    encode: Callable[[], Encoded],
    batch: PromptBatch,
    key: RandomKey,
) -> PairBatch:
    """The pairs that the batch holds. A `PairSource`."""
    del params, judge_params, encode, key
    return pairs_of(batch)


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
