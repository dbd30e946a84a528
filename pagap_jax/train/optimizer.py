"""Optimizers and learning-rate schedules.

An optimizer here is optax's at a learning rate of one: the step multiplies by the rate, which it
takes as an argument, so that a sweep over rates compiles once.
"""

import dataclasses
import functools

import gin
import numpy as np
import optax

from pagap_jax.ranges import Count, CountOrZero, Positive, Share, ShareBelowOne


@gin.configurable
@functools.cache  # the same optimizer is the same object: a program with it is compiled once
def adafactor(decay_rate: Share = 0.8, min_dim_size_to_factor: Count = 128):
    """optax's Adafactor with T5X's settings: scaled by parameter norm, updates clipped at 1."""
    return optax.adafactor(
        learning_rate=None,
        decay_rate=decay_rate,
        min_dim_size_to_factor=min_dim_size_to_factor,
        multiply_by_parameter_scale=True,
        clipping_threshold=1.0,
    )


@gin.configurable
@functools.cache
def adam(b1: ShareBelowOne = 0.9, b2: ShareBelowOne = 0.99):
    """Adam, for tiny models: Adafactor's factored moments gain nothing there (our choice)."""
    return optax.chain(optax.scale_by_adam(b1=b1, b2=b2), optax.scale(-1.0))


@gin.configurable
@dataclasses.dataclass(frozen=True)
class LearningRate:
    """Linear warm-up to `peak`, then constant or down a cosine.

    Attributes:
        warmup_steps: steps of the warm-up; 0 starts at the peak.
        decay_steps: length of the cosine, counted from step 0; 0 stays at the peak.
        final_fraction: of the peak, where the cosine ends.
    """

    peak: Positive
    warmup_steps: CountOrZero = 0
    decay_steps: CountOrZero = 0
    final_fraction: Share = 0.0

    def at(self, step: int) -> np.float32:
        """The rate of the update that makes step `step + 1`."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        decay = 1.0
        if self.decay_steps:
            progress = min(step / self.decay_steps, 1.0)
            cosine = 0.5 * (1 + np.cos(np.pi * progress))
            decay = self.final_fraction + (1 - self.final_fraction) * cosine
        return np.float32(self.peak * warmup * decay)
