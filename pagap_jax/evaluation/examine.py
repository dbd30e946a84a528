"""All measures of one checkpoint (§4.1, §5): samples once, then asks everything about them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax.compilation import FEW
from pagap_jax.data.reading import StoredPairs
from pagap_jax.evaluation.classification import PairScores, classify, log_prob_shift, score_pairs
from pagap_jax.evaluation.kl import response_kl
from pagap_jax.evaluation.shown import shown_of
from pagap_jax.evaluation.win_rate import outcomes_of, select_half
from pagap_jax.intervals import mean_of, rate_of
from pagap_jax.mapping.batching import compile_for, compile_sampler, map_batches
from pagap_jax.mapping.judging import Judge
from pagap_jax.policies import Policy
from pagap_jax.sampling.loop import END_ID
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.streams import Purpose, choose_rows, key_for


@dataclasses.dataclass(frozen=True)
class Measured:
    """One checkpoint's answers.

    Attributes:
        fields: those of its row.
        outcomes: what rates and means are made of, prompt by prompt: win and proxy_win [E], kl [K].
        shown: samples to be read, see `shown.shown_of`.
    """

    fields: dict[str, Any]
    outcomes: dict[str, np.ndarray]
    shown: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Examination:
    """What every checkpoint is asked, the same questions with the same random numbers.

    Attributes:
        golden_responses: prompts with the golden policy's fixed response as `response_a`.
        golden_pairs: pairs of D_golden for classification and the shift of log-probs.
        kl_prompts: how many of the prompts KL and self-classification are measured on; drawn.
    """

    policy: Policy
    reference: Any
    golden: Judge
    proxy: Judge
    golden_responses: StoredPairs
    golden_pairs: StoredPairs
    kl_prompts: int
    sampling: SamplingMethod
    mesh: Mesh
    batch_size: int
    seed: int

    def compiled(self) -> Callable[[Any], Measured]:
        """A function of a checkpoint's parameters that measures it."""
        functions = Functions.compiled(self.policy, self.sampling, self.seed, self.mesh)
        return lambda params: self._examine(functions, params)

    def known(self) -> dict[str, np.ndarray]:
        """Which prompts `outcomes` are of: prompt_id and select [E], kl_prompt_id [K]."""
        ids = self.golden_responses.prompt_id
        return {
            "prompt_id": ids,
            "select": select_half(ids),
            "kl_prompt_id": ids[self._kl_rows()],
        }

    def _kl_rows(self) -> np.ndarray:
        total = len(self.golden_responses)
        return choose_rows(total, self.kl_prompts, self.seed, Purpose.KL_PROMPTS)

    def _over(
        self, function: Callable, models: tuple, columns: dict, by_length: bool = True
    ) -> Any:
        return map_batches(function, models, columns, self.mesh, self.batch_size, by_length)

    def _examine(self, functions: "Functions", params: Any) -> Measured:
        responses, both = self.golden_responses, (params, self.reference)
        prompt, ids = responses.prompt, responses.prompt_id
        rows = np.arange(len(prompt), dtype=np.int32)
        columns = {"prompt": prompt, "row": rows}
        samples = self._over(functions.sample, (params,), columns, by_length=False)
        first, second = samples[:, 0], samples[:, 1]
        judged = [judge(prompt, first, responses.response_a) for judge in (self.golden, self.proxy)]
        win, proxy_win = (outcomes_of(judgement.choice) for judgement in judged)

        few = self._kl_rows()
        own = Responses(prompt[few], first[few], second[few])
        kl_columns = {"prompt": own.prompt, "responses": own.response_a[:, None]}
        kl = self._over(functions.kl, both, kl_columns)[:, 0]
        own_choice = self.golden(**own.columns()).choice
        own_scores = self._over(functions.scores, both, own.columns())

        data = self.golden_pairs
        pairs = Responses(data.prompt, data.response_a, data.response_b)
        scores = self._over(functions.scores, both, pairs.columns())
        fields = {
            **kl_fields(kl, ids[few]),
            **win_rate_fields(win, ids),
            **rate_fields("proxy_win_rate", proxy_win, ids),
            **classification_fields(scores, data.choice, data.prompt_id),
            **self_classification_fields(own_scores, own_choice, ids[few]),
            **sample_fields(first, ids),
        }
        outcomes = {"win": win, "proxy_win": proxy_win, "kl": kl}
        return Measured(fields, outcomes, shown_of(ids, first, *judged))


