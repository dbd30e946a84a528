"""All measures of one checkpoint (§4.1, §5): samples once, then asks everything about them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax.data.reading import Pairs
from pagap_jax.evaluation.batching import compile_for, compile_sampler, map_batches
from pagap_jax.evaluation.classification import classify, log_prob_shift, score_pairs
from pagap_jax.evaluation.intervals import mean_and_standard_error
from pagap_jax.evaluation.judging import Judge
from pagap_jax.evaluation.kl import response_kl
from pagap_jax.evaluation.win_rate import win_rate
from pagap_jax.policies import Policy
from pagap_jax.sampling.loop import END_ID
from pagap_jax.sampling.methods import SamplingMethod

EVALUATION = 1  # what random numbers are for: `sample_pairs` draws from the seed's own stream


@dataclasses.dataclass(frozen=True)
class Examination:
    """What every checkpoint is asked, the same questions with the same random numbers.

    Attributes:
        golden_responses: prompts with the golden policy's fixed response as `response_a`.
        golden_pairs: pairs of D_golden for classification and the shift of log-probs.
        kl_prompts: prompts, the first ones, that KL and self-classification are measured on.
    """

    policy: Policy
    reference: Any
    golden: Judge
    proxy: Judge
    golden_responses: Pairs
    golden_pairs: Pairs
    kl_prompts: int
    sampling: SamplingMethod
    mesh: Mesh
    batch_size: int
    seed: int

    def compiled(self) -> Callable[[Any], dict]:
        """A function of a checkpoint's parameters that gives the measured fields of its row."""
        functions = self.functions()
        return lambda params: self._examine(functions, params)

    def functions(self) -> "Functions":
        """What is asked of the policy, jitted."""
        policy = self.policy

        def kl(params: Any, reference: Any, batch: dict) -> jax.Array:
            return response_kl(policy, params, reference, batch["prompt"], batch["responses"])

        def scores(params: Any, reference: Any, batch: dict):
            return score_pairs(policy, params, reference, **batch)

        # Not the stream of random numbers that the golden responses were sampled with: a policy
        # near the golden one would copy them.
        key = jax.random.fold_in(jax.random.key(self.seed), EVALUATION)
        return Functions(
            compile_sampler(policy, self.sampling, key, self.mesh),
            compile_for(kl, 2, self.mesh),
            compile_for(scores, 2, self.mesh),
        )

    def _examine(self, functions: "Functions", params: Any) -> dict:
        def over(function: Callable, models: tuple, columns: dict, by_length: bool = True) -> Any:
            return map_batches(function, models, columns, self.mesh, self.batch_size, by_length)

        prompt = self.golden_responses.prompt
        rows = np.arange(len(prompt), dtype=np.int32)
        samples = over(functions.sample, (params,), {"prompt": prompt, "row": rows}, False)
        first, second = samples[:, 0], samples[:, 1]
        few = slice(self.kl_prompts)
        both = (params, self.reference)
        kl = over(functions.kl, both, {"prompt": prompt[few], "responses": first[few][:, None]})[
            :, 0
        ]
        own = {"prompt": prompt[few], "response_a": first[few], "response_b": second[few]}
        data = self.golden_pairs
        names = ("prompt", "response_a", "response_b")
        data_scores = over(functions.scores, both, {name: getattr(data, name) for name in names})
        golden_response = self.golden_responses.response_a
        return {
            **kl_fields(kl),
            **win_rate_fields(self.golden(prompt, first, golden_response).choice),
            "proxy_win_rate": win_rate(self.proxy(prompt, first, golden_response).choice).rate,
            **classification_fields(data_scores, data.choice),
            **self_classification_fields(
                over(functions.scores, both, own), self.golden(**own).choice
            ),
            **sample_fields(first),
        }


@dataclasses.dataclass(frozen=True)
class Functions:
    """The jitted functions of one policy."""

    sample: Callable
    kl: Callable
    scores: Callable


def kl_fields(kl: np.ndarray) -> dict:
    """Mean KL in nats a response, its standard error, the number of prompts."""
    mean, error = mean_and_standard_error(kl)
    return {"kl": mean, "kl_se": error, "kl_prompts": len(kl)}


def win_rate_fields(choice: np.ndarray) -> dict:
    """The win rate over all prompts, the even ones (to choose by) and the odd ones (to report)."""
    whole, select, report = (
        win_rate(choice), win_rate(choice[::2]), win_rate(choice[1::2])
    )  # fmt: skip
    return {
        "win_rate": whole.rate,
        "win_rate_low": whole.low,
        "win_rate_high": whole.high,
        "win_rate_prompts": whole.prompts,
        "win_rate_select": select.rate,
        "win_rate_select_prompts": select.prompts,
        "win_rate_report": report.rate,
        "win_rate_report_low": report.low,
        "win_rate_report_high": report.high,
        "win_rate_report_prompts": report.prompts,
        "win_rate_ties": whole.ties,
    }


def classification_fields(scores: Any, choice: np.ndarray) -> dict:
    """Accuracy on D_golden and how far chosen and rejected log-probs moved."""
    result = classify(scores, choice)
    chosen, rejected = log_prob_shift(scores, choice)
    return {
        "accuracy": result.accuracy,
        "accuracy_low": result.low,
        "accuracy_high": result.high,
        "accuracy_pairs": result.pairs,
        "chosen_log_prob_shift": chosen,
        "rejected_log_prob_shift": rejected,
    }


def self_classification_fields(scores: Any, choice: np.ndarray) -> dict:
    """Accuracy on pairs sampled from the policy itself (App. E.1)."""
    result = classify(scores, choice)
    return {"self_accuracy": result.accuracy, "self_accuracy_pairs": result.pairs}


def sample_fields(responses: np.ndarray) -> dict:
    """Length in tokens, share that ended, share of different responses."""
    return {
        "response_length": float(np.mean(np.sum(responses > 0, axis=1))),
        "share_finished": float(np.mean(np.any(responses == END_ID, axis=1))),
        "share_unique": len(np.unique(responses, axis=0)) / len(responses),
    }
