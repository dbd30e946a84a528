"""A batch in parts: the whole batch's gradient, metrics and rows, whatever the parts."""

import functools

import jax
import numpy as np
import optax
import pytest

from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.online import OnlinePairs
from pagap_jax.align.step import AlignStep, FrozenModels, Reduction
from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.errors import ConfigError
from pagap_jax.jobs.sft import fine_tuning_loss
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.model.sharding import check_batch_size, make_mesh
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.streams import Purpose
from pagap_jax.train.step import supervised_step
from tests.fixtures.tiny import CONFIG, JUDGE, POLICY, pair_batch, random_params

PARAMS, REFERENCE, JUDGING = (random_params(CONFIG, seed) for seed in range(3))
OPTIMIZER = optax.chain(optax.trace(decay=0.0), optax.scale(-1.0))  # its state is the gradient
KEY, RATE, BETA = jax.random.key(0), np.float32(0.01), np.float32(0.3)
BATCH = pair_batch(16)  # a third of the pairs or fewer in each part are ties, unevenly


def state():
    return TrainState(np.zeros((), np.int32), PARAMS, OPTIMIZER.init(PARAMS))


@functools.cache
def fine_tuned(number):
    step = functools.partial(
        supervised_step,
        loss_function=functools.partial(fine_tuning_loss, POLICY),
        optimizer=OPTIMIZER,
        num_microbatches=number,
    )
    return jax.jit(step)(state(), BATCH, RATE, {Purpose.DROPOUT: KEY})


@functools.cache
def aligned(number, source=offline_pairs, judging=False):
    frozen = FrozenModels(REFERENCE, JUDGING if judging else None)
    step = AlignStep(POLICY, source, AlignmentLoss.IPO, Reduction.SUM, OPTIMIZER, number)
    return jax.jit(step)(state(), BATCH, RATE, BETA, KEY, frozen)


def assert_close(found, expected):
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [2, 4, 16])
@pytest.mark.parametrize("step", [fine_tuned, aligned])
def test_parts_add_up_to_the_batch(step, number):
    assert_close(step(number), step(1))


def test_parts_have_unequal_weights():
    """Else a plain mean over parts would pass the test above."""
    choices = BATCH["choice"].reshape(-1, 2)
    assert (choices[:, 0] >= 0).sum() != (choices[:, 1] >= 0).sum()


@functools.cache
def online(num_microbatches, num_sampling_parts):
    source = OnlinePairs(POLICY, JUDGE, SamplingMethod(), num_sampling_parts)
    return aligned(num_microbatches, source, judging=True)


@pytest.mark.parametrize("parts", [(2, 1), (16, 1), (1, 2), (4, 8)])
def test_samples_are_the_whole_batch_s_whatever_the_parts(parts):
    """Token for token; and the update is the same one."""
    after, metrics, pairs = online(*parts)
    expected, expected_metrics, expected_pairs = online(1, 1)
    for name in ("response_a", "response_b", "choice"):
        np.testing.assert_array_equal(getattr(pairs, name), getattr(expected_pairs, name))
    assert len({row.tobytes() for row in np.asarray(pairs.response_a)}) > 8
    assert_close((after, metrics, pairs), (expected, expected_metrics, expected_pairs))


def test_an_online_step_in_parts_is_the_offline_step_on_its_pairs():
    """What was sampled for a row comes back in the row's place."""
    after, metrics, pairs = online(4, 2)
    names = ("response_a", "response_b", "choice", "probability")
    recorded = {**BATCH, **{name: getattr(pairs, name) for name in names}}
    offline = AlignStep(POLICY, offline_pairs, AlignmentLoss.IPO, Reduction.SUM, OPTIMIZER, 4)
    frozen = FrozenModels(REFERENCE, None)
    replayed, again, _ = jax.jit(offline)(state(), recorded, RATE, BETA, KEY, frozen)
    assert_close(replayed, after)
    np.testing.assert_allclose(again["loss"], metrics["loss"], rtol=1e-6)


def test_each_part_has_to_be_spread_over_the_devices():
    check_batch_size(16, make_mesh(), 2)
    with pytest.raises(ConfigError, match="16 isn't a multiple of the 8 data shards of each of"):
        check_batch_size(16, make_mesh(), 4)
