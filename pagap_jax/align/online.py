"""Online: two samples of the current policy, labelled by a preference model, all on the device."""

import dataclasses

import jax.numpy as jnp

from pagap_jax.align.pairs import PairBatch
from pagap_jax.array_types import PerPair, ResponseTokens
from pagap_jax.policies import Policy
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN
from pagap_jax.sampling.methods import SamplingMethod


@dataclasses.dataclass(frozen=True)
class OnlinePairs:
    """Samples two responses a prompt and judges them in both orders. A `PairSource`."""

    policy: Policy
    judge: PreferenceModel
    method: SamplingMethod

    def __call__(self, params, judge_params, encoded, batch, key) -> PairBatch:
        samples = self.policy.sample(params, encoded, key, 2, self.method).tokens
        response_a, response_b = samples[:, 0], samples[:, 1]
        judgement = self.judge.judge(judge_params, batch["prompt"], response_a, response_b)
        choice = choose(judgement.probability, response_a, response_b)
        return PairBatch(
            response_a, response_b, choice, judgement.probability, judgement.prompt_truncated
        )


def choose(probability: PerPair, response_a: ResponseTokens, response_b: ResponseTokens):
    """int32[B]: 0 where P(a preferred) is above ½, 1 below; -1 at ½ or where both are the same."""
    same = jnp.all(response_a == response_b, axis=1) | (probability == 0.5)
    return jnp.where(same, CHOICE_UNKNOWN, jnp.where(probability > 0.5, CHOICE_A, CHOICE_B))
