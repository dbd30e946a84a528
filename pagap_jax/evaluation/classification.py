"""The policy as a classifier of pairs (App. E): the sign of h against a label."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import struct

from pagap_jax.array_types import PromptTokens, ResponseTokens, SequenceLogProbs
from pagap_jax.evaluation.intervals import wilson_interval
from pagap_jax.losses.log_probs import sequence_log_prob
from pagap_jax.policies import Params, Policy


@struct.dataclass
class PairScores:
    """Log-probs in nats of responses a and b, [B, 2]."""

    policy: SequenceLogProbs
    reference: SequenceLogProbs


def score_pairs(
    policy: Policy,
    params: Params,
    reference: Params,
    prompt: PromptTokens,
    response_a: ResponseTokens,
    response_b: ResponseTokens,
) -> PairScores:
    """Summed log-probs of both responses under the policy and the reference."""
    scores = (
        score_responses(policy, of, prompt, response_a, response_b) for of in (params, reference)
    )
    return PairScores(*scores)


def score_responses(
    policy: Policy,
    params: Params,
    prompt: PromptTokens,
    response_a: ResponseTokens,
    response_b: ResponseTokens,
) -> SequenceLogProbs:
    """Summed log-probs [B, 2] of responses a and b."""
    responses = jnp.stack([response_a, response_b], axis=1)
    return sequence_log_prob(policy.log_probs(params, policy.encode(params, prompt), responses))


@dataclasses.dataclass(frozen=True)
class Classification:
    """Accuracy with 95 % bounds, over pairs that have a label; h = 0 counts half."""

    accuracy: float
    low: float
    high: float
    pairs: int


def classify(scores: PairScores, choice: np.ndarray) -> Classification:
    """Accuracy of the sign of h for (a, b) against the choice, over pairs that have one."""
    shift = np.asarray(scores.policy) - np.asarray(scores.reference)
    h = (shift[:, 0] - shift[:, 1])[choice >= 0]
    prefers_chosen = np.where(choice[choice >= 0] == 0, h, -h)
    right = float(np.sum(prefers_chosen > 0) + 0.5 * np.sum(prefers_chosen == 0))
    low, high = wilson_interval(right, len(h))
    return Classification(right / max(len(h), 1), low, high, len(h))


def log_prob_shift(scores: PairScores, choice: np.ndarray) -> tuple[float, float]:
    """Mean log π − log π_sft of chosen and of rejected responses, nats (Fig. 8 bottom)."""
    shift = (np.asarray(scores.policy) - np.asarray(scores.reference))[choice >= 0]
    if not len(shift):
        return 0.0, 0.0
    b_chosen = (choice[choice >= 0] == 1)[:, None]
    ordered = np.where(b_chosen, shift[:, ::-1], shift)
    return float(np.mean(ordered[:, 0])), float(np.mean(ordered[:, 1]))
