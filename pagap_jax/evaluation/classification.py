"""The policy as a classifier of pairs (App. E): the sign of h against a label."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Int

from pagap_jax.array_types import PromptTokens, ResponseTokens, SequenceLogProbs
from pagap_jax.intervals import Mean, Rate, mean_of, rate_of
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


def classify(
    scores: PairScores, choice: Int[np.ndarray, " E"], prompt_id: Int[np.ndarray, " E"]
) -> Rate:
    """Accuracy of the sign of h for (a, b) against the choice, over pairs that have one.

    h = 0 counts half.
    """
    shift = np.asarray(scores.policy) - np.asarray(scores.reference)
    known = choice >= 0
    h = (shift[:, 0] - shift[:, 1])[known]
    prefers_chosen = np.where(choice[known] == 0, h, -h)
    right = np.where(prefers_chosen == 0, 0.5, prefers_chosen > 0)
    return rate_of(right, prompt_id[known])


def log_prob_shift(
    scores: PairScores, choice: Int[np.ndarray, " E"], prompt_id: Int[np.ndarray, " E"]
) -> tuple[Mean, Mean]:
    """Mean log π − log π_sft of chosen and of rejected responses, nats (Fig. 8 bottom)."""
    known = choice >= 0
    shift = (np.asarray(scores.policy) - np.asarray(scores.reference))[known]
    ordered = np.where((choice[known] == 1)[:, None], shift[:, ::-1], shift)
    chosen, rejected = (mean_of(ordered[:, side], prompt_id[known]) for side in (0, 1))
    return chosen, rejected
