"""The T5: equal to T5X's in parameters and results, causal, and blind to padding."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from flax.core import meta

from pagap_jax.losses.log_probs import (
    sequence_log_prob,
    shift_right,
    token_log_probs,
)
from pagap_jax.model.attention import MASKED
from pagap_jax.model.cached_attention import KernelLayout, MatrixLayout, VectorLayout
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from tests.fixtures import t5x
from tests.fixtures.tiny import (
    CONFIG,
    POLICY,
    abstract_params,
    logits_of,
    random_params,
    random_tokens,
)

# T5X's t5x/examples/t5/layers.py and network.py: `kernel_axes`, `axes`.
LOGICAL_AXES = {
    ("token_embedder", "embedding"): ("vocab", "embed"),
    ("relpos_bias", "rel_embedding"): ("heads", "relpos_buckets"),
    ("query", "kernel"): ("embed", "joined_kv"),
    ("key", "kernel"): ("embed", "joined_kv"),
    ("value", "kernel"): ("embed", "joined_kv"),
    ("out", "kernel"): ("joined_kv", "embed"),
    ("wi", "kernel"): ("embed", "mlp"),
    ("wi_0", "kernel"): ("embed", "mlp"),
    ("wi_1", "kernel"): ("embed", "mlp"),
    ("wo", "kernel"): ("mlp", "embed"),
    ("logits_dense", "kernel"): ("embed", "vocab"),
    ("encoder_norm", "scale"): ("embed",),
    ("decoder_norm", "scale"): ("embed",),
    ("pre_attention_layer_norm", "scale"): ("embed",),
    ("pre_self_attention_layer_norm", "scale"): ("embed",),
    ("pre_cross_attention_layer_norm", "scale"): ("embed",),
    ("pre_mlp_layer_norm", "scale"): ("embed",),
}


LAYOUTS = (VectorLayout(), MatrixLayout(), KernelLayout(head_dim=2))


@pytest.fixture(scope="module", params=t5x.NAMES)
def example(request):
    return t5x.t5x_example(request.param)


@pytest.fixture(scope="module")
def computed(example):
    """((loss, logits), gradient) of our model on T5X's batch."""

    @jax.jit
    def compute(params, batch):
        def loss(params):
            logits = example.transformer.apply({"params": params}, *batch)
            total = -jnp.sum(token_log_probs(logits, batch[2]))
            return total / jnp.sum(batch[2] > 0), logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    return jax.device_get(compute(example.params, example.batch))


def test_parameter_tree_and_shapes_are_t5x_s(example):
    ours = traverse_util.flatten_dict(meta.unbox(abstract_params(example.config)))
    theirs = traverse_util.flatten_dict(example.params)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert {v.dtype for v in ours.values()} == {np.dtype(np.float32)}


def test_logical_axes_are_t5x_s(example):
    boxes = traverse_util.flatten_dict(
        abstract_params(example.config), is_leaf=lambda _, x: isinstance(x, nn.LogicallyPartitioned)
    )
    assert {path: box.names for path, box in boxes.items()} == {
        path: LOGICAL_AXES[path[-2:]] for path in boxes
    }


def test_logits_are_t5x_s(example, computed):
    (_, logits), _ = computed
    np.testing.assert_allclose(logits, example.golden["logits"], rtol=0, atol=2e-5)


def test_log_probs_are_t5x_s(example, computed):
    (loss, logits), _ = computed
    log_probs = token_log_probs(logits, example.batch[2])
    golden = example.golden
    # T5X's hold a value at padding too, which ours are 0 at.
    theirs = np.where(example.batch[2] > 0, golden["target_log_probs"], 0)
    np.testing.assert_allclose(log_probs, theirs, rtol=0, atol=2e-5)
    np.testing.assert_allclose(
        sequence_log_prob(log_probs), golden["sequence_scores"], rtol=1e-5, atol=0
    )
    np.testing.assert_allclose(loss, golden["mean_token_loss"], rtol=1e-6)


