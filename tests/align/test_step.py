"""The align step: the split gradient is the plain one, ties have no part, frozen models stay."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.pairs import PairBatch
from pagap_jax.align.step import AlignStep, FrozenModels, Reduction, pair_loss
from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.train.state import abstract_params
from tests.fixtures.tiny import CONFIG, POLICY, logits_of, pair_batch, random_params

BETA, KEY = np.float32(0.3), jax.random.key(0)
PARAMS, REFERENCE = random_params(CONFIG, 0), random_params(CONFIG, 1)
# Its state is the gradient that it was given.
OPTIMIZER = optax.chain(optax.trace(decay=0.0), optax.scale(-1.0))
RATE = np.float32(0.01)


STEP = AlignStep(POLICY, offline_pairs, AlignmentLoss.IPO, Reduction.SUM, OPTIMIZER)
COMPILED_STEP = jax.jit(STEP)


def run(batch, params=PARAMS, reference=REFERENCE):
    """(gradient, state, metrics, pairs) of one step."""
    state = TrainState(np.zeros((), np.int32), params, OPTIMIZER.init(params))
    frozen = FrozenModels(reference, None)
    state, metrics, pairs = COMPILED_STEP(state, batch, RATE, BETA, KEY, frozen)
    return state.opt_state[0].trace, state, metrics, pairs


@jax.jit
def sequence_scores(params, batch):
    """log p of both responses [B, 2], straight from the model."""
    responses = jnp.stack([batch["response_a"], batch["response_b"]], axis=1)
    encoded = POLICY.encode(params, batch["prompt"])
    log_probs = jax.nn.log_softmax(logits_of(POLICY, params, encoded, responses))
    taken = jnp.sum(log_probs * jax.nn.one_hot(responses, CONFIG.vocab_size), axis=-1)
    return jnp.sum(taken * (responses > 0), axis=-1)


@jax.jit
def plain_loss(params, reference, batch):
    """(beta h - 1/2)² averaged over the labelled pairs, all in one differentiated function."""
    shift = sequence_scores(params, batch) - sequence_scores(reference, batch)
    h = jnp.where(batch["choice"] == 0, shift[:, 0] - shift[:, 1], shift[:, 1] - shift[:, 0])
    losses = jnp.where(batch["choice"] >= 0, (BETA * h - 0.5) ** 2, 0.0)
    return jnp.sum(losses) / jnp.sum(batch["choice"] >= 0)


def assert_trees_close(ours, expected, tolerance):
    """Each array within `tolerance` of the expected one, relative to the latter's norm."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        found = functools.reduce(lambda tree, key: tree[key.key], path, ours)
        error = np.linalg.norm(found - leaf)
        assert error <= tolerance * max(np.linalg.norm(leaf), 1e-6), jax.tree_util.keystr(path)


def test_split_gradient_is_the_gradient_of_the_plain_loss():
    batch = pair_batch()
    gradient, _, metrics, _ = run(batch)
    loss, expected = jax.jit(jax.value_and_grad(plain_loss))(PARAMS, REFERENCE, batch)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert_trees_close(gradient, expected, 2e-5)
    # The part that goes through the encoder alone is there.
    assert np.linalg.norm(expected["encoder"]["layers_0"]["attention"]["query"]["kernel"]) > 1e-3


def test_scores_are_sums_and_means_where_asked():
    batch = pair_batch()
    responses = np.stack([batch["response_a"], batch["response_b"]], axis=1)
    mean = dataclasses.replace(STEP, reduction=Reduction.MEAN)

    @jax.jit
    def score(params):
        scores = STEP._score(params, POLICY.encode(params, batch["prompt"]), responses)
        return STEP._reduce(scores, responses), mean._reduce(scores, responses)

    sums, means = score(PARAMS)
    np.testing.assert_allclose(sums, sequence_scores(PARAMS, batch), rtol=1e-5)
    lengths = (responses > 0).sum(axis=-1)
    assert lengths.min() < lengths.max()
    np.testing.assert_allclose(means, sums / np.maximum(lengths, 1), rtol=1e-5)


