"""Where a run's pairs come from, as gin says it: sampled by the policy, or from a data set."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import gin
import numpy as np
import optax
from jax.sharding import Mesh

from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.online import OnlinePairs
from pagap_jax.align.pairs import PairSource
from pagap_jax.align.step import AlignStep, Reduction
from pagap_jax.jobs.inputs import TrainedJudge
from pagap_jax.jobs.reference_scores import read_reference_scores
from pagap_jax.lineage import require_job
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.policies import Params, Policy
from pagap_jax.ranges import Count, Place
from pagap_jax.sampling.methods import SamplingMethod


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a step needs of an origin.

    Attributes:
        source: traced into the step.
        judge_params: of the preference model that labels; None where nothing is judged.
        columns: further columns of the batches, as long as the data set: 'reference', the
            reference's log-probs, where they are stored.
        log_ratio: what metrics call the mean log-ratio of the responses to the reference: 'kl'
            where it estimates one (`losses.alignment.mean_log_ratio`).
    """

    source: PairSource
    judge_params: Params | None
    columns: dict[str, np.ndarray]
    log_ratio: str = "log_ratio"

    def step(
        self,
        policy: Policy,
        loss: AlignmentLoss,
        reduction: Reduction,
        optimizer: optax.GradientTransformation,
        num_microbatches: int,
    ) -> AlignStep:
        """The update on these pairs."""
        return AlignStep(
            policy=policy,
            pair_source=self.source,
            loss=loss,
            reduction=reduction,
            optimizer=optimizer,
            num_microbatches=num_microbatches,
            log_ratio=self.log_ratio,
        )


@runtime_checkable  # so that the tests can check it
class PairOrigin(Protocol):
    """What the align job asks of the object that gin gives it.

    Attributes:
        records: whether the pairs are new and are to be kept as D_online.
        num_sampling_parts: of a batch, for which pairs are made in turn.
    """

    records: bool

    @property
    def num_sampling_parts(self) -> int: ...

    @property
    def parents(self) -> dict[str, str]:
        """Paths of what the pairs are made of beside data set and policy, by role."""
        ...

    def open(
        self, policy: Policy, vocabulary: Any, mesh: Mesh, dtype: str, made_of: dict[str, Any]
    ) -> Opened:
        """Restores what is needed.

        Args:
            dtype: of a frozen model's layers.
            made_of: what stored log-probs must have been made of (`reference_scores.origin`).
        """
        ...


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Online:
    """Pairs sampled from the policy at each step, labelled by a preference model.

    Attributes:
        num_sampling_parts: parts of a batch that are sampled and judged in turn, for caches that
            are too large for all; the samples are the same.
    """

    judge: TrainedJudge
    sampling: SamplingMethod
    num_sampling_parts: Count = 1
    records = True

    @property
    def parents(self) -> dict[str, str]:
        return {"judge": self.judge.checkpoint_path}

    def open(
        self, policy: Policy, vocabulary: Any, mesh: Mesh, dtype: str, made_of: dict[str, Any]
    ) -> Opened:
        judge, params = self.judge.restored(vocabulary, mesh, policy.response_length, dtype)
        source = OnlinePairs(policy, judge, self.sampling, self.num_sampling_parts)
        # Tempered or truncated samples aren't the policy's: their log-ratio estimates no KL.
        log_ratio = "kl" if self.sampling.is_policys_own else "log_ratio"
        return Opened(source, params, {}, log_ratio)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Offline:
    """The data set's own pairs.

    Attributes:
        reference_scores_dir: of `reference_scores` with these pairs and this checkpoint; None runs
            the reference in each step.
    """

    reference_scores_dir: Place | None = None
    records = False
    num_sampling_parts = 1

    @property
    def parents(self) -> dict[str, str]:
        path = self.reference_scores_dir
        return {} if path is None else {"reference_scores": path}

    def open(
        self, policy: Policy, vocabulary: Any, mesh: Mesh, dtype: str, made_of: dict[str, Any]
    ) -> Opened:
        if self.reference_scores_dir is None:
            return Opened(offline_pairs, None, {})
        require_job(self.reference_scores_dir, "reference log-probs", "reference_scores")
        scores = read_reference_scores(self.reference_scores_dir, made_of)
        return Opened(offline_pairs, None, {"reference": scores})
