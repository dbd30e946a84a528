"""Pairs around steps of D_online, and how often a classifier is right on them (Fig. 6)."""

import numpy as np
from jaxtyping import Int

from pagap_jax.intervals import Rate, rate_of
from pagap_jax.streams import Purpose, choose_rows


def even_steps(steps: int, number: int) -> list[int]:
    """`number` evenly spaced steps, the last of them `steps`."""
    return [round(steps * (i + 1) / number) for i in range(number)]


def rows_around(
    step: Int[np.ndarray, " E"], around: int, pairs: int, seed: int
) -> Int[np.ndarray, " pairs"]:
    """Rows of `pairs` pairs from the batches next to a step, ascending; all where there are fewer.

    Whole batches are taken, the nearest first, until there are enough pairs; of those it is drawn.

    Args:
        step: that made each pair: 0 for those that the policy sampled before its first update.
        around: number of updates; the batches before and after it are equally near.
    """
    distance = np.abs(step + 0.5 - around)
    nearest = np.sort(distance)[: min(pairs, len(step))]
    candidates = np.flatnonzero(distance <= nearest[-1]) if len(nearest) else np.arange(0)
    return candidates[choose_rows(len(candidates), pairs, seed, Purpose.STREAM_PAIRS, around)]


def label_accuracy(
    choice: Int[np.ndarray, " E"], truth: Int[np.ndarray, " E"], prompt_id: Int[np.ndarray, " E"]
) -> Rate:
    """How often a label is the true one, over pairs that have a true one; no label counts half."""
    known = truth >= 0
    right = np.where(choice < 0, 0.5, choice == truth)[known].astype(np.float64)
    return rate_of(right, prompt_id[known])