def test_the_log_ratio_is_that_of_all_responses_ties_too_whatever_the_reduction():
    batch = pair_batch()
    expected = np.mean(sequence_scores(PARAMS, batch) - sequence_scores(REFERENCE, batch))
    *_, metrics, _ = run(batch)
    assert (batch["choice"] < 0).any() and abs(expected) > 0.1
    np.testing.assert_allclose(metrics["log_ratio"], expected, rtol=1e-5)
    mean = dataclasses.replace(STEP, reduction=Reduction.MEAN, log_ratio="kl")
    state = TrainState(np.zeros((), np.int32), PARAMS, OPTIMIZER.init(PARAMS))
    _, metrics, _ = jax.jit(mean)(state, batch, RATE, BETA, KEY, FrozenModels(REFERENCE, None))
    np.testing.assert_allclose(metrics["kl"], expected, rtol=1e-5)
    assert "log_ratio" not in metrics


def test_the_update_goes_down_the_gradient_by_the_rate():
    gradient, state, metrics, _ = run(pair_batch())
    expected = jax.tree.map(lambda p, g: p - RATE * g, PARAMS, gradient)
    assert_trees_close(state.params, expected, 1e-6)
    assert state.step == 1
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["update_norm"], RATE * norm, rtol=1e-5)


def test_frozen_models_in_bfloat16_are_the_same_in_a_bfloat16_model():
    """Layers are computed with in that type anyhow; embeddings and logits stay float32."""
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    policy = dataclasses.replace(POLICY, transformer=Transformer(config))
    batch, params = pair_batch(), random_params(config, 0)
    abstract = abstract_params(policy.transformer, make_mesh(), "bfloat16")
    frozen = jax.tree.map(lambda x, a: jnp.asarray(x, a.dtype), params, abstract)
    kernels = (p["encoder"]["layers_0"]["mlp"]["wo"]["kernel"] for p in (params, frozen))
    assert [kernel.dtype.name for kernel in kernels] == ["float32", "bfloat16"]

    @jax.jit
    def log_probs(params):
        responses = jnp.stack([batch["response_a"], batch["response_b"]], axis=1)
        return policy.log_probs(params, policy.encode(params, batch["prompt"]), responses)

    np.testing.assert_array_equal(log_probs(frozen), log_probs(params))


def test_ties_have_no_weight():
    batch = pair_batch()
    ties = batch["choice"] < 0
    assert 0 < ties.sum() < len(ties)
    changed = {**batch, "response_a": batch["response_a"].copy(), "prompt": batch["prompt"].copy()}
    changed["response_a"][ties] = [9, 9, 9, 1]
    changed["prompt"][ties] = [9, 9, 9, 9, 1]
    gradient, _, metrics, _ = run(batch)
    other_gradient, _, other_metrics, _ = run(changed)
    assert_trees_close(other_gradient, gradient, 1e-5)
    np.testing.assert_allclose(metrics["loss"], other_metrics["loss"], rtol=1e-6)
    assert metrics["ties"] == ties.mean()


def test_all_ties_change_nothing():
    batch = {**pair_batch(), "choice": np.full(8, -1, np.int32)}
    gradient, state, metrics, _ = run(batch)
    assert metrics["loss"] == 0 and metrics["ties"] == 1
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient)
    jax.tree.map(np.testing.assert_array_equal, state.params, PARAMS)


def test_choosing_b_is_choosing_a_of_the_swapped_pair():
    batch = pair_batch()
    choice = batch["choice"]
    swapped = {
        **batch,
        "response_a": batch["response_b"],
        "response_b": batch["response_a"],
        "choice": np.where(choice < 0, choice, 1 - choice),
    }
    gradient, _, metrics, _ = run(batch)
    swapped_gradient, _, swapped_metrics, _ = run(swapped)
    assert_trees_close(swapped_gradient, gradient, 1e-5)
    np.testing.assert_allclose(metrics["margin"], swapped_metrics["margin"], rtol=1e-5)


def test_policy_equal_to_reference_has_margin_zero():
    _, _, metrics, _ = run(pair_batch(), reference=jax.tree.map(np.copy, PARAMS))
    # The policy's log-probs come with residuals for the gradient, so that XLA fuses them otherwise
    # than the reference's: a rounding error of log-probs of size 10 is left.
    assert abs(metrics["margin"]) < 1e-6
    np.testing.assert_allclose(metrics["loss"], 0.25, rtol=1e-5)  # (0 - 1/2)²


