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


def win_rate(choice: np.ndarray) -> WinRate:
    """From choices between first and second: 0 wins, 1 loses, -1 ties.

    Args:
        choice: int [E], of a `Judgement`.
    """
    ties = int(np.sum(choice < 0))
    wins = float(np.sum(choice == 0) + 0.5 * ties)
    low, high = wilson_interval(wins, len(choice))
    return WinRate(wins / max(len(choice), 1), low, high, len(choice), ties)
