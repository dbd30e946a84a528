"""The preference model: symmetric under a swap, blind to padding, made from any T5."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from pagap_jax.data.vocabulary import SpecialIds
from pagap_jax.losses.preference import preference_margin, symmetric_probability
from pagap_jax.model.transformer import Transformer
from pagap_jax.preference_models import PreferenceModel, choose
from tests.fixtures import t5x
from tests.fixtures.tiny import CONFIG, JUDGE, SPECIAL, pair_batch, random_params, random_tokens

BATCH = pair_batch()
PAIR = (BATCH["response_a"], BATCH["response_b"])
SEGMENTED = dataclasses.replace(
    JUDGE, transformer=Transformer(dataclasses.replace(CONFIG, num_segments=3))
)


@functools.partial(jax.jit, static_argnums=0)
def judge(model, params, prompt, response_a, response_b):
    return model.judge(params, prompt, response_a, response_b)


@pytest.fixture(scope="module", params=[JUDGE, SEGMENTED], ids=["plain", "segments"])
def model(request):
    return request.param


def test_swapping_maps_p_to_one_minus_p(model):
    params = random_params(model.transformer.config)
    shown = judge(model, params, BATCH["prompt"], *PAIR)
    swapped = judge(model, params, BATCH["prompt"], *PAIR[::-1])
    np.testing.assert_allclose(swapped.probability, 1 - shown.probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(swapped.log_odds_ab, shown.log_odds_ba, rtol=0, atol=1e-5)
    assert np.ptp(shown.probability) > 0.01  # it does judge
    np.testing.assert_allclose(
        shown.probability, symmetric_probability(shown.log_odds_ab, shown.log_odds_ba)
    )


def test_equal_responses_tie(model):
    params = random_params(model.transformer.config)
    same = judge(model, params, BATCH["prompt"], PAIR[0], PAIR[0])
    np.testing.assert_allclose(same.probability, 0.5, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(same.choice, np.full(len(PAIR[0]), -1))


def test_choices_are_the_signs(model):
    shown = judge(model, random_params(model.transformer.config), BATCH["prompt"], *PAIR)
    assert (PAIR[0] != PAIR[1]).any(axis=1).all()
    np.testing.assert_array_equal(shown.choice, shown.probability < 0.5)


def test_choose_takes_the_sign_and_leaves_out_ties():
    a = np.array([[2, 1], [2, 1], [2, 1], [2, 1]], np.int32)
    b = np.array([[3, 1], [3, 1], [3, 1], [2, 1]], np.int32)
    margin = np.array([0.7, -0.3, 0.0, 0.9], np.float32)
    np.testing.assert_array_equal(choose(margin, a, b), [0, 1, -1, -1])


def test_strong_position_bias_makes_no_ties():
    """Whatever is shown first is preferred: both r are 1 in float32, their log-odds differ."""
    ab, ba = np.array([41.0, 40.0], np.float32), np.array([40.0, 41.0], np.float32)
    assert (np.asarray(symmetric_probability(ab, ba)) == 0.5).all()  # by which it would tie
    a, b = np.array([[2, 1]] * 2, np.int32), np.array([[3, 1]] * 2, np.int32)
    np.testing.assert_array_equal(choose(preference_margin(ab, ba), a, b), [0, 1])
    np.testing.assert_array_equal(choose(preference_margin(ba, ab), b, a), [1, 0])


def test_log_odds_are_two_logits_of_the_first_decoder_token():
    """Composed by hand and run through the plain T5: a decoder that reads one padding id."""
    params = random_params(CONFIG)
    prompt, a, b = (np.array([x], np.int32) for x in ([2, 3, 1], [4, 1], [5, 1]))
    tokens = np.array(
        [[2, 3, 1, SPECIAL.marker_a, 4, 1, SPECIAL.marker_b, 5, 1, 0, 0, 0, 0, 0, 0, 0]], np.int32
    )
    start, target = np.zeros((1, 1), np.int32), np.ones((1, 1), np.int32)
    logits = jax.jit(JUDGE.transformer.apply)({"params": params}, tokens, start, target)[0, 0]
    expected = logits[SPECIAL.verdict_a] - logits[SPECIAL.verdict_b]
    # As rows of a batch of the compiled size, so that nothing more is compiled.
    rows = [np.pad(np.repeat(x, 8, 0), [(0, 0), (0, w - x.shape[1])])
            for x, w in ((prompt, 5), (a, 4), (b, 4))]  # fmt: skip
    np.testing.assert_allclose(
        judge(JUDGE, params, *rows).log_odds_ab, np.full(8, expected), rtol=0, atol=1e-5
    )


def test_padding_changes_nothing():
    params = random_params(CONFIG)
    roomy = dataclasses.replace(JUDGE, input_length=JUDGE.input_length + 5)
    padded = [np.pad(x, [(0, 0), (0, 2)]) for x in (BATCH["prompt"], *PAIR)]
    np.testing.assert_allclose(
        judge(roomy, params, *padded).log_odds_ab,
        judge(JUDGE, params, BATCH["prompt"], *PAIR).log_odds_ab,
        rtol=0,
        atol=1e-5,
    )


def test_says_whose_prompt_was_cut():
    params = random_params(CONFIG)
    tight = dataclasses.replace(JUDGE, input_length=11)  # 1 token of a prompt beside full responses
    lengths = [(x > 0).sum(axis=1) for x in (BATCH["prompt"], *PAIR)]
    expected = sum(lengths) + 2 > 11
    assert 0 < expected.sum() < 8
    cut = judge(tight, params, BATCH["prompt"], *PAIR).prompt_truncated
    np.testing.assert_array_equal(cut, expected)


def test_a_plain_t5_checkpoint_serves():
    """T5X's parameters as they are, and the vocabulary's last ids as markers and verdicts."""
    example = t5x.t5x_example("t5_1_1_tiny")
    special = SpecialIds(*range(383, 375, -1))
    model = PreferenceModel(example.transformer, special, input_length=40)
    generator = np.random.default_rng(0)
    prompt, a, b = (random_tokens(generator, [w, 3], w, 376) for w in (10, 8, 8))
    shown = judge(model, example.params, prompt, a, b)
    swapped = judge(model, example.params, prompt, b, a)
    assert ((shown.probability > 0) & (shown.probability < 1)).all()
    assert (np.abs(shown.probability - 0.5) > 1e-4).all()
    np.testing.assert_allclose(swapped.probability, 1 - shown.probability, rtol=0, atol=1e-6)
