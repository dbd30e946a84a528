"""The TPU kernels, interpreted on CPUs: the plain formula's values and gradients."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax.losses.log_probs import sequence_log_prob
from pagap_jax.model import encoder, layers, transformer
from pagap_jax.model import fused_attention as fused
from pagap_jax.model.attention import relative_position_buckets
from pagap_jax.model.attention_blocks import Blocks, distances, group_width, skewed
from pagap_jax.model.config import T5Config, t5_1_1
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.token_attention import attend_to_cache
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from tests.fixtures.tiny import CONFIG, pair_batch, random_params

# 2 heads of 8 side by side; two chunks of keys are held at once, so that the maximum runs.
BLOCKS = Blocks(queries=8, keys=8, held=16, far=8, lanes=16)
LENGTHS = (32, 29, 0)  # keys of each row: all, some, none
BATCH, HEADS, HEAD_DIM = len(LENGTHS), 4, 8
# Of the kernels against the formula in float32: theirs adds up in another order.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.03}


def formula(queries, keys, values, biases=None):
    """Slow and in float32: a softmax over logits of every query and key."""
    queries, keys, values = (x.astype(jnp.float32) for x in (queries, keys, values))
    logits = jnp.einsum("bqhk,bshk->bhqs", queries, keys)
    if biases is not None:
        query, key = np.arange(logits.shape[2])[:, None], np.arange(logits.shape[3])[None]
        logits += biases[:, saturated(key - query)][None]
    logits += jnp.where(valid_keys(), 0.0, fused.MASKED)[:, None, None]
    return jnp.einsum("bhqs,bshk->bqhk", jax.nn.softmax(logits), values)


def kernels(queries, keys, values, biases=None):
    return attended(queries, keys, values, fused.KeyMask(valid_keys(), BLOCKS), biases)


def attended(queries, keys, values, mask, biases):
    joined = [x.reshape(*x.shape[:2], -1) for x in (queries, keys, values)]
    bias = distance_bias(biases)
    return fused.fused_attention(*joined, mask, bias, HEAD_DIM).reshape(queries.shape)


def distance_bias(biases):
    if biases is None:
        return None
    return fused.distance_bias(biases[:, saturated(np.asarray(distances(BLOCKS)))], BLOCKS)


def saturated(distance):
    """Places in a table of biases [H, 2 * far + 1]: as T5's, the same for all that are far."""
    return np.clip(distance, -BLOCKS.far, BLOCKS.far) + BLOCKS.far


def valid_keys():
    return jnp.arange(32)[None] < np.array(LENGTHS)[:, None]


def inputs(dtype, num_queries=32, seed=0):
    generator = np.random.default_rng(seed)
    shape = (BATCH, 32, HEADS, HEAD_DIM)
    queries, keys, values, weights = (
        jnp.asarray(generator.normal(size=shape), dtype) for _ in range(4)
    )
    biases = generator.normal(size=(HEADS, 2 * BLOCKS.far + 1))
    cut = slice(0, num_queries)
    return (queries[:, cut], keys, values), jnp.asarray(biases, jnp.float32), weights[:, cut]


def with_gradients(attend, arrays, weights):
    """Values, and gradients of their weighted sum."""

    def total(*arrays):
        found = attend(*arrays)
        return jnp.sum(found.astype(jnp.float32) * weights.astype(jnp.float32)), found

    numbers = tuple(range(len(arrays)))
    gradients, found = jax.jit(jax.grad(total, numbers, has_aux=True))(*arrays)
    return found, *gradients


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_the_formula_s(dtype, biased):
    """Of queries, keys, values and biases; rows of all, some and no keys; a running maximum."""
    arrays, biases, weights = inputs(dtype)
    arrays = (*arrays, biases) if biased else arrays
    found = with_gradients(kernels, arrays, weights)
    assert [x.dtype for x in found] == [dtype] * 4 + ["float32"] * biased
    for ours, theirs in zip(found, with_gradients(formula, arrays, weights), strict=True):
        scale = np.abs(theirs.astype(np.float32)).max()
        difference = ours.astype(jnp.float32) - theirs.astype(jnp.float32)
        assert np.abs(difference).max() < TOLERANCE[dtype] * scale