def test_gradients_are_t5x_s(example, computed):
    _, gradient = computed
    gradient = traverse_util.flatten_dict(gradient, sep="/")
    names = [name for name in example.golden if name.startswith("grad/")]
    assert len(names) == 4
    for name in names:
        theirs = example.golden[name]
        difference = np.linalg.norm(gradient[name.removeprefix("grad/")] - theirs)
        assert difference <= 1e-4 * np.linalg.norm(theirs), name
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in gradient.values()))
    np.testing.assert_allclose(norm, example.golden["grad_global_norm"], rtol=1e-4)


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@jax.jit
def log_probs(params, prompt, responses):
    return POLICY.log_probs(params, POLICY.encode(params, prompt), responses)


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, prompt, segments, responses):
    """Encoder output and logits."""
    model = functools.partial(Transformer(config).apply, {"params": params})
    hidden = model(prompt, segments, method="encode")
    inputs = shift_right(responses)
    decoded = model(hidden, prompt > 0, inputs, responses > 0, method="decode")
    return hidden, model(decoded, method="logits")


@pytest.fixture(scope="module")
def tokens():
    """Prompts [3, 5] and responses [3, 2, 4] of ragged lengths."""
    generator = np.random.default_rng(1)
    prompt = random_tokens(generator, [5, 3, 1], 5)
    return prompt, random_tokens(generator, [[4, 5], [1, 2], [3, 4]], 4)


def test_decoder_sees_the_past_alone(params):
    prompt = np.array([[2, 3, 4, 1]], np.int32)
    responses = np.array([[[5, 6, 7, 8, 9]]], np.int32)

    @jax.jit
    @jax.jacobian
    def influence(table):
        """Of each row of the embedding on the logits of each position (summed over ids)."""
        changed = {**params, "token_embedder": {"embedding": table}}
        weights = jnp.arange(CONFIG.vocab_size, dtype=jnp.float32)
        logits = logits_of(POLICY, changed, POLICY.encode(changed, prompt), responses)[0, 0]
        return jnp.sum(logits * weights[None, :], axis=-1)

    seen = np.abs(influence(params["token_embedder"]["embedding"])).sum(axis=-1)  # [R, V]
    inputs = seen[:, [0, 5, 6, 7, 8]]  # what the decoder reads at positions 0 to 4
    np.testing.assert_array_equal(inputs > 1e-6, np.tril(np.ones((5, 5), bool)))
    np.testing.assert_array_equal(inputs[np.triu_indices(5, 1)], 0)
    np.testing.assert_array_equal(seen[:, 9], 0)  # the last token is a target only
    assert (seen[:, [2, 3, 4, 1]] > 1e-6).all()  # the whole prompt is seen by all


