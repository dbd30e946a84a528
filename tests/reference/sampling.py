"""Sampling done slowly: distributions token by token, and all sequences of a tiny vocabulary."""

import itertools

import numpy as np


def truncated_distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """Probabilities of one row of logits [V]; tokens as probable as the last one kept are kept."""
    probabilities = np.exp((logits - logits.max()) / temperature)
    probabilities /= probabilities.sum()
    if top_k:
        least = sorted(probabilities)[-min(top_k, len(probabilities))]
        probabilities = np.where(probabilities >= least, probabilities, 0)
        probabilities /= probabilities.sum()
    if top_p < 1:
        mass, least = 0.0, 0.0
        for p in sorted(probabilities, reverse=True):
            if mass >= top_p:
                break
            mass, least = mass + p, p
        probabilities = np.where(probabilities >= least, probabilities, 0)
        probabilities /= probabilities.sum()
    return probabilities


def all_responses(sampleable_size: int, length: int, end: int = 1) -> np.ndarray:
    """Every response [N, R] of up to `length` ids from [1, sampleable_size): ended, or cut off."""
    words = [i for i in range(1, sampleable_size) if i != end]
    ended = [
        (*body, end, *[0] * (length - n - 1))
        for n in range(length)
        for body in itertools.product(words, repeat=n)
    ]
    return np.array([*ended, *itertools.product(words, repeat=length)], np.int32)


def response_probabilities(distributions: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Products over the tokens of responses [N, R] of next-token distributions [N, R, V]. [N]."""
    result = np.ones(len(responses))
    for n, response in enumerate(responses):
        for t, token in enumerate(response):
            if token > 0:
                result[n] *= distributions[n, t, token]
    return result
