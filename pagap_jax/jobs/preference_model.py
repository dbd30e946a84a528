"""Training of a preference model, golden or proxy (App. A).

In: pairs with choices, a T5 checkpoint to start from. Out: checkpoints, and accuracy on the
validation split, both orders asked, against the labels and (made-up data) the hidden truth.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from pagap_jax.array_types import Array
from pagap_jax.data.reading import StoredPairs
from pagap_jax.data.texts import Texts, keep_texts
from pagap_jax.intervals import Rate, rate_of
from pagap_jax.jobs.inputs import batch_at, build_judge, open_pairs
from pagap_jax.losses.preference import preference_loss
from pagap_jax.mapping.judging import Judge
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.preference_models import Params, PreferenceModel
from pagap_jax.ranges import Count, InputLength, Optimizer, Place, Seed, Vocabulary
from pagap_jax.run_directory import RunDirectory
from pagap_jax.run_warnings import check_limits
from pagap_jax.streams import Purpose, choose_rows
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.step import Keys, Metrics
from pagap_jax.train.supervised import train_supervised
from pagap_jax.train.validation import Plateau, Validation

PURPOSES = (Purpose.SHOWN_ORDER, Purpose.DROPOUT)


@gin.configurable
def preference_model(
    model_dir: Place,
    pairs_dir: Place,
    vocabulary: Vocabulary,
    model: T5Config,
    input_length: InputLength,
    learning_rate: LearningRate,
    optimizer: Optimizer,
    loop: TrainLoop,
    plateau: Plateau,
    batch_size: Count,
    seed: Seed,
    initial_checkpoint_path: Place | None = None,
    num_microbatches: Count = 1,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Trains a T5 to tell which of two responses is preferred."""
    parents = {"pairs": pairs_dir, "initial": initial_checkpoint_path}
    with RunDirectory(model_dir, "preference_model", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        pairs, held_out = (open_pairs(pairs_dir, s, vocabulary) for s in ("train", "validation"))
        judge = build_judge(model, input_length, vocabulary, pairs.response_a.width)
        mesh = mesh_maker()
        judging = Judge.compiled(judge, None, mesh, batch_size)
        few = choose_rows(len(held_out), plateau.pairs, seed, Purpose.VALIDATION_PAIRS)
        measure = functools.partial(curve_point, judging, held_out.view(few))
        validation = Validation(run.path / "validation.jsonl", plateau, measure)
        state = train_supervised(
            run,
            transformer=judge.transformer,
            mesh=mesh,
            loss_function=functools.partial(preference_training_loss, judge),
            purposes=PURPOSES,
            batch_at=lambda step: batch_at(pairs, batch_size, step, seed, mesh),
            batch_size=batch_size,
            num_microbatches=num_microbatches,
            optimizer=optimizer,
            learning_rate=learning_rate,
            loop=loop,
            seed=seed,
            initial_checkpoint_path=initial_checkpoint_path,
            validator=validation,
        )
        facts = {"step": int(state.step), "ended_at_plateau": validation.has_ended()}
        measured = validate(dataclasses.replace(judging, params=state.params), held_out)
        check_limits(run, measured, facts["step"])
        keep_texts(run.path, Texts(vocabulary, pairs.prompt.width, pairs.response_a.width))
        return run.finish(measured | facts | {"validation": validation.rows})


def preference_training_loss(
    judge: PreferenceModel, params: Params, batch: Mapping[str, jax.Array], keys: Keys
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Metrics]]:
    """Eq. 5: −log-likelihood of labelled pairs, each shown in a random order.

    Args:
        batch: prompt [B, P], response_a and response_b [B, R], choice [B].

    Returns:
        Mean nats a labelled pair, their number, and metrics.
    """
    a, b = batch["response_a"], batch["response_b"]
    swapped = jax.random.bernoulli(keys[Purpose.SHOWN_ORDER], 0.5, (a.shape[0],))
    first = jnp.where(swapped[:, None], b, a)
    second = jnp.where(swapped[:, None], a, b)
    composed = judge.compose(batch["prompt"], first, second)
    dropout = keys[Purpose.DROPOUT] if judge.transformer.config.dropout_rate > 0 else None
    log_odds = judge.log_odds(params, composed.tokens, composed.segments, dropout)
    first_is_chosen = (batch["choice"] == swapped).astype(jnp.float32)
    labelled = (batch["choice"] >= 0).astype(jnp.float32)
    total = jnp.maximum(jnp.sum(labelled), 1.0)
    right = (log_odds > 0) == (first_is_chosen > 0.5)
    metrics = {
        "accuracy": jnp.sum(right * labelled) / total,
        "prompt_truncated": jnp.mean(composed.prompt_truncated, dtype=jnp.float32),
        "pairs": jnp.sum(labelled),
    }
    loss = jnp.sum(preference_loss(log_odds, first_is_chosen) * labelled) / total
    return loss, (jnp.sum(labelled), metrics)


def curve_point(judge: Judge, pairs: StoredPairs, params: Params) -> dict[str, float]:
    """Accuracy with its 95 % interval and loss on the pairs that have a label."""
    measured = validate(dataclasses.replace(judge, params=params), pairs)
    kept = ("accuracy", "accuracy_low", "accuracy_high", "loss", "pairs")
    return {name: measured[f"validation_{name}"] for name in kept}


def validate(judge: Judge, pairs: StoredPairs) -> dict[str, Any]:
    """Accuracies on held-out pairs, both orders asked; None where there is no truth to compare.

    A tie counts half. The loss is Eq. 5's, in nats a pair: the mean over both orders.
    """
    judged = judge(pairs.prompt, pairs.response_a, pairs.response_b)

    def accuracy(truth: np.ndarray) -> Rate | None:
        known = truth >= 0
        right = np.where(judged.choice < 0, 0.5, judged.choice == truth)
        return rate_of(right[known], pairs.prompt_id[known]) if known.any() else None

    labels, truth = accuracy(pairs.choice), accuracy(pairs.true_choice)
    a_chosen = np.where(pairs.choice == 0, 1.0, -1.0)
    losses = (np.logaddexp(0, -a_chosen * judged.log_odds_ab)
              + np.logaddexp(0, a_chosen * judged.log_odds_ba)) / 2  # fmt: skip
    disagree = (judged.log_odds_ab > 0) == (judged.log_odds_ba > 0)
    return {
        "validation_accuracy": labels and labels.rate,
        "validation_accuracy_low": labels and labels.low,
        "validation_accuracy_high": labels and labels.high,
        "validation_accuracy_true": truth and truth.rate,
        "validation_loss": float(np.mean(losses[pairs.choice >= 0])) if labels else None,
        "validation_pairs": len(pairs),
        "order_disagreement": float(np.mean(disagree)),
        "prompt_truncated": float(np.mean(judged.prompt_truncated)),
    }