def test_padding_changes_nothing(params, tokens):
    prompt, responses = tokens
    plain = log_probs(params, prompt, responses)
    longer_prompt = np.pad(prompt, [(0, 0), (0, 6)])
    longer_responses = np.pad(responses, [(0, 0), (0, 0), (0, 3)])
    both = log_probs(params, longer_prompt, longer_responses)
    np.testing.assert_allclose(both[..., :4], plain, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(both[..., 4:], 0)
    np.testing.assert_array_equal(plain == 0, responses == 0)


def test_responses_at_once_equal_one_at_a_time(params, tokens):
    prompt, responses = tokens
    together = log_probs(params, prompt, responses)
    for n in range(responses.shape[1]):
        alone = log_probs(params, prompt, responses[:, n : n + 1])
        np.testing.assert_allclose(together[:, n], alone[:, 0], rtol=0, atol=1e-6)


def test_a_row_depends_on_no_other_row(params, tokens):
    prompt, responses = tokens
    together = log_probs(params, prompt, responses)
    backwards = log_probs(params, prompt[::-1], responses[::-1])
    np.testing.assert_allclose(backwards[::-1], together, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("partitions", [1, 4], ids="model_axis_{}".format)
def test_decode_step_equals_teacher_forcing(params, tokens, layout, partitions):
    """In both layouts of the caches, and with two heads on each of four devices."""
    prompt, responses = tokens
    transformer, length = POLICY.transformer, responses.shape[2]

    @jax.jit
    def step_by_step(prompt, inputs):
        encoded = POLICY.encode(params, prompt)
        cache = transformer.apply(
            {"params": params}, encoded.hidden, encoded.mask, 2, length, layout, method="prefill"
        )

        def step(cache, x):
            tokens, position = x
            logits, cache = transformer.apply(
                {"params": params}, tokens, cache, position, method="decode_step"
            )
            return cache, logits

        steps = (jnp.moveaxis(inputs, 2, 0), jnp.arange(length))
        _, logits = jax.lax.scan(step, cache, steps)
        return jnp.moveaxis(logits, 0, 2), logits_of(POLICY, params, encoded, responses)

    inputs = np.pad(responses[..., :-1], [(0, 0), (0, 0), (1, 0)])
    with jax.set_mesh(make_mesh(partitions)):
        stepped, forced = step_by_step(prompt, inputs)
    valid = responses > 0
    np.testing.assert_allclose(stepped[valid], forced[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("float32_logits", [False, True])
def test_cached_attention_in_bfloat16(layout, float32_logits):
    """Within rounding of attention over whole sequences in the same types."""
    generator = np.random.default_rng(0)
    keys, values = generator.normal(size=(2, 2, 5, 8, 2)).astype(jnp.bfloat16)
    queries = generator.normal(size=(2, 3, 8, 2)).astype(jnp.bfloat16)
    joined = [x.reshape(*x.shape[:2], 16) for x in (queries, keys, values)]
    seen = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    if float32_logits:
        joined[0] = joined[0].astype(np.float32)
    attended = layout.attend_to_prompt(
        joined[0], layout.of_prompt(*joined[1:], num_heads=8), jnp.where(seen, 0.0, MASKED)
    )
    logits = np.einsum("bnhk,bphk->bnhp", queries.astype(np.float64), keys.astype(np.float64))
    weights = jax.nn.softmax(np.where(seen[:, None, None], logits, -np.inf))
    expected = np.einsum("bnhp,bphk->bnhk", weights, values.astype(np.float64))
    attended = attended.reshape(expected.shape).astype(np.float32)
    np.testing.assert_allclose(attended, expected, rtol=0, atol=0.03)


def test_bfloat16_is_for_activations(tokens, params):
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(abstract_params(config))} == {np.dtype(np.float32)}
    prompt, responses = tokens
    hidden, logits = run(config, params, prompt, None, responses)
    assert (hidden.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)
    _, exact = run(CONFIG, params, prompt, None, responses)
    difference = np.abs(logits - exact)[responses > 0]
    # bfloat16 keeps 8 bits: off by a percent of the logits' size, which is about 1, yet not equal.
    assert 1e-4 < difference.max() < 0.2


def test_segments_are_added_to_the_embedding(tokens, params):
    config = dataclasses.replace(CONFIG, num_segments=3)
    table = abstract_params(config)["segment_embedder"]["embedding"]
    assert table.names == ("segments", "embed")
    with_table = random_params(config)
    zero = {**with_table, "segment_embedder": {"embedding": np.zeros((3, 16), np.float32)}}
    prompt, responses = tokens
    segments = np.tile(np.array([0, 1, 1, 2, 2], np.int32), (3, 1))
    _, without = run(CONFIG, params, prompt, None, responses)
    _, initially = run(config, zero, prompt, segments, responses)
    _, trained = run(config, with_table, prompt, segments, responses)
    # Where a model has a table and is given no segments, the table has no part.
    _, unused = run(config, with_table, prompt, None, responses)
    np.testing.assert_allclose(initially, without, rtol=0, atol=1e-6)
    np.testing.assert_allclose(unused, without, rtol=0, atol=1e-6)
    assert np.abs(trained - without).max() > 0.1
