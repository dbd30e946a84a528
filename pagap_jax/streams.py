"""Every use of randomness by its name: what is drawn is a function of (seed, purpose, step).

Two purposes never share a stream. Prompts that are chosen for evaluation by the numbers that also
order the batches are the first training batches, and no error says so.
"""

import enum
import zlib

import jax
import numpy as np

from pagap_jax.array_types import RandomKey


class Purpose(enum.StrEnum):
    """What random numbers are drawn for. A new use gets a name of its own here."""

    TASK = "pairs of the built-in task"
    PARAMETERS = "initial parameters"
    BATCH_ORDER = "order of training batches"
    SHOWN_ORDER = "which response a preference model is shown first in training"
    DROPOUT = "dropout"
    REPLACED_WORDS = "words replaced in pretraining"
    TRAINING_SAMPLES = "responses sampled in an align step"
    SAMPLED_PAIRS = "responses of sampled data sets, golden responses among them"
    EVALUATION_SAMPLES = "responses of a checkpoint that is evaluated"
    WIN_RATE_PROMPTS = "prompts of win rates"
    KL_PROMPTS = "prompts of KL and self-classification"
    CLASSIFICATION_PAIRS = "pairs of D_golden that policies classify"
    VALIDATION_PAIRS = "pairs that preference models are validated on while they train"
    STREAM_PAIRS = "pairs around a step of D_online"
    READ_SAMPLES = "responses sampled for somebody to read"

    @property
    def number(self) -> int:
        """32 bits of the name, so that a further purpose moves none of the others."""
        return zlib.crc32(self.value.encode())


def key_for(seed: int, purpose: Purpose) -> RandomKey:
    """The key of a purpose on the device; what is drawn in a step folds its number in."""
    return jax.random.fold_in(jax.random.key(seed), purpose.number)


def generator_for(seed: int, purpose: Purpose, step: int = 0) -> np.random.Generator:
    """The numbers of a purpose on the host.

    Args:
        seed: not negative.
        step: or epoch, or whatever else counts draws of this purpose.
    """
    # The step is the counter's highest word: the next step's numbers are 2^192 draws away.
    counter = np.array([0, 0, 0, step], np.uint64)
    key = np.array([seed, purpose.number], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def choose_rows(
    number_of_rows: int, number: int | None, seed: int, purpose: Purpose, step: int = 0
) -> np.ndarray:
    """`number` of the row numbers without repetition, ascending; all where there are fewer."""
    order = generator_for(seed, purpose, step).permutation(number_of_rows)
    return np.sort(order[:number])
