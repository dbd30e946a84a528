"""Preference optimisation of the policy, online or offline (App. B): one job, one step.

In: π_sft, pairs (online uses their prompts alone) and, online, a preference model. Out: policy
checkpoints and, online, D_online.
"""

from collections.abc import Callable
from typing import Any, Literal

import gin
import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.online import OnlinePairs
from pagap_jax.align.pairs import PairSource
from pagap_jax.align.recorder import StreamRecorder
from pagap_jax.align.step import AlignStep, FrozenModels, Reduction
from pagap_jax.errors import ConfigError
from pagap_jax.interop.restoring import restore_params
from pagap_jax.jobs.inputs import batch_at, build_judge, build_policy, open_pairs, restore_judge
from pagap_jax.jobs.reference_scores import origin, read_reference_scores
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import (
    batch_sharding,
    check_batch_size,
    make_mesh,
    put_batch,
    replicated,
)
from pagap_jax.policies import Params, Policy
from pagap_jax.run_directory import RunDirectory, require_job
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.prefetch import Prefetch
from pagap_jax.train.state import abstract_params, abstract_state, init_state


@gin.configurable
class Online:
    """Pairs sampled from the policy at each step and labelled by this preference model."""

    def __init__(
        self,
        judge: T5Config,
        judge_checkpoint_path: str,
        input_length: int,
        sampling: SamplingMethod,
    ):
        self.judge = judge
        self.judge_checkpoint_path = judge_checkpoint_path
        self.input_length = input_length
        self.sampling = sampling


