"""Batches by length: the same results, in the order of the rows."""

import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from pagap_jax.data.reading import open_token_pairs
from pagap_jax.data.stored import TokenPairs, write_token_pairs
from pagap_jax.data.vocabulary import byte_vocabulary
from pagap_jax.errors import NotANumberError, StoppedError
from pagap_jax.jobs.preference_model import validate
from pagap_jax.mapping.batching import compile_for, map_batches, order_by_length
from pagap_jax.mapping.judging import Judge
from pagap_jax.mapping.kept import Kept
from pagap_jax.model.sharding import make_mesh
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.sampling.methods import SamplingMethod
from tests.fixtures.stops import watched_patiently
from tests.fixtures.tiny import CONFIG, JUDGE, POLICY, random_params, random_tokens

LENGTHS = np.array([300, 5, 140, 512, 128, 7, 260, 9, 400, 30, 129])
PROMPT = random_tokens(np.random.default_rng(0), LENGTHS, 512)


def test_rows_come_back_in_their_order():
    mesh, widths = make_mesh(), []

    def function(factor, batch):
        widths.append(batch["prompt"].shape[1])  # once a compilation
        return {"length": jnp.sum(batch["prompt"] > 0, axis=1) * factor, "row": batch["row"]}

    columns = {"prompt": PROMPT, "row": np.arange(len(PROMPT))}
    for by_length, compiled in ((True, [384, 512]), (False, [512])):
        widths.clear()
        jitted = compile_for(lambda *a: function(*a), 1, mesh)
        found = map_batches(jitted, (np.int32(2),), columns, mesh, 8, by_length)
        np.testing.assert_array_equal(found["length"], 2 * LENGTHS)
        np.testing.assert_array_equal(found["row"], np.arange(len(PROMPT)))
        assert widths == compiled


class Signalling:
    """A jitted function at whose n-th call SIGTERM comes."""

    def __init__(self, function, number):
        self.lower, self.function, self.number, self.calls = function.lower, function, number, 0

    def __call__(self, *arguments):
        self.calls += not isinstance(arguments[-1]["row"], jax.core.Tracer)
        if self.calls == self.number:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.function(*arguments)


def test_what_is_done_when_it_is_asked_to_stop_is_kept(tmp_path):
    mesh, kept = make_mesh(), Kept(epath.Path(tmp_path / "kept"))
    columns = {"prompt": PROMPT[:, :8], "row": np.arange(11, dtype=np.int32)}
    jitted = compile_for(
        lambda batch: (jnp.sum(batch["prompt"], axis=1), {"half": batch["row"] / 2}), 0, mesh
    )
    over = functools.partial(map_batches, models=(), columns=columns, mesh=mesh, batch_size=8)
    expected = over(jitted)
    with pytest.raises(StoppedError, match="all that was saved is kept"), watched_patiently():
        over(Signalling(jitted, 1), kept=kept.of("pass"))
    rest, none = Signalling(jitted, -1), Signalling(jitted, -1)
    for function, calls in ((rest, 1), (none, 0)):  # at the end all of it is kept
        found = over(function, kept=kept.of("pass"))
        assert function.calls == calls
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    kept.delete()
    assert not (tmp_path / "kept").exists()


def test_order_by_length_keeps_rows_of_one_bucket_as_they_were():
    assert order_by_length(PROMPT).tolist() == [1, 4, 5, 7, 9, 2, 10, 0, 6, 3, 8]
    assert order_by_length(PROMPT[:, :100]).tolist() == list(range(11))


def test_judgement_does_not_depend_on_the_padding():
    params = random_params(CONFIG)
    model = PreferenceModel(JUDGE.transformer, JUDGE.special, input_length=522)
    responses = random_tokens(np.random.default_rng(1), np.tile([4, 2], 11), 4).reshape(11, 2, 4)
    judge = Judge.compiled(model, params, make_mesh(), 8)
    found = judge(PROMPT, responses[:, 0], responses[:, 1])
    expected = jax.jit(model.judge)(params, PROMPT, responses[:, 0], responses[:, 1])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_judge_whose_answer_is_no_number_is_not_believed():
    params = jax.tree.map(lambda x: np.full_like(x, np.nan), random_params(CONFIG))
    model = PreferenceModel(JUDGE.transformer, JUDGE.special, input_length=522)
    responses = random_tokens(np.random.default_rng(1), np.full(len(PROMPT), 4), 4)
    judge = Judge.compiled(model, params, make_mesh(), 8)
    with pytest.raises(NotANumberError, match="no number for 11 of 11 pairs, the first .* pair 0"):
        judge(PROMPT, responses, responses[::-1])


def test_ties_count_half_in_validation_accuracy(tmp_path):
    responses, unknown = random_tokens(np.random.default_rng(1), np.full(6, 4), 4), np.full(6, -1)
    choice = np.array([0, 1, 0, 0, -1, 0], np.int8)
    tokens = TokenPairs(
        PROMPT[:6], responses, responses, choice, unknown.astype(np.int8),
        np.zeros(6, np.float32), unknown.astype(np.int32),
    )  # fmt: skip
    write_token_pairs(tmp_path / "pairs", {"train": tokens}, byte_vocabulary(), {})
    pairs = open_token_pairs(tmp_path / "pairs", "train")
    model = PreferenceModel(JUDGE.transformer, JUDGE.special, input_length=522)
    found = validate(Judge.compiled(model, random_params(CONFIG), make_mesh(), 8), pairs)
    assert found["validation_accuracy"] == 0.5 and found["validation_accuracy_true"] is None


def test_log_probs_and_samples_do_not_depend_on_the_padding():
    params, short = random_params(CONFIG), PROMPT[[1, 5, 7]]

    @jax.jit
    def answer(prompt):
        encoded = POLICY.encode(params, prompt)
        return POLICY.sample(params, encoded, jax.random.key(0), 2, SamplingMethod(), True)

    trimmed, padded = answer(short[:, :128]), answer(short)
    np.testing.assert_array_equal(trimmed.tokens, padded.tokens)
    np.testing.assert_allclose(trimmed.log_probs, padded.log_probs, rtol=1e-5, atol=1e-5)
