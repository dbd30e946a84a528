"""Replaces words of responses by others of their category: the made-up task's pretraining."""

from collections.abc import Callable, Mapping

import numpy as np

from pagap_jax.data.stored import PAD_ID


def category_table(
    words: Mapping[str, str], encode: Callable[[str], int], vocab_size: int
) -> list[np.ndarray]:
    """For each id the ids of its category, itself left out; empty where nothing may replace it.

    Args:
        words: category of each word.
        encode: word to its one id.
    """
    members: dict[str, list[int]] = {}
    for word, category in words.items():
        members.setdefault(category, []).append(encode(word))
    table = [np.zeros(0, np.int32) for _ in range(vocab_size)]
    for ids in members.values():
        for i in ids:
            table[i] = np.array(sorted(set(ids) - {i}), np.int32)
    return table


def replace_words(
    responses: np.ndarray, table: list[np.ndarray], rate: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces each word with probability `rate`.

    Args:
        responses: int32 [B, R].
        table: of `category_table`.

    Returns:
        The corrupted responses, and bool [B, R], True where a word was replaced.
    """
    sizes = np.array([len(ids) for ids in table])
    padded = np.full((len(table), max(sizes.max(), 1)), PAD_ID, np.int32)
    for i, ids in enumerate(table):
        padded[i, : len(ids)] = ids
    replaced = (rng.random(responses.shape) < rate) & (sizes[responses] > 0)
    index = (rng.random(responses.shape) * sizes[responses]).astype(np.int64)
    return np.where(replaced, padded[responses, index], responses), replaced