def test_a_query_without_keys_sees_all_alike():
    """As in the formula, whose masked logits are all the same number."""
    (queries, keys, values), biases, _ = inputs("float32")
    found = kernels(queries, keys, values, biases)[-1]
    expected = jnp.broadcast_to(values[-1].mean(axis=0, keepdims=True), found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_fewer_queries_than_keys():
    """The decoder's to the prompt."""
    arrays, _, weights = inputs("float32", num_queries=16)
    for ours, theirs in zip(
        *(with_gradients(f, arrays, weights) for f in (kernels, formula)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("partitions", [1, 2, 4])
def test_devices_share_rows_and_heads(partitions):
    """4 rows over 'data', 4 heads over 'model': what one device computes, and its gradients."""
    arrays, biases, weights = inputs("float32")
    arrays = tuple(jnp.concatenate([x, x, x[:2]]) for x in arrays)  # 8 rows
    weights = jnp.concatenate([weights, weights, weights[:2]])
    mask = fused.KeyMask(jnp.concatenate([valid_keys(), valid_keys(), valid_keys()[:2]]), BLOCKS)

    def attend(queries, keys, values, biases):
        return attended(queries, keys, values, mask, biases)

    alone = with_gradients(attend, (*arrays, biases), weights)
    with jax.set_mesh(make_mesh(partitions)):
        shared = with_gradients(attend, (*arrays, biases), weights)
    for ours, theirs in zip(shared, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("partitions", [None, 2])
def test_a_token_s_attention_to_a_cache(partitions):
    """By the row's bias (a prompt's mask), and by the head's (positions); groups of two heads."""
    generator = np.random.default_rng(0)
    shape = (4, 256, HEADS, 64)
    keys, values = (generator.normal(size=shape).astype(np.float32) for _ in range(2))
    queries = 0.2 * generator.normal(size=(4, 2, HEADS, 64)).astype(np.float32)
    of_row = generator.normal(size=(4, 1, 1, 256)).astype(np.float32)
    of_head = generator.normal(size=(1, 2, 2, 256)).astype(np.float32)
    joined = [x.reshape(*x.shape[:2], -1) for x in (queries, keys, values)]
    logits = np.einsum("bnhk,bshk->bhns", queries, keys)
    for bias in (of_row, of_head):
        added = bias if bias is of_row else bias.reshape(1, HEADS, 1, 256)
        weights = jax.nn.softmax(logits + added)
        expected = np.einsum("bhns,bshk->bnhk", weights, values)
        around = contextlib.nullcontext() if partitions is None else jax.set_mesh(make_mesh(2))
        with around:
            found = jax.jit(attend_to_cache, static_argnums=4)(*joined, bias, 64)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)


def test_the_table_holds_each_distance():
    """Row i, query r: the bias of the distance that lies i - r behind the first one."""
    numbers = np.arange(len(distances(BLOCKS)), dtype=np.float32)[None]
    table = np.asarray(skewed(jnp.asarray(numbers), BLOCKS))[0]
    assert table.shape == (BLOCKS.table_rows, BLOCKS.queries)
    for row, query in ((0, 0), (0, 7), (13, 0), (13, 5), (39, 7)):
        assert table[row, query] == row - query + BLOCKS.queries - 1


class TestInTheModel:
    """The whole T5, its attention by the kernels, against itself without."""

    CONFIG = dataclasses.replace(CONFIG, num_encoder_layers=2, num_decoder_layers=2, head_dim=4)
    PARAMS = random_params(CONFIG)
    BATCH = pair_batch(8, prompt_width=16, width=8)

    @classmethod
    @functools.cache
    def by_the_formula(cls):
        """What all is compared with."""
        return cls().log_probs(cls.CONFIG)

    def log_probs(self, config, *dropout_keys):
        """Of both responses, and the gradient of their sum; with several keys one of each."""
        policy = Policy(Transformer(config), sampleable_size=16, response_length=8)
        responses = np.stack([self.BATCH["response_a"], self.BATCH["response_b"]], axis=1)

        def total(params, dropout_key):
            encoded = policy.encode(params, self.BATCH["prompt"], dropout_key)
            scores = sequence_log_prob(policy.log_probs(params, encoded, responses, dropout_key))
            return scores.sum(), scores

        function = jax.jit(jax.value_and_grad(total, has_aux=True))
        found = [jax.device_get(function(self.PARAMS, key)) for key in dropout_keys or [None]]
        return found if dropout_keys else found[0]

    def use_kernels(self, monkeypatch):
        blocks = Blocks(queries=8, keys=8, lanes=8)
        for module in (encoder, transformer):
            monkeypatch.setattr(module, "key_mask", lambda valid, *_: fused.KeyMask(valid, blocks))

    @pytest.mark.parametrize(
        ("partitions", "scan", "remat"),
        [(None, False, "none"), (1, False, "none"), (4, False, "none"), (4, True, "none"),
         (4, True, "minimal"), (4, True, "full"), (None, False, "minimal")],
    )  # fmt: skip
    def test_log_probs_and_gradients(self, monkeypatch, partitions, scan, remat):
        expected = self.by_the_formula()
        self.use_kernels(monkeypatch)
        config = dataclasses.replace(self.CONFIG, scan_layers=scan, remat_policy=remat)
        if partitions is None:
            found = self.log_probs(config)
        else:
            with jax.set_mesh(make_mesh(partitions)):
                found = self.log_probs(config)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected
        )

    def test_an_mlp_that_keeps_its_products_alone_has_the_same_gradients(self, monkeypatch):
        """As on TPUs; activations are computed again."""
        expected = self.by_the_formula()
        monkeypatch.setattr(layers, "is_for_tpu", lambda: True)
        found = self.log_probs(self.CONFIG)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)

    def test_dropout_draws_the_same_masks(self, monkeypatch):
        config = dataclasses.replace(self.CONFIG, dropout_rate=0.3)
        expected, other = self.log_probs(config, jax.random.key(1), jax.random.key(2))
        self.use_kernels(monkeypatch)
        (found,) = self.log_probs(config, jax.random.key(1))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected
        )
        assert np.abs(found[0][1] - other[0][1]).max() > 0.01


