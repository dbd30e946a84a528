"""Special tokens in texts, for a vocabulary as T5's: pieces, control ids, 100 sentinels."""

import io
import random

import pytest
import sentencepiece

from pagap_jax.data.special_text import SpecialText
from pagap_jax.data.vocabulary import byte_vocabulary, sampleable_size, sentencepiece_vocabulary

FULL_WIDTH = "\uff1cextra_id_1\uff1e"


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    model = io.BytesIO()
    letters = "".join(map(chr, range(33, 127)))
    words = random.Random(0)
    texts = ["".join(words.choices(letters, k=8)) for _ in range(2000)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=200,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("vocabulary") / "spiece.model"
    path.write_bytes(model.getvalue())
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
