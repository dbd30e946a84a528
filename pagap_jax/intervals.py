"""How sure a measured rate or mean is, where one prompt may be measured more than once.

Values on the same prompt go up and down together: they are a cluster. With a prompt each, all of
this is the textbook's.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int
from scipy import special


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean, its standard error, and the number of values."""

    mean: float
    se: float
    count: int


@dataclasses.dataclass(frozen=True)
class Rate:
    """A mean of values in [0, 1] with its 95 % interval, and their number."""

    rate: float
    low: float
    high: float
    count: int


def mean_of(values: Float[np.ndarray, " E"], clusters: Int[np.ndarray, " E"]) -> Mean:
    """The mean and its cluster-robust standard error (Liang and Zeger 1986).

    se² = G/(G − 1) · Σ over clusters (Σ in the cluster (value − mean))² / E², with G clusters;
    s²/E where each value is its own cluster. No values have the mean 0, a single cluster the
    error 0.

    Args:
        clusters: equal where values belong together: ids of prompts.
    """
    if not len(values):
        return Mean(0.0, 0.0, 0)
    values = values.astype(np.float64)
    mean = float(np.mean(values))
    _, cluster = np.unique(clusters, return_inverse=True)
    sums = np.bincount(cluster, weights=values - mean)
    number = len(sums)
    spread = float(np.sum(sums**2)) * number / max(number - 1, 1)
    return Mean(mean, math.sqrt(spread) / len(values) if number > 1 else 0.0, len(values))


def rate_of(values: Float[np.ndarray, " E"], clusters: Int[np.ndarray, " E"]) -> Rate:
    """The mean of values in [0, 1] with Wilson's 95 % interval for the effective number of them.

    The effective number is E divided by the design effect (Kish 1965): the variance of the mean
    with clusters over that without. It is at most E, so clusters never make an interval narrower,
    and E where each value is its own cluster.
    """
    number = len(values)
    if not number:
        return Rate(0.0, 0.0, 1.0, 0)
    clustered, single = mean_of(values, clusters), mean_of(values, np.arange(number))
    effective, groups = float(number), len(np.unique(clusters))
    if clustered.se > single.se:
        effective = number * (single.se / clustered.se) ** 2
    elif single.se == 0 or groups == 1:  # nothing tells how alike those of a cluster are
        effective = float(groups)
    low, high = wilson_interval(clustered.mean * effective, effective)
    return Rate(clustered.mean, low, high, number)


def wilson_interval(
    wins: float | int, n: float | int, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson's score interval of a rate; `wins` may hold half wins, and n = 0 gives (0, 1).

    Raises:
        ValueError: wins outside [0, n].
    """
    if not -1e-9 * n <= wins <= n * (1 + 1e-9):  # an effective number is rounded
        raise ValueError(f"found {wins} wins of {n}, expected 0 to {n}")
    if n == 0:
        return 0.0, 1.0
    z = float(special.ndtri(0.5 + confidence / 2))
    rate, shrink = min(max(wins / n, 0.0), 1.0), 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
