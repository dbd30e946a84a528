"""Offline: the data set's own pairs."""

from collections.abc import Callable
from typing import Any

from pagap_jax.align.pairs import PairBatch, PromptBatch, pairs_of
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
