"""How sure a measured rate or mean is."""

import math

import numpy as np
from scipy import special


def wilson_interval(wins: float | int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate; `wins` may hold half wins, and n = 0 gives (0, 1).

    Raises:
        ValueError: wins outside [0, n].
    """
    if not 0 <= wins <= n:
        raise ValueError(f"found {wins} wins of {n}, expected 0 to {n}")
    if n == 0:
        return 0.0, 1.0
    z = float(special.ndtri(0.5 + confidence / 2))
    rate, shrink = wins / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_and_standard_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of independent values and the standard error of it; 0 error for a single value."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(error)
