"""Preference optimisation of the policy, online or offline (§4, App. B): one job, one step.

In: π_sft, pairs (online uses their prompts alone) and, online, a preference model. Out: policy
checkpoints and, online, D_online.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import gin
import jax
import numpy as np
from jax.sharding import Mesh

from pagap_jax.align.pairs import PromptBatch
from pagap_jax.align.recorder import StreamRecorder
from pagap_jax.align.step import AlignStep, FrozenModels, Reduction
from pagap_jax.array_types import RandomKey, Scalar
from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.compilation import FEW
from pagap_jax.data.batches import DataOrder
from pagap_jax.data.texts import Texts, keep_texts
from pagap_jax.jobs.inputs import RunLabels, batch_at, build_policy, open_pairs
from pagap_jax.jobs.pair_origins import PairOrigin
from pagap_jax.jobs.reference_scores import origin
from pagap_jax.lineage import require_job
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import (
    batch_sharding,
    check_batch_size,
    make_mesh,
    put_batch,
    replicated,
)
from pagap_jax.policies import Policy
from pagap_jax.ranges import Count, NotNegative, Optimizer, Place, Seed, Vocabulary
from pagap_jax.run_directory import RunDirectory
from pagap_jax.streams import Purpose, key_for
from pagap_jax.train.loop import StepFunction, TrainLoop
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.prefetch import Prefetch
from pagap_jax.train.state import abstract_params, abstract_state, init_state

FrozenDtype = Literal["float32", "bfloat16"]
# Names stand once; gin checks them with file and line.
if TYPE_CHECKING:
    LossName: TypeAlias = str
    ReductionName: TypeAlias = str
else:
    LossName = Literal[tuple(loss.value for loss in AlignmentLoss)]
    ReductionName = Literal[tuple(reduction.value for reduction in Reduction)]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Objective:
    """What alignment optimises.

    Attributes:
        loss: a name of `AlignmentLoss`.
        beta: of the loss; with 'ipo' the margin asked for is 1/(2β) nats.
        reduction: of a response's token log-probs, 'sum' (the paper's) or 'mean'.
    """

    loss: LossName
    beta: NotNegative
    reduction: ReductionName = "sum"

    def facts(self) -> dict[str, Any]:
        """As rows have it."""
        return dataclasses.asdict(self)

    @property
    def parts(self) -> tuple[AlignmentLoss, Reduction]:
        """What the step takes; it takes β as an argument."""
        return AlignmentLoss(self.loss), Reduction(self.reduction)


@gin.configurable
def align(
    model_dir: Place,
    pairs_dir: Place,
    vocabulary: Vocabulary,
    model: T5Config,
    initial_checkpoint_path: Place,
    pair_origin: PairOrigin,
    labels: RunLabels,
    objective: Objective,
    learning_rate: LearningRate,
    optimizer: Optimizer,
    loop: TrainLoop,
    data_order: DataOrder,
    batch_size: Count,
    seed: Seed,
    num_microbatches: Count = 1,
    frozen_dtype: FrozenDtype = "float32",
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Optimises the policy from π_sft, which is the reference as well.

    Args:
        pair_origin: `Online` samples responses to the prompts, `Offline` takes the data's own.
        batch_size: prompts a step, one pair each.
        num_microbatches: parts of a batch whose gradients are computed in turn. Sampling isn't cut
            by it (`Online.num_sampling_parts`).
        frozen_dtype: of the frozen models' layers; one that computes in it keeps its numbers.
    """
    require_job(initial_checkpoint_path, "a policy", "sft", "align", "pretrain")
    parents = {"pairs": pairs_dir, "initial": initial_checkpoint_path, **pair_origin.parents}
    with RunDirectory(model_dir, "align", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        mesh = mesh_maker()
        check_parts(batch_size, mesh, num_microbatches, pair_origin)
        pairs = open_pairs(pairs_dir, "train", vocabulary)
        policy = build_policy(model, vocabulary, pairs.response_a.width)
        start = Start(policy, initial_checkpoint_path, mesh, frozen_dtype)
        made_of = origin(pairs_dir, initial_checkpoint_path, vocabulary, model, pairs)
        opened = pair_origin.open(policy, vocabulary, mesh, frozen_dtype, made_of)
        step = opened.step(policy, *objective.parts, optimizer, num_microbatches)
        compiled = compile_align_step(step, mesh, pair_origin.records)
        frozen = FrozenModels(start.reference(opened.columns), opened.judge_params)
        params = start.abstract(optimizer).params
        facts = labels.facts(params, data_order, learning_rate, loop, seed) | objective.facts()

        def batch(index: int) -> Any:
            rows = batch_at(pairs, batch_size, index, seed, mesh, data_order, **opened.columns)
            return put_batch(rows, mesh)

        update = update_by_step(compiled, batch, objective.beta, learning_rate, seed, frozen, loop)
        recorder = StreamRecorder(run.path, pairs.prompt.width) if pair_origin.records else None
        with jax.set_mesh(mesh):
            start_state = functools.partial(start.state, optimizer, frozen)
            loop.run(run, start_state, start.abstract(optimizer), update, recorder)
        if recorder:
            recorder.finish(vocabulary, facts)
        keep_texts(run.path, Texts(vocabulary, pairs.prompt.width, pairs.response_a.width))
        return run.finish(facts)


def check_parts(batch_size: int, mesh: Mesh, num_microbatches: int, origin: PairOrigin) -> None:
    """Raises ConfigError where a batch can't be cut into what is asked for."""
    check_batch_size(batch_size, mesh, num_microbatches)
    check_batch_size(batch_size, mesh, origin.num_sampling_parts, "NUM_SAMPLING_PARTS")


@dataclasses.dataclass(frozen=True)
class Start:
    """π_sft: what the policy starts from, and the reference."""

    policy: Policy
    checkpoint: str
    mesh: Mesh
    frozen_dtype: FrozenDtype

    def reference(self, columns: Mapping[str, Any]) -> Any:
        """The frozen reference; None where its log-probs come with the batches."""
        return None if "reference" in columns else self._restored(self.frozen_dtype)

    def abstract(self, optimizer: Any) -> TrainState:
        """Shapes and shardings of the policy's state."""
        params = abstract_params(self.policy.transformer, self.mesh)
        return abstract_state(params, optimizer, self.mesh)

    def state(self, optimizer: Any, frozen: FrozenModels) -> TrainState:
        """The policy at step 0.

        Restored anew where no step needs a float32 reference: keeping one would double the memory
        of parameters.
        """
        known = frozen.reference if self.frozen_dtype == "float32" else None
        return init_state(known or self._restored("float32"), optimizer, self.mesh)

    def _restored(self, dtype: str) -> Any:
        params = abstract_params(self.policy.transformer, self.mesh, dtype)
        return restore_params(self.checkpoint, params)


def update_by_step(
    compiled: Callable,
    batch: Callable[[int], Any],
    beta: float,
    learning_rate: LearningRate,
    seed: int,
    frozen: FrozenModels,
    loop: TrainLoop,
) -> StepFunction:
    """The update as the loop calls it, with (state, step); the next batch is read ahead."""
    batches = Prefetch(batch, loop.train_steps)
    key = key_for(seed, Purpose.TRAINING_SAMPLES)

    def update(state: TrainState, index: int) -> tuple:
        rate = learning_rate.at(index)
        return compiled(state, batches(index), rate, np.float32(beta), key, frozen)

    return update


@functools.lru_cache(maxsize=FEW)
def compile_align_step(step: AlignStep, mesh: Mesh, records: bool) -> Any:
    """Jits the step with explicit shardings.

    Rate, β, key and frozen models are arguments, so that a sweep over them compiles once.

    Args:
        records: whether the step gives the pairs that it made, with their prompts.
    """
    params = abstract_params(step.policy.transformer, mesh)
    abstract = abstract_state(params, step.optimizer, mesh)
    state_sharding = jax.tree.map(lambda x: x.sharding, abstract)
    whole = replicated(mesh)

    def align_step(
        state: TrainState,
        batch: PromptBatch,
        learning_rate: Scalar,
        beta: Scalar,
        key: RandomKey,
        frozen: FrozenModels,
    ) -> tuple:  # by this name profiles and compilations tell of it
        state, metrics, pairs = step(state, batch, learning_rate, beta, key, frozen)
        return state, metrics, (batch["prompt"], pairs) if records else None

    return jax.jit(
        align_step,
        # None: frozen models stay where they were restored to.
        in_shardings=(state_sharding, batch_sharding(mesh), whole, whole, whole, None),
        out_shardings=(state_sharding, whole, whole),
        donate_argnums=0,
    )
