"""Training of a preference model, golden or proxy (App. A).

In: pairs with choices, a T5 checkpoint to start from. Out: checkpoints, and accuracy on the
validation split, both orders asked, against the labels and (made-up data) the hidden truth.
"""

import functools
from collections.abc import Callable
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pagap_jax.data.reading import Pairs
from pagap_jax.jobs.inputs import batch_at, build_judge, open_pairs
from pagap_jax.losses.preference import preference_loss
from pagap_jax.mapping.judging import Judge
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.run_directory import RunDirectory
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.supervised import train_supervised


@gin.configurable
def preference_model(
    model_dir: str,
    pairs_dir: str,
    vocabulary: Any,
    model: T5Config,
    input_length: int,
    learning_rate: LearningRate,
    optimizer: Any,
    loop: TrainLoop,
    batch_size: int,
    seed: int,
    initial_checkpoint_path: str | None = None,
    num_microbatches: int = 1,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Trains a T5 to tell which of two responses is preferred."""
    parents = {"pairs": pairs_dir}
    if initial_checkpoint_path:
        parents["initial"] = initial_checkpoint_path
    with RunDirectory(model_dir, "preference_model", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        judge = build_judge(model, input_length, vocabulary)
        pairs = open_pairs(pairs_dir, "train", vocabulary)
        validation = open_pairs(pairs_dir, "validation", vocabulary)
        mesh = mesh_maker()
        state = train_supervised(
            run,
            transformer=judge.transformer,
            mesh=mesh,
            loss_function=functools.partial(preference_training_loss, judge),
            batch_at=lambda step: batch_at(pairs, batch_size, step, seed, mesh),
            batch_size=batch_size,
            num_microbatches=num_microbatches,
            optimizer=optimizer,
            learning_rate=learning_rate,
            loop=loop,
            seed=seed,
            initial_checkpoint_path=initial_checkpoint_path,
        )
        trained = Judge.compiled(judge, state.params, mesh, batch_size)
        return run.finish(validate(trained, validation))


def preference_training_loss(judge: PreferenceModel, params: Any, batch: dict, key: Any):
    """Eq. 5: −log-likelihood of labelled pairs, each shown in a random order."""
    order_key, dropout_key = jax.random.split(key)
    a, b = batch["response_a"], batch["response_b"]
    swapped = jax.random.bernoulli(order_key, 0.5, (a.shape[0],))
    first = jnp.where(swapped[:, None], b, a)
    second = jnp.where(swapped[:, None], a, b)
    composed = judge.compose(batch["prompt"], first, second)
    dropout = dropout_key if judge.transformer.config.dropout_rate > 0 else None
    log_odds = judge.log_odds(params, composed.tokens, composed.segments, dropout)
    first_is_chosen = (batch["choice"] == swapped).astype(jnp.float32)
    labelled = (batch["choice"] >= 0).astype(jnp.float32)
    total = jnp.maximum(jnp.sum(labelled), 1.0)
    right = (log_odds > 0) == (first_is_chosen > 0.5)
    metrics = {
        "accuracy": jnp.sum(right * labelled) / total,
        "prompt_truncated": jnp.mean(composed.prompt_truncated, dtype=jnp.float32),
    }
    loss = jnp.sum(preference_loss(log_odds, first_is_chosen) * labelled) / total
    return loss, (jnp.sum(labelled), metrics)


def validate(judge: Judge, pairs: Pairs) -> dict:
    """Accuracies on held-out pairs, both orders asked; None where there is no truth to compare.

    A tie counts half.
    """
    judged = judge(pairs.prompt, pairs.response_a, pairs.response_b)
    ties = judged.choice < 0

    def accuracy(truth: np.ndarray) -> float | None:
        known = truth >= 0
        right = np.where(ties, 0.5, judged.choice == truth)
        return float(np.mean(right[known])) if known.any() else None

    disagree = (judged.log_odds_ab > 0) == (judged.log_odds_ba > 0)
    return {
        "validation_accuracy": accuracy(pairs.choice),
        "validation_accuracy_true": accuracy(pairs.true_choice),
        "validation_pairs": len(pairs),
        "order_disagreement": float(np.mean(disagree)),
        "prompt_truncated": float(np.mean(judged.prompt_truncated)),
    }
