"""Texts as a run's ids and back, and what a run keeps of them."""

import json

import numpy as np
import pytest

from pagap_jax.data.texts import Texts, keep_texts, kept_texts
from pagap_jax.data.vocabulary import (
    TICKETS_MODEL,
    byte_vocabulary,
    describe_vocabulary,
    tickets_vocabulary,
)
from pagap_jax.errors import DataError

LETTERS = Texts(byte_vocabulary(), prompt_length=4, response_length=4)


def ids(text):
    return [byte + 3 for byte in text.encode()]


def test_prompts_keep_their_end_and_responses_their_beginning():
    """As `pagap prepare` cuts them; spaces around a text are no part of it."""
    np.testing.assert_array_equal(LETTERS.prompts([" ab\n", "abcdef"]), [
        [*ids("ab"), 1, 0], [*ids("def"), 1],
    ])  # fmt: skip
    np.testing.assert_array_equal(LETTERS.responses(["", "abcdef"], [None, None]), [
        [1, 0, 0, 0], ids("abcd"),
    ])  # fmt: skip
    with pytest.raises(DataError, match="prompt 1: found an empty text"):
        LETTERS.prompts(["a", " "])


def test_a_sampled_response_is_taken_as_its_tokens():
    """Where they are this vocabulary's for the text: without an end, they get none."""
    known = tuple(ids("ab"))
    np.testing.assert_array_equal(LETTERS.responses(["ab"], [known]), [[*known, 0, 0]])
    foreign = LETTERS.responses(["ab", "ab"], [tuple(ids("xy")), (99_999,)])
    np.testing.assert_array_equal(foreign, [[*known, 1, 0]] * 2)


@pytest.mark.parametrize("make", [tickets_vocabulary, byte_vocabulary])
def test_what_a_run_keeps_is_the_same_vocabulary(make, tmp_path):
    keep_texts(tmp_path, Texts(make(), 21, 20))
    vocabulary, *lengths = kept_texts(tmp_path)
    assert lengths == [21, 20]
    assert describe_vocabulary(vocabulary) == describe_vocabulary(make())
    if make is tickets_vocabulary:
        assert (tmp_path / "vocabulary.model").read_bytes() == TICKETS_MODEL.read_bytes()


def test_another_model_under_the_name_is_noticed(tmp_path):
    keep_texts(tmp_path, LETTERS)
    known = json.loads((tmp_path / "texts.json").read_text())
    known["vocabulary"]["size"] += 1
    (tmp_path / "texts.json").write_text(json.dumps(known))
    with pytest.raises(DataError, match="texts.json: found the vocabulary .*, expected .*268"):
        kept_texts(tmp_path)


def test_a_vocabulary_of_another_class_is_left_to_the_caller(tmp_path):
    keep_texts(tmp_path, LETTERS)
    text = (tmp_path / "texts.json").read_text()
    (tmp_path / "texts.json").write_text(text.replace("ByteVocabulary", "MyVocabulary"))
    assert kept_texts(tmp_path) == (None, 4, 4)
