"""Win rates from judged pairs (§4.1)."""

import numpy as np
from jaxtyping import Bool, Float, Int


def outcomes_of(choice: Int[np.ndarray, " E"]) -> Float[np.ndarray, " E"]:
    """1 where the first response wins, 0 where it loses, 0.5 at a tie; a win rate is their mean.

    Args:
        choice: of a `Judgement`: 0 the first, 1 the second, -1 a tie.
    """
    return np.where(choice < 0, 0.5, choice == 0).astype(np.float32)


def select_half(prompt_id: Int[np.ndarray, " E"]) -> Bool[np.ndarray, " E"]:
    """Prompts that checkpoints are chosen on; the other half reports them.

    A function of the prompt, so that the same prompt is never in both, whatever the data set's
    order. Ids are hashes: their last bit is a coin.
    """
    return prompt_id % 2 == 0