@gin.configurable
def align(
    model_dir: str,
    pairs_dir: str,
    vocabulary: Any,
    model: T5Config,
    initial_checkpoint_path: str,
    method: str,
    loss: Literal["ipo", "ipo_margin", "dpo", "slic", "bo2"],
    beta: float,
    learning_rate: LearningRate,
    optimizer: Any,
    loop: TrainLoop,
    batch_size: int,
    seed: int,
    online: Online | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    data_order: Literal["shuffled", "recorded"] = "shuffled",
    reference_scores_dir: str | None = None,
    num_microbatches: int = 1,
    frozen_dtype: Literal["float32", "bfloat16"] = "float32",
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Optimises the policy from π_sft, which is the reference as well.

    Args:
        method: what rows and figures call this run: 'online', 'offline', 'golden', 'replay'.
        online: where responses come from; None takes the data set's own pairs (offline).
        reduction: of a response's token log-probs; the paper sums.
        data_order: of the batches; 'recorded' replays D_online (App. F).
        reference_scores_dir: of `reference_scores` with these pairs and this checkpoint; None runs
            the reference in each step. Offline only: what will be sampled can't be scored before.
        batch_size: prompts a step, one pair each.
        num_microbatches: parts of a batch that are sampled and whose gradients are added up, one
            after another; each draws samples of its own.
        frozen_dtype: of the layers of reference and preference model. A bfloat16 model computes
            with them in that type anyhow: its numbers stay the same.
    """
    if beta < 0:
        raise ConfigError(f"BETA: found {beta}, expected 0 or more")
    require_job(initial_checkpoint_path, "a policy", "sft", "align", "pretrain")
    parents = {"pairs": pairs_dir, "initial": initial_checkpoint_path}
    parents |= parents_of_source(online, reference_scores_dir)
    with RunDirectory(model_dir, "align", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        mesh = mesh_maker()
        check_batch_size(batch_size, mesh, num_microbatches)
        pairs = open_pairs(pairs_dir, "train", vocabulary)
        policy = build_policy(model, vocabulary, pairs.response_a.width)
        source, judge_params = open_source(online, policy, vocabulary, mesh, frozen_dtype)
        step = AlignStep(
            policy, source, AlignmentLoss(loss), Reduction(reduction), optimizer, num_microbatches
        )

        def restore(dtype: str = "float32") -> Any:
            params = abstract_params(policy.transformer, mesh, dtype)
            return restore_params(initial_checkpoint_path, params)

        abstract = abstract_state(abstract_params(policy.transformer, mesh), optimizer, mesh)
        compiled = compile_align_step(step, abstract, mesh)
        made_of = (pairs_dir, initial_checkpoint_path, vocabulary, model, pairs)
        scores = known_scores(reference_scores_dir, *made_of)
        frozen = FrozenModels(None if scores else restore(frozen_dtype), judge_params)
        key = jax.random.key(seed)

        def put(index):
            shuffle = data_order == "shuffled"
            return put_batch(
                batch_at(pairs, batch_size, index, seed, mesh, shuffle, **scores), mesh
            )

        batches = Prefetch(put, loop.train_steps)

        def one_step(state, index):
            rates = (learning_rate.at(index), np.float32(beta))
            return compiled(state, batches(index), *rates, key, frozen)

        facts = {
            "method": method, "loss": loss, "reduction": reduction, "beta": beta,
            "learning_rate": learning_rate.peak, "train_steps": loop.train_steps, "seed": seed,
        }  # fmt: skip
        recorder = StreamRecorder(run.path / "stream", run.path / "d_online", pairs.prompt.width)

        def fresh_state():
            # Not kept beyond this where no step needs it: its memory is the policy's.
            known = frozen.reference if frozen_dtype == "float32" else None
            return init_state(known or restore(), optimizer, mesh)

        with jax.set_mesh(mesh):
            loop.run(run, fresh_state, abstract, one_step, recorder if online else None)
        if online:
            recorder.finish(vocabulary, facts)
        return run.finish(facts)


def parents_of_source(online: Online | None, reference_scores_dir: str | None) -> dict[str, str]:
    """What a run is made of beside pairs and policy, by role.

    Raises:
        ConfigError: log-probs for pairs that will be sampled, or of another job.
    """
    if online and reference_scores_dir:
        raise ConfigError("REFERENCE_SCORES_DIR is for offline runs: this one samples its pairs")
    if online:
        return {"judge": online.judge_checkpoint_path}
    if reference_scores_dir:
        require_job(reference_scores_dir, "reference log-probs", "reference_scores")
        return {"reference_scores": reference_scores_dir}
    return {}


def open_source(
    online: Online | None, policy: Policy, vocabulary: Any, mesh: Mesh, dtype: str
) -> tuple[PairSource, Params | None]:
    """Where a step's pairs come from, and the parameters that they are judged with, if any."""
    if online is None:
        return offline_pairs, None
    judge = build_judge(online.judge, online.input_length, vocabulary)
    params = restore_judge(judge, online.judge_checkpoint_path, mesh, dtype)
    return OnlinePairs(policy, judge, online.sampling), params


def known_scores(reference_scores_dir: str | None, *made_of: Any) -> dict[str, np.ndarray]:
    """The batches' further column of log-probs; none where the step runs the reference."""
    if reference_scores_dir is None:
        return {}
    return {"reference": read_reference_scores(reference_scores_dir, origin(*made_of))}


def compile_align_step(step: AlignStep, abstract, mesh):
    """Jits the step with explicit shardings.

    Rates, β, key and frozen models are arguments, so that a sweep over them compiles once.
    """
    state = jax.tree.map(lambda x: x.sharding, abstract)
    whole = replicated(mesh)

    def align_step(state, batch, *others):  # by this name profiles and compilations tell of it
        state, metrics, pairs = step(state, batch, *others)
        return (
            state,
            metrics,
            None if step.pair_source is offline_pairs else (batch["prompt"], pairs),
        )

    return jax.jit(
        align_step,
        # None: frozen models stay where they were restored to.
        in_shardings=(state, batch_sharding(mesh), whole, whole, whole, None),
        out_shardings=(state, whole, whole),
        donate_argnums=0,
    )
