"""Supervised fine-tuning of the policy on both responses of every pair (App. C).

In: a data set of token pairs, a checkpoint to start from. Out: checkpoints of π_sft.
"""

import functools
from collections.abc import Callable, Mapping

import gin
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Float

from pagap_jax.array_types import Array
from pagap_jax.data.batches import SHUFFLED
from pagap_jax.data.texts import Texts, keep_texts
from pagap_jax.jobs.inputs import RunLabels, batch_at, build_policy, open_pairs
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.policies import Params, Policy
from pagap_jax.ranges import Count, Optimizer, Place, Seed, Vocabulary
from pagap_jax.run_directory import RunDirectory
from pagap_jax.streams import Purpose
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.step import Keys, Metrics
from pagap_jax.train.supervised import train_supervised

PURPOSES = (Purpose.DROPOUT,)


@gin.configurable
def sft(
    model_dir: Place,
    pairs_dir: Place,
    vocabulary: Vocabulary,
    model: T5Config,
    labels: RunLabels,
    learning_rate: LearningRate,
    optimizer: Optimizer,
    loop: TrainLoop,
    batch_size: Count,
    seed: Seed,
    initial_checkpoint_path: Place | None = None,
    continue_training: bool = False,
    num_microbatches: Count = 1,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Fine-tunes a T5 to write what the data set's responses are.

    Args:
        batch_size: pairs a step; each gives two targets.
        num_microbatches: parts of a batch whose gradients are added up, one after another.
        continue_training: goes on with a T5X run: its optimizer state and its step count as well.
    """
    parents = {"pairs": pairs_dir, "initial": initial_checkpoint_path}
    with RunDirectory(model_dir, "sft", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        pairs, mesh = open_pairs(pairs_dir, "train", vocabulary), mesh_maker()
        policy = build_policy(model, vocabulary, pairs.response_a.width)
        state = train_supervised(
            run,
            transformer=policy.transformer,
            mesh=mesh,
            loss_function=functools.partial(fine_tuning_loss, policy),
            purposes=PURPOSES,
            batch_at=lambda step: batch_at(pairs, batch_size, step, seed, mesh),
            batch_size=batch_size,
            num_microbatches=num_microbatches,
            optimizer=optimizer,
            learning_rate=learning_rate,
            loop=loop,
            seed=seed,
            initial_checkpoint_path=initial_checkpoint_path,
            continue_training=continue_training,
        )
        keep_texts(run.path, Texts(vocabulary, pairs.prompt.width, pairs.response_a.width))
        facts = {"loss": "cross_entropy", "reduction": "mean", "beta": 0.0}
        return run.finish(labels.facts(state.params, SHUFFLED, learning_rate, loop, seed) | facts)


def fine_tuning_loss(
    policy: Policy, params: Params, batch: Mapping[str, jax.Array], keys: Keys
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Metrics]]:
    """Cross-entropy of both responses, from one encoding of the prompt.

    Args:
        batch: prompt [B, P], response_a and response_b [B, R].

    Returns:
        Mean nats a token, the number of tokens, and metrics.
    """
    targets = jnp.stack([batch["response_a"], batch["response_b"]], axis=1)
    dropout_key = keys[Purpose.DROPOUT] if policy.transformer.config.dropout_rate > 0 else None
    encoded = policy.encode(params, batch["prompt"], dropout_key)
    total = -jnp.sum(policy.log_probs(params, encoded, targets, dropout_key))
    number = jnp.sum(targets > 0, dtype=jnp.float32)
    return total / jnp.maximum(number, 1.0), (number, {"tokens": number})
