"""Which prompts are the same: the normalised text, its number, one decoding for equal rows."""

import numpy as np
import pytest

from pagap_jax.data.prompts import decoded, normalised, prompt_id, prompt_ids
from tests.fixtures.stored_pairs import LetterVocabulary

EMPTY = -1970711489451281740


@pytest.mark.parametrize(
    "text",
    [
        " Straße no. 5\n\n\tfrom  here ",
        "STRASSE NO. 5 FROM HERE",
        "strasse\u00a0no. \uff15 from here",
        "strasse no. 5 from here",
    ],
)
def test_spellings_of_a_prompt_are_one_prompt(text):
    assert normalised(text) == "strasse no. 5 from here"
    assert prompt_id(text) == prompt_id("strasse no. 5 from here")


def test_accents_composed_or_not_are_one_prompt_and_none_is_another():
    assert prompt_id("caf\u00e9") == prompt_id("cafe\u0301") != prompt_id("cafe")
    assert prompt_id("a b") != prompt_id("ab")
    assert prompt_id("a?") != prompt_id("a")


def test_numbers_fill_64_bits_of_both_signs_and_stay_what_they_were():
    numbers = np.array([prompt_id(f"prompt {i}") for i in range(2000)], np.int64)
    assert len(np.unique(numbers)) == 2000
    assert 0.45 < (numbers < 0).mean() < 0.55  # four standard errors
    assert 0.45 < (numbers & 1).mean() < 0.55
    # Of the definition: changing it moves prompts between splits, and needs a new schema version.
    assert prompt_id("") == EMPTY
    assert prompt_ids(["b", "", "b"]).tolist() == [prompt_id("b"), EMPTY, prompt_id("b")]


def test_equal_rows_are_decoded_once():
    class Vocabulary(LetterVocabulary):
        asked = 0

        def decode(self, ids):
            self.asked += 1
            return super().decode(ids)

    vocabulary = Vocabulary()
    rows = np.array([[3, 4, 0], [3, 0, 0], [3, 4, 0], [0, 0, 0]], np.int32)
    assert decoded(rows, vocabulary) == ["déeé", "dé", "déeé", ""]
    assert vocabulary.asked == 3
