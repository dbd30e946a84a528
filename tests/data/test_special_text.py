"""Special tokens in texts, for a vocabulary as T5's: pieces, control ids, 100 sentinels."""

import json
import random

import pytest

from benchmarks.prepare import write_vocabulary
from pagap_jax.data.composer import compose_preference_input
from pagap_jax.data.reading import read_token_pairs
from pagap_jax.data.special_text import SPELLED_OUT, SpecialText
from pagap_jax.data.vocabulary import (
    byte_vocabulary,
    sampleable_size,
    sentencepiece_vocabulary,
    special_ids,
)
from pagap_jax.jobs.prepare import prepare

FULL_WIDTH = "\uff1cextra_id_1\uff1e"


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    letters = "".join(map(chr, range(33, 127)))
    words = random.Random(0)
    texts = ("".join(words.choices(letters, k=8)) for _ in range(2000))
    path = tmp_path_factory.mktemp("vocabulary") / "spiece.model"
    write_vocabulary(path, texts, 200)
    return sentencepiece_vocabulary(path)


def special(vocabulary, text):
    return [i for i in vocabulary.encode(text) if i < 2 or i >= sampleable_size(vocabulary)]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Red. <extra_id_1> Blue.", "Red. < extra_id_1> Blue."),
        ("<extra_id_99>", "< extra_id_99>"),
        ("a\n<extra_id_0>b <extra_id_12>", "a < extra_id_0>b < extra_id_12>"),
        (f"a {FULL_WIDTH}", "a < extra_id_1>"),  # folded by the vocabulary's normalisation
        ("a <extra\x07_id_1>", "a < extra_id_1>"),  # control characters are taken out
        ("a \u2581<extra_id_1>", "a < extra_id_1>"),  # sentencepiece's blank
    ],
)
def test_what_would_be_a_special_id_is_spelled_out(vocabulary, text, plain):
    assert special(vocabulary, text)
    spelled = SpecialText(vocabulary).spelled_out(text)
    assert " ".join(spelled.split()) == plain
    assert not special(vocabulary, spelled)


@pytest.mark.parametrize("text", ["x</s>y", "<pad> x", "a <b> c", "", "<extra_id_100>", "<unk>"])
def test_other_texts_stay_as_they_are(vocabulary, text):
    assert SpecialText(vocabulary).spelled_out(text) is text


def test_bytes_have_no_special_texts():
    assert SpecialText(byte_vocabulary()).spelled_out("<extra_id_1>") == "<extra_id_1>"


def test_from_a_text_to_a_judge_s_input(vocabulary, tmp_path):
    """Every special id is where it belongs, and nowhere else."""
    markers = special_ids(vocabulary)
    rows = [
        {"prompt": f"p {i} <extra_id_0>", "response_a": "r </s>", "response_b": b, "choice": 1}
        for i, b in enumerate(["<extra_id_1> b", f"b {FULL_WIDTH}", "b" * 90, "b"] * 8)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = prepare(
        model_dir=str(tmp_path / "pairs"),
        mixture_or_task_name="preferences",
        vocabulary=vocabulary,
        task_feature_lengths={"inputs": 32, "targets": 16},
        seed=0,
        num_train=None,
        num_validation=None,
        data_file=str(path),
    )
    assert (report["dropped"], report["noted"]) == ({}, {SPELLED_OUT: 32})
    pairs = read_token_pairs(tmp_path / "pairs", "train")
    composed = compose_preference_input(
        *(pairs.prompt, pairs.response_a, pairs.response_b),
        length=66,
        marker_a=markers.marker_a,
        marker_b=markers.marker_b,
    )
    for row, (tokens, a, b) in enumerate(
        zip(composed.tokens, pairs.response_a, pairs.response_b, strict=True)
    ):
        tokens = tokens[tokens > 0].tolist()
        first, second = (tokens.index(m) for m in (markers.marker_a, markers.marker_b))
        ends = [i for i, token in enumerate(tokens) if token == 1]
        # The prompt's end before the first marker, a's before the second; b's is the last token,
        # unless b was cut to 16 tokens.
        expected = [first - 1, second - 1] + [len(tokens) - 1] * (1 in b)
        assert ends == expected and (1 in a), row
        others = [i for i, token in enumerate(tokens) if token >= sampleable_size(vocabulary)]
        assert others == [first, second], row
        assert tokens[second + 1 :] == b[b > 0].tolist()
        texts = [vocabulary.decode(tokens[i:j]) for i, j in ((0, first), (first + 1, second))]
        assert texts[1] == "r </s>" and texts[0].endswith("< extra_id_0>")
    assert any(1 not in b for b in pairs.response_b)
