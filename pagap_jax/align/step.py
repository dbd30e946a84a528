"""The align step: pairs from a source, one loss, one update; the same online and offline."""

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pagap_jax.align.pairs import PairBatch, PairSource, PromptBatch, pairs_of
from pagap_jax.array_types import RandomKey, SampledTokens, Scalar, SequenceLogProbs
from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.losses.alignment import AlignmentLoss, log_ratio_margin, mean_log_ratio
from pagap_jax.losses.log_probs import mean_log_prob, sequence_log_prob
from pagap_jax.policies import Encoded, Policy
from pagap_jax.sampling.loop import END_ID
from pagap_jax.train.step import Gradients, Metrics, apply_gradients, folded, over_microbatches


class Reduction(enum.Enum):
    """How token log-probs become a response's: the paper sums, TRL's offline IPO averages."""

    SUM = "sum"
    MEAN = "mean"


@struct.dataclass
class FrozenModels:
    """Parameters that the step reads and never changes.

    `judge` is None where nothing is judged, `reference` where its log-probs come with the pairs.
    """

    reference: Any
    judge: Any


@dataclasses.dataclass(frozen=True)
class AlignStep:
    """One update of the policy on one batch of prompts.

    The policy's encoder runs once forward and once backward: its output feeds the source (which
    takes no gradient) and the loss, and its saved residuals take the loss's gradient back. With
    microbatches it runs once more, for the source: pairs are made of the whole batch beforehand,
    so that they don't depend on its parts, and a token is sampled for all prompts at once.

    Attributes:
        log_ratio: what metrics call the responses' mean log-ratio to the reference
            (`mean_log_ratio`): 'kl' where they are samples of the policy.
    """

    policy: Policy
    pair_source: PairSource
    loss: AlignmentLoss
    reduction: Reduction
    optimizer: optax.GradientTransformation
    num_microbatches: int = 1
    log_ratio: str = "log_ratio"

    def __call__(
        self,
        state: TrainState,
        batch: PromptBatch,
        learning_rate: Scalar,
        beta: Scalar,
        key: RandomKey,
        frozen: FrozenModels,
    ) -> tuple[TrainState, Metrics, PairBatch]:
        """The next state, metrics, and the pairs for whoever records them."""
        key = folded(key, state.step)
        compute = functools.partial(self._gradients, state.params, beta, frozen)

        def source(encode: Callable[[], Encoded]) -> PairBatch:
            return self.pair_source(state.params, frozen.judge, encode, batch, key)

        if self.num_microbatches == 1:
            found, pairs = compute(batch, source)
        else:
            pairs = source(lambda: self.policy.encode(state.params, batch["prompt"]))
            # From here on it is a batch of a data set.
            rows = batch | {name: x for name, x in vars(pairs).items() if x is not None}
            found = over_microbatches(
                lambda rows, _: compute(rows, lambda _: pairs_of(rows))[0],
                *(rows, key, self.num_microbatches),
            )
        state, norms = apply_gradients(state, found.gradients, learning_rate, self.optimizer)
        return state, {"loss": found.loss, **found.metrics, **norms}, pairs

    def _gradients(
        self,
        params: Any,
        beta: Scalar,
        frozen: FrozenModels,
        batch: PromptBatch,
        source: Callable[[Callable[[], Encoded]], PairBatch],
    ) -> tuple[Gradients, PairBatch]:
        """Gradients of the mean loss over the batch's pairs, and the pairs."""
        prompt, mask = batch["prompt"], batch["prompt"] > 0
        hidden, encoder_gradient = jax.vjp(
            lambda params: self.policy.encode(params, prompt).hidden, params
        )
        pairs = source(lambda: jax.lax.stop_gradient(Encoded(hidden, mask)))
        # The update is compiled apart from the source, so that a replay of recorded pairs runs
        # through the same arithmetic as the run that sampled them (App. F).
        pairs, hidden = jax.lax.optimization_barrier((pairs, hidden))
        responses = jnp.stack([pairs.response_a, pairs.response_b], axis=1)
        totals = pairs.reference
        if totals is None:
            encoded = self.policy.encode(frozen.reference, prompt)
            totals = self._score(frozen.reference, encoded, responses)
        reference = self._reduce(totals, responses)

        def loss_of(params: Any, hidden: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
            scores = self._score(params, Encoded(hidden, mask), responses)
            loss, (weight, metrics) = pair_loss(
                self.loss, self._reduce(scores, responses), reference, pairs, beta
            )
            metrics[self.log_ratio] = mean_log_ratio(scores, totals)
            return loss, (weight, metrics)

        gradient = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
        (loss, (weight, metrics)), (decoder_part, hidden_gradient) = gradient(params, hidden)
        (encoder_part,) = encoder_gradient(hidden_gradient)
        gradients = jax.tree.map(jnp.add, decoder_part, encoder_part)
        metrics |= response_metrics(responses)
        return Gradients(loss, weight, metrics, gradients), pairs

    def _score(self, params: Any, encoded: Encoded, responses: SampledTokens) -> SequenceLogProbs:
        return sequence_log_prob(self.policy.log_probs(params, encoded, responses))

    def _reduce(self, scores: SequenceLogProbs, responses: SampledTokens) -> SequenceLogProbs:
        return scores if self.reduction is Reduction.SUM else mean_log_prob(scores, responses > 0)


def pair_loss(
    loss: AlignmentLoss,
    scores: SequenceLogProbs,
    reference: SequenceLogProbs,
    pairs: PairBatch,
    beta: Scalar,
) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
    """Mean loss over the pairs that teach something, their number, and metrics of them.

    A tie has no part. Identical responses are a tie too, but for a loss that isn't contrastive:
    Bo2 has their log-prob to maximise.

    Args:
        scores: [B, 2] of the policy for responses a and b; `reference` likewise.
    """
    b_chosen = (pairs.choice == 1)[:, None]
    chosen, rejected = _columns(jnp.where(b_chosen, scores[:, ::-1], scores))
    ref_chosen, ref_rejected = _columns(jnp.where(b_chosen, reference[:, ::-1], reference))
    teaches = pairs.choice >= 0
    if not loss.is_contrastive:
        teaches |= jnp.all(pairs.response_a == pairs.response_b, axis=1)
    weight = teaches.astype(jnp.float32)
    total = jnp.maximum(jnp.sum(weight), 1.0)

    def mean(x: jax.Array) -> jax.Array:
        return jnp.sum(x * weight) / total

    confidence = jnp.maximum(pairs.probability, 1.0 - pairs.probability)
    margin = log_ratio_margin(chosen, rejected, ref_chosen, ref_rejected)
    metrics = {
        "margin": mean(margin),
        "accuracy": mean(margin > 0),
        "chosen_log_prob": mean(chosen),
        "rejected_log_prob": mean(rejected),
        "ties": jnp.mean(pairs.choice < 0, dtype=jnp.float32),
        "prompt_truncated": jnp.mean(pairs.prompt_truncated, dtype=jnp.float32),
        "chosen_probability": mean(jnp.where(weight > 0, confidence, 0.0)),
    }
    losses = loss.function(chosen, rejected, ref_chosen, ref_rejected, beta)
    return mean(losses), (jnp.sum(weight), metrics)


def response_metrics(responses: SampledTokens) -> Metrics:
    """Lengths in tokens, the share that ended, and the number of tokens."""
    valid = responses > 0
    return {
        "response_length": jnp.mean(jnp.sum(valid, axis=-1, dtype=jnp.float32)),
        "share_finished": jnp.mean(jnp.any(responses == END_ID, axis=-1), dtype=jnp.float32),
        "tokens": jnp.sum(valid, dtype=jnp.float32),
    }


def _columns(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x[:, 0], x[:, 1]