@dataclasses.dataclass(frozen=True)
class Responses:
    """Two responses to each prompt, as columns of a data set or as arrays."""

    prompt: Any
    response_a: Any
    response_b: Any

    def columns(self) -> dict[str, Any]:
        """By name, as a jitted function takes them."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class Functions:
    """The jitted functions of one policy."""

    sample: Callable
    kl: Callable
    scores: Callable

    @classmethod
    @functools.lru_cache(maxsize=FEW)
    def compiled(
        cls, policy: Policy, sampling: SamplingMethod, seed: int, mesh: Mesh
    ) -> "Functions":
        """What is asked of the policy, jitted."""

        def kl(params: Any, reference: Any, batch: dict) -> jax.Array:
            return response_kl(policy, params, reference, batch["prompt"], batch["responses"])

        def scores(params: Any, reference: Any, batch: dict) -> PairScores:
            return score_pairs(policy, params, reference, **batch)

        # Not the stream that the golden responses were sampled with: a policy near the golden one
        # would copy them.
        key = key_for(seed, Purpose.EVALUATION_SAMPLES)
        sample = compile_sampler(policy, sampling, key, mesh)
        return cls(sample, compile_for(kl, 2, mesh), compile_for(scores, 2, mesh))


def kl_fields(kl: np.ndarray, prompt_id: np.ndarray) -> dict:
    """Mean KL in nats a response, its standard error, the number of prompts."""
    found = mean_of(kl, prompt_id)
    return {"kl": found.mean, "kl_se": found.se, "kl_prompts": found.count}


def rate_fields(name: str, values: np.ndarray, prompt_id: np.ndarray) -> dict:
    """A rate with its interval."""
    found = rate_of(values, prompt_id)
    return {name: found.rate, f"{name}_low": found.low, f"{name}_high": found.high}


def win_rate_fields(win: np.ndarray, prompt_id: np.ndarray) -> dict:
    """The win rate over all prompts, the half to choose by and the half to report."""
    select = select_half(prompt_id)
    return {
        **rate_fields("win_rate", win, prompt_id),
        "win_rate_prompts": len(win),
        "win_rate_select": rate_of(win[select], prompt_id[select]).rate,
        "win_rate_select_prompts": int(np.sum(select)),
        **rate_fields("win_rate_report", win[~select], prompt_id[~select]),
        "win_rate_report_prompts": int(np.sum(~select)),
        "win_rate_ties": int(np.sum(win == 0.5)),
    }


def classification_fields(scores: PairScores, choice: np.ndarray, prompt_id: np.ndarray) -> dict:
    """Accuracy on D_golden and how far chosen and rejected log-probs moved."""
    right = classify(scores, choice, prompt_id)
    chosen, rejected = log_prob_shift(scores, choice, prompt_id)
    return {
        "accuracy": right.rate,
        "accuracy_low": right.low,
        "accuracy_high": right.high,
        "accuracy_pairs": right.count,
        "chosen_log_prob_shift": chosen.mean,
        "chosen_log_prob_shift_se": chosen.se,
        "rejected_log_prob_shift": rejected.mean,
        "rejected_log_prob_shift_se": rejected.se,
        "log_prob_shift_pairs": chosen.count,
    }


def self_classification_fields(
    scores: PairScores, choice: np.ndarray, prompt_id: np.ndarray
) -> dict:
    """Accuracy on pairs sampled from the policy itself (App. E.1)."""
    right = classify(scores, choice, prompt_id)
    return {
        "self_accuracy": right.rate,
        "self_accuracy_low": right.low,
        "self_accuracy_high": right.high,
        "self_accuracy_pairs": right.count,
    }


def sample_fields(responses: np.ndarray, prompt_id: np.ndarray) -> dict:
    """Length in tokens, share that ended, share of different responses."""
    length = mean_of(np.sum(responses > 0, axis=1).astype(np.float64), prompt_id)
    finished = np.any(responses == END_ID, axis=1).astype(np.float64)
    return {
        "samples": len(responses),
        "response_length": length.mean,
        "response_length_se": length.se,
        **rate_fields("share_finished", finished, prompt_id),
        "share_unique": len(np.unique(responses, axis=0)) / len(responses),
    }
