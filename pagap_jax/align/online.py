"""Online: two samples of the current policy, labelled by a preference model, all on the device."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pagap_jax.align.pairs import PairBatch, PromptBatch
from pagap_jax.array_types import PromptTokens, RandomKey
from pagap_jax.policies import Encoded, Params, Policy
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.sampling.methods import WHOLE, Part, SamplingMethod
from pagap_jax.train.step import alternate_rows, rows_in_order


@dataclasses.dataclass(frozen=True)
class OnlinePairs:
    """Samples two responses a prompt and judges them in both orders. A `PairSource`.

    Attributes:
        num_parts: parts of a batch that are sampled and judged in turn, after prompts were encoded
            together: caches are those of a part, and the samples the same.
    """

    policy: Policy
    judge: PreferenceModel
    method: SamplingMethod
    num_parts: int = 1

    def __call__(
        self,
        params: Params,
        judge_params: Params,
        encode: Callable[[], Encoded],
        batch: PromptBatch,
        key: RandomKey,
    ) -> PairBatch:
        number, encoded = self.num_parts, encode()
        if number == 1:
            return self._pairs(params, judge_params, encoded, batch["prompt"], key, WHOLE)

        def of_part(rows_and_index: tuple[dict, jax.Array]) -> dict[str, jax.Array]:
            rows, index = rows_and_index
            encoded, prompt = Encoded(rows["hidden"], rows["mask"]), rows["prompt"]
            return vars(
                self._pairs(params, judge_params, encoded, prompt, key, Part(number, index))
            )

        rows = {"prompt": batch["prompt"], **vars(encoded)}
        columns = jax.lax.map(of_part, (alternate_rows(rows, number), jnp.arange(number)))
        return PairBatch(**rows_in_order(columns))

    def _pairs(
        self,
        params: Params,
        judge_params: Params,
        encoded: Encoded,
        prompt: PromptTokens,
        key: RandomKey,
        part: Part,
    ) -> PairBatch:
        samples = self.policy.sample(params, encoded, key, 2, self.method, part=part).tokens
        response_a, response_b = samples[:, 0], samples[:, 1]
        judgement = self.judge.judge(judge_params, prompt, response_a, response_b)
        return PairBatch(
            response_a,
            response_b,
            judgement.choice,
            judgement.probability,
            judgement.prompt_truncated,
        )
