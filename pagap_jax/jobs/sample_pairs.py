"""Samples a pair of responses to each of some prompts, one from each of two policies (§6).

In: prompts, two policies, a preference model. Out: labelled pairs. With the golden policy on both
sides it makes the fixed golden responses that every win rate is measured against (§4.1), and its
labels are the check that the golden policy wins half of the time against itself.
"""

from collections.abc import Callable

import gin
import numpy as np
from jax.sharding import Mesh

from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.data.reading import Column
from pagap_jax.data.stored import TokenPairs, write_token_pairs
from pagap_jax.data.stored_metadata import is_complete
from pagap_jax.evaluation.examine import sample_fields
from pagap_jax.jobs.inputs import TrainedJudge, build_policy, choose_prompts, open_pairs
from pagap_jax.lineage import require_job
from pagap_jax.mapping.batching import compile_sampler, map_batches
from pagap_jax.mapping.judging import labelled
from pagap_jax.mapping.kept import Kept
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import check_batch_size, make_mesh
from pagap_jax.processes import is_first
from pagap_jax.ranges import Count, Place, Seed, Vocabulary
from pagap_jax.records import CHOICE_UNKNOWN
from pagap_jax.run_directory import KEPT, RunDirectory
from pagap_jax.run_warnings import check_limits
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.streams import Purpose, key_for
from pagap_jax.train.state import abstract_params


@gin.configurable
def sample_pairs(
    model_dir: Place,
    pairs_dir: Place,
    vocabulary: Vocabulary,
    model: T5Config,
    policy_a_path: Place,
    policy_b_path: Place,
    judge: TrainedJudge,
    sampling: SamplingMethod,
    num_prompts: Count | None,
    batch_size: Count,
    seed: Seed,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Response a from one policy, response b from another, labelled in both orders.

    Args:
        policy_a_path: a run, or one of its checkpoints; `policy_b_path` likewise.
        num_prompts: different prompts, drawn at random (a win rate's); None takes the prompt of
            every pair (a data set of its own, §6).
    """
    for path in (policy_a_path, policy_b_path):
        require_job(path, "a policy", "sft", "align")
    parents = {"pairs": pairs_dir, "policy_a": policy_a_path, "policy_b": policy_b_path,
               "judge": judge.checkpoint_path}  # fmt: skip
    with RunDirectory(model_dir, "sample_pairs", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        mesh = mesh_maker()
        check_batch_size(batch_size, mesh)
        prompts = choose_prompts(open_pairs(pairs_dir, "train", vocabulary), num_prompts, seed)
        policy = build_policy(model, vocabulary, prompts.response_a.width)
        abstract = abstract_params(policy.transformer, mesh)
        sampler = compile_sampler(policy, sampling, key_for(seed, Purpose.SAMPLED_PAIRS), mesh)
        columns: dict[str, Column] = {
            "prompt": prompts.prompt,
            "row": np.arange(len(prompts), dtype=np.int32),
        }
        # Two samples of each, so that policies a and b may be the same and their responses differ.
        kept = Kept(run.path / KEPT)
        policies = {"a": policy_a_path, "b": policy_b_path}

        def sample(side: str) -> np.ndarray:
            params = restore_params(policies[side], abstract)
            return map_batches(
                sampler, (params,), columns, mesh, batch_size, False, kept.of(f"response_{side}")
            )

        a, b = sample("a"), sample("b")
        golden = judge.compiled(vocabulary, mesh, batch_size, policy.response_length)
        judged = golden(prompts.prompt, a[:, 0], b[:, 1], kept=kept.of("judged"))
        result = summary(judged.choice)
        for responses in (a[:, 0], b[:, 1]):
            check_limits(run, sample_fields(responses, prompts.prompt_id))
        if is_first() and not is_complete(run.path):
            pairs = unlabelled(prompts.prompt[np.arange(len(prompts))], a[:, 0], b[:, 1])
            write_token_pairs(run.path, {"train": labelled(pairs, judged)}, vocabulary, result)
        kept.delete()
        return run.finish(result)


def unlabelled(prompt: np.ndarray, response_a: np.ndarray, response_b: np.ndarray) -> TokenPairs:
    """Pairs of which nothing is known but their tokens."""
    unknown = np.full(len(prompt), CHOICE_UNKNOWN, np.int8)
    return TokenPairs(
        prompt=prompt,
        response_a=response_a,
        response_b=response_b,
        choice=unknown,
        true_choice=unknown,
        probability=np.full(len(prompt), np.nan, np.float32),
        step=np.full(len(prompt), -1, np.int32),
    )


def summary(choice: np.ndarray) -> dict:
    """How often response a wins, a tie counting half."""
    return {
        "pairs": len(choice),
        "win_rate_a": float(np.mean(np.where(choice < 0, 0.5, choice == 0))),
        "ties": int(np.sum(choice < 0)),
    }