def test_frozen_models_and_pairs_stay_as_they_are():
    batch = pair_batch()
    reference = jax.tree.map(jnp.array, REFERENCE)
    _, state, _, pairs = run(batch, reference=reference)
    jax.tree.map(np.testing.assert_array_equal, reference, REFERENCE)
    for name in ("response_a", "response_b", "choice", "probability"):
        np.testing.assert_array_equal(getattr(pairs, name), batch[name])
    # Every parameter of the policy moved, so an update that reached the reference would show.
    moved = jax.tree.map(lambda new, old: bool((new != old).any()), state.params, PARAMS)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("loss", AlignmentLoss, ids=lambda loss: loss.value)
def test_pair_loss_puts_chosen_first(loss):
    """Against the loss function itself, row by row."""
    generator = np.random.default_rng(0)
    scores, reference = generator.normal(size=(2, 4, 2)).astype(np.float32)
    choice = np.array([0, 1, -1, 1], np.int32)
    tokens = np.ones((4, 3), np.int32)
    probability = np.array([0.9, 0.2, 0.5, 0.4], np.float32)
    pairs = PairBatch(tokens, tokens + 1, choice, probability, prompt_truncated=choice == 1)
    value, (_, metrics) = pair_loss(loss, scores, reference, pairs, 0.7)
    losses, margins, chosen, rejected = [], [], [], []
    for row, c in enumerate(choice):
        if c >= 0:
            columns = np.array([scores[row, c], scores[row, 1 - c]]), reference[row, [c, 1 - c]]
            arguments = [np.float32([x]) for pair in columns for x in pair]
            losses.append(float(loss.function(*arguments, 0.7)[0]))
            margins.append(columns[0][0] - columns[0][1] - columns[1][0] + columns[1][1])
            chosen.append(columns[0][0])
            rejected.append(columns[0][1])
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
    expected = {
        "margin": np.mean(margins),
        "accuracy": np.mean(np.array(margins) > 0),
        "chosen_log_prob": np.mean(chosen),
        "rejected_log_prob": np.mean(rejected),
        "ties": 0.25,
        "prompt_truncated": 0.5,
        "chosen_probability": np.mean([0.9, 0.8, 0.6]),
    }
    assert set(metrics) == set(expected)
    for name, mean in expected.items():
        np.testing.assert_allclose(metrics[name], mean, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("loss", AlignmentLoss, ids=lambda loss: loss.value)
def test_identical_samples_teach_best_of_two_alone(loss):
    """Eq. 3 maximises the log-prob of a winner; of two that are the same, either is one."""
    scores = np.array([[-4.0, -9.0], [-6.0, -6.0], [-2.0, -3.0]], np.float32)
    choice = np.array([0, -1, -1], np.int32)  # a pair, identical responses, an exact tie
    a = np.array([[2, 1], [3, 1], [4, 1]], np.int32)
    b = np.array([[5, 1], [3, 1], [6, 1]], np.int32)
    pairs = PairBatch(a, b, choice, np.full(3, 0.5, np.float32), np.zeros(3, bool))
    reference = np.zeros_like(scores)
    value, (weight, metrics) = pair_loss(loss, scores, reference, pairs, 0.1)
    np.testing.assert_allclose(metrics["ties"], 2 / 3, rtol=1e-6)
    if loss is AlignmentLoss.BO2:
        assert weight == 2
        np.testing.assert_allclose(value, (4.0 + 6.0) / 2)
    else:
        assert weight == 1
        alone = [np.float32([x]) for x in (-4.0, -9.0, 0.0, 0.0)]
        np.testing.assert_allclose(value, loss.function(*alone, 0.1)[0], rtol=1e-6)


def test_response_metrics():
    batch = pair_batch()
    _, _, metrics, _ = run(batch)
    responses = np.stack([batch["response_a"], batch["response_b"]], axis=1)
    np.testing.assert_allclose(metrics["response_length"], (responses > 0).sum(axis=2).mean())
    np.testing.assert_allclose(metrics["share_finished"], (responses == 1).any(axis=2).mean())
    assert metrics["tokens"] == (responses > 0).sum()