def test_it_is_for_tpus_alone():
    """Here is none: the plain formula."""
    valid = jnp.ones((8, 1024), bool)
    assert fused.key_mask(valid, 1024, t5_1_1("large")) is None


@pytest.mark.parametrize(
    ("queries", "keys", "config", "expected"),
    [
        (1024, 1024, t5_1_1("large"), (256, 256)),
        (128, 1024, t5_1_1("small"), (128, 256)),  # SFT: one response of 128
        (384, 384, t5_1_1("xl"), (128, 128)),
        (1024, 2048, t5_1_1("large"), (256, 256)),
        (1024, 4096, t5_1_1("large"), None),  # no room on the chip
        (1024, 2048, t5_1_1("large", dtype="float32"), None),
        (1000, 1000, t5_1_1("large"), None),
        (1, 1024, t5_1_1("large"), None),
        (1024, 1024, T5Config(vocab_size=8, num_heads=3, head_dim=64), None),
        (1024, 1024, T5Config(vocab_size=8, num_heads=3, head_dim=128), (256, 256)),
        (1024, 1024, T5Config(vocab_size=8, num_heads=8, head_dim=32), (256, 256)),
        (512, 512, T5Config(vocab_size=8, num_heads=8, head_dim=16), (128, 128)),  # 8 tables
    ],
)
def test_sizes_that_the_kernels_take(queries, keys, config, expected, capsys):
    fused.say_once.cache_clear()
    blocks = fused.blocks_for(queries, keys, config)
    assert (blocks and (blocks.queries, blocks.keys)) == expected
    fused.blocks_for(queries, keys, config)
    said = capsys.readouterr().err.count("without its kernel: attention")
    assert said == (expected is None and queries > 1)


def test_heads_that_a_device_holds_decide():
    """6 heads of 64 are three groups of 128 lanes; on two devices 3 are none."""
    config = t5_1_1("small")
    with jax.set_mesh(make_mesh(2)):
        assert fused.blocks_for(1024, 1024, config) is None
    with jax.set_mesh(make_mesh(1)):
        assert fused.blocks_for(1024, 1024, config) is not None


@pytest.mark.parametrize(
    ("joined", "head_dim", "width"),
    [(1024, 64, 128), (64, 64, 64), (192, 64, 0), (256, 128, 128), (512, 256, 256), (96, 48, 96)],
)
def test_group_width(joined, head_dim, width):
    assert group_width(joined, head_dim, 128) == width


def test_buckets_of_far_distances_are_one():
    """What the table stands on."""
    for bidirectional in (True, False):
        buckets = relative_position_buckets(np.arange(128, 2000), bidirectional, 32, 128)
        assert {*buckets.tolist()} == {15 if bidirectional else 31}
        ahead = relative_position_buckets(-np.arange(128, 2000), bidirectional, 32, 128)
        assert {*ahead.tolist()} == {31 if bidirectional else 0}
