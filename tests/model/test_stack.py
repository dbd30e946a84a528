"""Layers one after another, scanned over, and computed again: the same numbers."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from pagap_jax.losses.log_probs import sequence_log_prob
from pagap_jax.model.config import T5Config
from pagap_jax.model.stack import through_layers
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from tests.fixtures.tiny import CONFIG as ONE_LAYER
from tests.fixtures.tiny import POLICY, pair_batch, random_params

CONFIG = dataclasses.replace(ONE_LAYER, num_encoder_layers=2, num_decoder_layers=3)
PARAMS = random_params(CONFIG, 0)
BATCH = pair_batch(4)


def log_probs(config, params, dropout_key=None):
    """Of both responses, and the gradient of their sum."""
    (_, scores), gradients = compiled(config)(params, dropout_key)
    return scores, gradients


@functools.cache
def compiled(config):
    policy = Policy(Transformer(config), POLICY.sampleable_size, POLICY.response_length)

    def total(params, dropout_key):
        responses = np.stack([BATCH["response_a"], BATCH["response_b"]], axis=1)
        encoded = policy.encode(params, BATCH["prompt"], dropout_key)
        scores = sequence_log_prob(policy.log_probs(params, encoded, responses, dropout_key))
        return scores.sum(), scores

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def with_settings(**settings):
    return dataclasses.replace(CONFIG, **settings)


@pytest.mark.parametrize("remat_policy", ["none", "minimal", "full"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_scan_and_remat_change_no_number(scan_layers, remat_policy):
    config = with_settings(scan_layers=scan_layers, remat_policy=remat_policy)
    expected, found = log_probs(CONFIG, PARAMS), log_probs(config, PARAMS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), *(expected, found)
    )


def test_a_scanned_model_has_the_same_parameters():
    def tree(config):
        return jax.eval_shape(lambda: random_params(config, 0))

    assert tree(with_settings(scan_layers=True)) == tree(CONFIG)


def test_dropout_is_the_key_s():
    """The same masks with and without a scan; others for another key."""
    key = jax.random.key(3)
    found = [
        log_probs(
            with_settings(dropout_rate=0.3, remat_policy="full", scan_layers=scan), PARAMS, key
        )[0]
        for scan in (False, True)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)
    config = with_settings(dropout_rate=0.3, remat_policy="full", scan_layers=True)
    assert not np.allclose(found[0], log_probs(config, PARAMS, jax.random.key(4))[0])


@pytest.mark.parametrize("scan_layers", [False, True])
def test_remat_saves_less(scan_layers):
    """What the backward pass keeps of the forward pass, in bytes."""

    def kept(policy):
        config = with_settings(scan_layers=scan_layers, remat_policy=policy)
        encode = Policy(Transformer(config), 30, 4).encode
        _, backward = jax.vjp(lambda params: encode(params, BATCH["prompt"]).hidden, PARAMS)
        return sum(x.nbytes for x in jax.tree.leaves(backward))

    assert kept("full") < kept("minimal") < kept("none")


class Noisy(nn.Module):
    """Adds 0 or 2, as dropout has it."""

    def setup(self):
        self.scale = self.param("scale", nn.initializers.ones, ())
        self.dropout = nn.Dropout(0.5)

    def __call__(self, x, deterministic):
        return x + self.scale * self.dropout(jax.numpy.ones_like(x), deterministic=deterministic)


class TwoNoisy(nn.Module):
    """Two of them, one after the other."""

    config: T5Config

    def setup(self):
        self.layers = [Noisy(), Noisy()]

    def __call__(self, x, deterministic):
        return through_layers(self, x, deterministic)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_no_two_layers_drop_the_same(scan_layers):
    stack = TwoNoisy(with_settings(scan_layers=scan_layers, remat_policy="full"))
    x = np.zeros(100, np.float32)
    variables = stack.init(jax.random.key(0), x, True)
    summed = stack.apply(variables, x, False, rngs={"dropout": jax.random.key(1)})
    assert {*summed.tolist()} == {0.0, 2.0, 4.0}
