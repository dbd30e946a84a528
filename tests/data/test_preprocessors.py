"""Truncation and dropping, each with its count, against rows worked out by hand."""

import numpy as np
import pytest

from pagap_jax.data import preprocessors
from pagap_jax.errors import DataError


def ids(*values):
    return np.array(values, np.int32)


@pytest.fixture
def packer():
    return preprocessors.PairPacker(prompt_length=4, response_length=3)


def test_prompt_keeps_its_end_response_its_beginning(packer):
    packer.add(ids(5, 6, 7, 8, 9, 1), ids(2, 3, 1), ids(4, 5, 6, 1), choice=1, true_choice=0)
    pairs = packer.pairs()
    assert pairs.prompt.tolist() == [[7, 8, 9, 1]]
    assert pairs.response_a.tolist() == [[2, 3, 1]]  # just fits, end token included
    assert pairs.response_b.tolist() == [[4, 5, 6]]  # doesn't: no end token
    assert (pairs.choice.tolist(), pairs.true_choice.tolist()) == ([1], [0])
    assert np.isnan(pairs.probability).all() and pairs.step.tolist() == [-1]


def test_short_rows_are_padded(packer):
    packer.add(ids(5, 1), ids(2, 1), ids(3, 1), choice=-1)
    pairs = packer.pairs()
    assert pairs.prompt.tolist() == [[5, 1, 0, 0]]
    assert pairs.response_a.tolist() == [[2, 1, 0]]
    assert (pairs.choice.tolist(), pairs.true_choice.tolist()) == ([-1], [-1])


@pytest.mark.parametrize(
    "prompt, response_a, response_b, reason",
    [
        (ids(1), ids(2, 1), ids(3, 1), preprocessors.EMPTY_PROMPT),
        (ids(5, 1), ids(1), ids(3, 1), preprocessors.EMPTY_RESPONSE),
        (ids(5, 1), ids(3, 1), ids(), preprocessors.EMPTY_RESPONSE),
        (ids(5, 1), ids(3, 1), ids(3, 1), preprocessors.IDENTICAL),
        (ids(5, 1), ids(3, 4, 5, 6, 1), ids(3, 4, 5, 7, 1), preprocessors.IDENTICAL_TRUNCATED),
        # Equal tokens, but one response ends there and the other doesn't: kept.
        (ids(5, 1), ids(3, 4, 1), ids(3, 4, 6, 1), None),
    ],
)
def test_pairs_that_teach_nothing_are_dropped_with_the_reason(
    packer, prompt, response_a, response_b, reason
):
    packer.add(prompt, response_a, response_b, choice=0)
    assert packer.dropped == ({reason: 1} if reason else {})
    assert len(packer) == len(packer.pairs()) == (reason is None)
    assert packer.read == 1


def test_report_counts_only_what_is_kept(packer):
    packer.add(ids(5, 6, 7, 8, 1), ids(2, 1), ids(2, 1), choice=0)  # identical
    packer.add(ids(5, 6, 7, 8, 1), ids(2, 1), ids(3, 4, 5, 1), choice=0)
    packer.add(ids(5, 6, 7, 1), ids(2, 1), ids(3, 4, 1), choice=1)  # just fits
    assert packer.report() == {
        "read": 3,
        "examples": 2,
        "dropped": {preprocessors.IDENTICAL: 1},
        "share_prompts_truncated": 0.5,
        "share_responses_truncated": 0.25,
        "mean_prompt_length": (4 + 4) / 2,
        "mean_response_length": (2 + 3 + 2 + 3) / 4,
        "share_choice_a": 0.5,
    }


def test_a_choice_that_is_none_is_refused(packer):
    packer.add(ids(5, 1), ids(2, 1), ids(3, 1), choice=0)
    with pytest.raises(DataError, match="example 1: field 'choice': found 2"):
        packer.add(ids(5, 1), ids(2, 1), ids(3, 1), choice=2)
