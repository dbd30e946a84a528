"""Truncation and dropping, each with its count, against rows worked out by hand."""

import numpy as np
import pytest

from pagap_jax.data import preprocessors
from pagap_jax.errors import DataError


def ids(*values):
    return np.array(values, np.int32)


def add(packer, *tokens, choice=0, **labels):
    packer.add(preprocessors.Example(*tokens, choice=choice, **labels))


def pairs_of(packer):
    (pairs,) = packer.pieces()
    return pairs


@pytest.fixture
def packer():
    return preprocessors.PairPacker(prompt_length=4, response_length=3, sampleable_size=50)


def test_prompt_keeps_its_end_response_its_beginning(packer):
    add(packer, ids(5, 6, 7, 8, 9, 1), ids(2, 3, 1), ids(4, 5, 6, 1), choice=1, true_choice=0)
    pairs = pairs_of(packer)
    assert pairs.prompt.tolist() == [[7, 8, 9, 1]]
    assert pairs.response_a.tolist() == [[2, 3, 1]]  # just fits, end token included
    assert pairs.response_b.tolist() == [[4, 5, 6]]  # doesn't: no end token
    assert (pairs.choice.tolist(), pairs.true_choice.tolist()) == ([1], [0])
    assert np.isnan(pairs.probability).all() and pairs.step.tolist() == [-1]


def test_short_rows_are_padded(packer):
    add(packer, ids(5, 1), ids(2, 1), ids(3, 1), choice=-1)
    pairs = pairs_of(packer)
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
    add(packer, prompt, response_a, response_b, choice=0)
    assert packer.dropped == ({reason: 1} if reason else {})
    assert len(packer) == sum(map(len, packer.pieces())) == (reason is None)
    assert packer.read == 1


def test_report_counts_only_what_is_kept(packer):
    add(packer, ids(5, 6, 7, 8, 1), ids(2, 1), ids(2, 1))  # identical
    add(packer, ids(5, 6, 7, 8, 1), ids(2, 1), ids(3, 4, 5, 1))
    add(packer, ids(5, 6, 2, 1), ids(2, 1), ids(3, 4, 1), choice=1)  # just fits
    add(packer, ids(5, 1), ids(3, 1), ids(*[4] * 9, 1), choice=-1)
    lengths = packer.report().pop("lengths")
    assert lengths["prompt"]["limit"] == 4 and lengths["response"]["bin_width"] == 6 / 40
    assert [i * 8 / 40 for i, n in enumerate(lengths["prompt"]["counts"]) if n] == [2, 4, 5]
    counts = lengths["response"]["counts"]
    assert counts[-1] == 1 and sum(counts) == 6  # 10 tokens are beyond the last bin
    assert {k: v for k, v in packer.report().items() if k != "lengths"} == {
        "read": 4,
        "examples": 3,
        "dropped": {preprocessors.IDENTICAL: 1},
        "share_prompts_truncated": 1 / 3,
        "share_responses_truncated": 2 / 6,
        "mean_prompt_length": (4 + 4 + 2) / 3,
        "mean_response_length": (2 + 3 + 2 + 3 + 2 + 3) / 6,
        "share_choice_a": 1 / 3,
        "share_without_choice": 1 / 3,
        "share_unknown": {"prompt": 1 / 10, "response_a": 2 / 6, "response_b": 0.0},
    }


def test_identical_ids_of_texts_that_differ_have_a_reason_of_their_own(packer):
    add(packer, ids(5, 1), ids(2, 1), ids(2, 1), texts_differ=True)
    add(packer, ids(5, 1), ids(2, 1), ids(2, 1), texts_differ=False)
    assert packer.dropped == {preprocessors.IDENTICAL_IDS: 1, preprocessors.IDENTICAL: 1}


@pytest.mark.parametrize("inside", [ids(3, 0, 1), ids(1, 3, 1), ids(50, 1), ids(3, 60)])
@pytest.mark.parametrize("column", range(3))
def test_special_ids_inside_a_text_are_left_out(packer, inside, column):
    tokens = [ids(5, 1), ids(6, 1), ids(7, 1)]
    add(packer, *tokens)
    add(packer, *tokens[:column], inside, *tokens[column + 1 :])
    assert packer.dropped == {preprocessors.SPECIAL_INSIDE: 1}


def test_the_batch_that_rows_came_in_is_not_kept(packer):
    batch = np.array([[5, 1]] * 4, np.int32)
    add(packer, batch[0], ids(6, 1), ids(7, 1))
    batch[:] = 9
    assert pairs_of(packer).prompt.tolist() == [[5, 1, 0, 0]]


def test_a_choice_that_is_none_is_refused(packer):
    add(packer, ids(5, 1), ids(2, 1), ids(3, 1), choice=0)
    with pytest.raises(DataError, match="example 1: field 'choice': found 2"):
        add(packer, ids(5, 1), ids(2, 1), ids(3, 1), choice=2)


def test_pieces_are_the_whole_in_its_order(packer, monkeypatch):
    monkeypatch.setattr(preprocessors, "PIECE", 2)
    for i in range(5):
        add(packer, ids(5 + i, 1), ids(2, 1), ids(3, 1), choice=i % 2)
    pieces = list(packer.pieces())
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert [row[0] for piece in pieces for row in piece.prompt] == [5, 6, 7, 8, 9]
    assert [choice for piece in pieces for choice in piece.choice] == [0, 1, 0, 1, 0]


def test_of_a_very_long_text_is_kept_what_truncation_keeps():
    short, most = preprocessors.shortened, preprocessors.LONG_TEXT
    text = "".join(map(chr, range(97, 123))) * 4000
    assert short(text, 2) == text[:128] and short(text, 2, from_end=True) == text[-128:]
    assert short(text[:most], 2) == text[:most]
    assert short(text, 2000) is text  # so many tokens may be all of it
