"""Online: two samples of the current policy, labelled by a preference model, all on the device."""

import dataclasses

from pagap_jax.align.pairs import PairBatch, PromptBatch
from pagap_jax.array_types import RandomKey
from pagap_jax.policies import Encoded, Params, Policy
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.sampling.methods import SamplingMethod


@dataclasses.dataclass(frozen=True)
class OnlinePairs:
    """Samples two responses a prompt and judges them in both orders. A `PairSource`."""

    policy: Policy
    judge: PreferenceModel
    method: SamplingMethod

    def __call__(
        self,
        params: Params,
        judge_params: Params,
        encoded: Encoded,
        batch: PromptBatch,
        key: RandomKey,
    ) -> PairBatch:
        samples = self.policy.sample(params, encoded, key, 2, self.method).tokens
        response_a, response_b = samples[:, 0], samples[:, 1]
        judgement = self.judge.judge(judge_params, batch["prompt"], response_a, response_b)
        return PairBatch(
            response_a,
            response_b,
            judgement.choice,
            judgement.probability,
            judgement.prompt_truncated,
        )
