"""Win rates from judged pairs (§4.1)."""

import dataclasses

import numpy as np

from pagap_jax.evaluation.intervals import wilson_interval


@dataclasses.dataclass(frozen=True)
class WinRate:
    """Share of prompts on which the first response wins, a tie counting half, with 95 % bounds."""

    rate: float
    low: float
    high: float
    prompts: int
    ties: int


def win_rate(probability: np.ndarray) -> WinRate:
    """From P(first preferred), both orders asked: above ½ wins, exactly ½ ties.

    Args:
        probability: float [E].
    """
    wins = float(np.sum(probability > 0.5) + 0.5 * np.sum(probability == 0.5))
    low, high = wilson_interval(wins, len(probability))
    ties = int(np.sum(probability == 0.5))
    return WinRate(wins / max(len(probability), 1), low, high, len(probability), ties)
