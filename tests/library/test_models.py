"""Trained models that take texts agree with the jobs that take tokens."""

import subprocess
import sys

import numpy as np
import pytest

import pagap_jax
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.library.batches import Batches
from pagap_jax.model.sharding import make_mesh
from tests.fixtures import t5x, toy

T5X = str(t5x.DIRECTORY / "t5_1_1_tiny" / "checkpoint_10")


def texts_of(texts, tokens):
    return [texts.decoded(row[row > 0].tolist()) for row in tokens]


@pytest.fixture(scope="module")
def prompts(policy, golden_pairs):
    return texts_of(policy.texts, golden_pairs.prompt)


def test_importing_the_package_imports_no_jax():
    code = (
        "import sys, pagap_jax; assert 'load_policy' in dir(pagap_jax) or pagap_jax.__all__;"
        "assert not {'jax', 'numpy', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=toy.ROOT, check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'load_policies'"):
        pagap_jax.load_policies  # noqa: B018


def test_texts_become_the_data_set_s_tokens(policy, golden_pairs, prompts):
    np.testing.assert_array_equal(policy.texts.prompts(prompts), golden_pairs.prompt)
    responses = texts_of(policy.texts, golden_pairs.response_a)
    encoded = policy.texts.responses(responses, [None] * len(responses))
    np.testing.assert_array_equal(encoded, golden_pairs.response_a)


def test_what_a_console_shows_of_a_policy(policy):
    shown = repr(policy)
    assert f"prompt_length={policy.texts.prompt_length}, " in shown
    assert "SamplingMethod(temperature=" in shown and "T5Config(vocab_size=" in shown


def test_a_sample_s_log_prob_is_that_of_teacher_forcing(policy, prompts):
    """Also of responses that found no end; their texts encode to the same tokens here."""
    answers = policy.sample(prompts[:5], n=4, seed=3)
    assert [len(answer) for answer in answers] == [4] * 5
    responses = [response for answer in answers for response in answer]
    assert {response.finished for response in responses} == {True, False}
    repeated = [prompt for prompt in prompts[:5] for _ in range(4)]
    found = policy.log_probs(repeated, responses)
    np.testing.assert_allclose(found, [r.log_prob for r in responses], rtol=1e-5)
    as_texts = policy.log_probs(repeated, [str(response) for response in responses])
    np.testing.assert_allclose(as_texts, found, rtol=1e-5)


def test_the_same_seed_gives_the_same_responses(policy, prompts):
    first, again, other = (policy.sample(prompts[:3], n=4, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len({str(response) for response in first[0]}) > 1  # samples of a prompt differ


def test_a_new_number_of_prompts_is_no_new_program(policy, prompts):
    for number in (1, 3, 8):
        assert len(policy.sample(prompts[:number], n=4)) == number
        assert policy.log_probs(prompts[:number], ["late"] * number).shape == (number,)
    assert policy._sampler(4)._cache_size() == 1
    batches = Batches.on(make_mesh(), 32)  # of eight devices
    assert [batches.size_for(n) for n in (1, 8, 9, 17, 32, 1000)] == [8, 8, 16, 32, 32, 32]


def test_verdicts_are_those_of_relabelling(judge, golden_pairs, prompts):
    a, b = (texts_of(judge.texts, getattr(golden_pairs, f"response_{side}")) for side in "ab")
    verdicts = judge.judge(prompts, a, b)
    found = [verdict.probability for verdict in verdicts]
    np.testing.assert_allclose(found, golden_pairs.probability, atol=1e-6)
    names = ["ab"[choice] if choice >= 0 else "tie" for choice in golden_pairs.choice]
    assert [verdict.choice for verdict in verdicts] == names
    for verdict, swapped in zip(verdicts, judge.judge(prompts, b, a), strict=True):
        assert verdict.shown_first == pytest.approx(1 - swapped.shown_second, abs=1e-6)
        assert verdict.probability == pytest.approx(1 - swapped.probability, abs=1e-6)
        assert not verdict.prompt_truncated


def test_equal_responses_are_a_tie(judge, prompts):
    (verdict,) = judge.judge(prompts[:1], ["late"], ["late"])
    assert verdict.choice == "tie" and verdict.probability == 0.5


def test_what_is_no_list_of_texts_is_refused(policy, judge, prompts):
    with pytest.raises(DataError, match="prompts: found one text, expected a list"):
        policy.sample(prompts[0])
    with pytest.raises(DataError, match="prompts: found none"):
        policy.log_probs([], [])
    with pytest.raises(DataError, match="prompt 1: found an empty text"):
        policy.sample([prompts[0], " \n"])
    with pytest.raises(ConfigError, match="n: found 0, expected 1 or more"):
        policy.sample(prompts[:1], n=0)
    with pytest.raises(DataError, match="responses: found 2, expected 1, one to each prompt"):
        policy.log_probs(prompts[:1], ["late", "fine"])
    with pytest.raises(DataError, match="b: found 1, expected 2"):
        judge.judge(prompts[:2], ["late", "fine"], ["late"])


def test_another_kind_of_checkpoint_is_refused(study):
    with pytest.raises(ConfigError, match="found a run of `preference_model`, expected a policy"):
        pagap_jax.load_policy(str(study / "golden"))
    with pytest.raises(ConfigError, match="found a run of `align`, expected a preference model"):
        pagap_jax.load_preference_model(str(study / toy.ONLINE))
    with pytest.raises(ConfigError, match="so vocabulary, prompt_length, response_length can't be"):
        pagap_jax.load_policy(T5X)
    with pytest.raises(ConfigError, match="input_length: found 42, expected at least 43"):
        pagap_jax.load_preference_model(str(study / "golden"), input_length=42)
