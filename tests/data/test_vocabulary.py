"""Vocabularies: texts come back unchanged, and no special id is taken by a word."""

import dataclasses
import io
import pathlib

import pytest
import sentencepiece
import seqio

from pagap_jax.data.make_tickets_vocabulary import train_tickets_model
from pagap_jax.data.tickets import ticket_pairs, word_categories
from pagap_jax.data.vocabulary import (
    END_ID,
    TICKETS_MODEL,
    UNKNOWN_ID,
    byte_vocabulary,
    sampleable_size,
    sentencepiece_vocabulary,
    special_ids,
    tickets_vocabulary,
)
from pagap_jax.errors import ConfigError


@pytest.fixture(scope="module")
def vocabulary() -> seqio.SentencePieceVocabulary:
    return tickets_vocabulary()


def test_each_word_of_the_task_is_one_id(vocabulary: seqio.SentencePieceVocabulary) -> None:
    words = list(word_categories())
    assert [vocabulary.encode(word) for word in words] == [[3 + i] for i in range(len(words))]
    assert vocabulary.encode("unheard") == [UNKNOWN_ID]
    assert sampleable_size(vocabulary) == 3 + len(words)
    assert vocabulary.vocab_size == 3 + len(words) + 8


def test_texts_come_back_unchanged(vocabulary: seqio.SentencePieceVocabulary) -> None:
    for pair in ticket_pairs(500, seed=11):
        for text in (pair.prompt, pair.response_a, pair.response_b):
            ids = vocabulary.encode(text)
            assert len(ids) == len(text.split())
            assert vocabulary.decode(ids) == vocabulary.decode([*ids, END_ID, 0, 0]) == text
    assert vocabulary.encode_tf(text).numpy().tolist() == ids


def test_shipped_model_is_what_the_command_makes() -> None:
    made, shipped = (
        sentencepiece.SentencePieceProcessor(model_proto=model)
        for model in (train_tickets_model(), TICKETS_MODEL.read_bytes())
    )
    # The pieces, not the bytes: another version of sentencepiece writes other settings beside them.
    size = shipped.get_piece_size()
    assert made.get_piece_size() == size
    assert [made.id_to_piece(i) for i in range(size)] == [
        shipped.id_to_piece(i) for i in range(size)
    ]


def test_byte_vocabulary_takes_any_text() -> None:
    vocabulary = byte_vocabulary()
    text = "naïve – 好\n\nAssistant:"
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert (sampleable_size(vocabulary), vocabulary.vocab_size) == (259, 267)


@pytest.mark.parametrize("make", [tickets_vocabulary, byte_vocabulary])
def test_special_ids_are_the_top_ids_and_no_words(make) -> None:
    vocabulary = make()
    ids = dataclasses.astuple(special_ids(vocabulary))
    assert ids == tuple(range(vocabulary.vocab_size - 1, sampleable_size(vocabulary) - 1, -1))
    assert special_ids(vocabulary).marker_a == vocabulary.vocab_size - 1


def test_sentinels_of_t5_come_first(vocabulary: seqio.SentencePieceVocabulary) -> None:
    # T5's checkpoints number them downwards from the top: <extra_id_0> is the last id.
    t5 = sentencepiece_vocabulary(TICKETS_MODEL)
    assert t5.extra_ids == 100
    assert t5.encode("<extra_id_0>") == [special_ids(t5).marker_a]
    assert t5.encode("<extra_id_1>") == [special_ids(t5).marker_b]
    assert sampleable_size(t5) == sampleable_size(vocabulary)


def test_too_few_extra_ids_are_refused() -> None:
    with pytest.raises(ConfigError, match="found 7 extra ids, expected at least 8"):
        special_ids(seqio.ByteVocabulary(extra_ids=7))


def test_a_missing_model_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="gone.model: no such file"):
        sentencepiece_vocabulary(tmp_path / "gone.model")


def test_a_file_that_is_no_model_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "wrong.model"
    path.write_bytes(b"no model at all")
    with pytest.raises(ConfigError, match="wrong.model: not a sentencepiece model"):
        sentencepiece_vocabulary(path)


def test_a_model_with_other_ids_than_t5_is_refused(tmp_path: pathlib.Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"]),
        model_writer=model,
        model_type="word",
        vocab_size=6,
        minloglevel=2,
    )
    path = tmp_path / "other.model"
    path.write_bytes(model.getvalue())
    with pytest.raises(ConfigError, match=r"found pad, end, unknown \(-1, 2, 0\)"):
        sentencepiece_vocabulary(path)


def test_sentinels_in_the_model_are_no_words_either(tmp_path: pathlib.Path) -> None:
    """mT5's model ends with them; seqio adds none."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(TICKETS_MODEL.read_bytes())
    words = len(model.pieces)
    for i in reversed(range(10)):
        model.pieces.add(piece=f"▁<extra_id_{i}>", score=0.0, type=4)
    path = tmp_path / "mt5.model"
    path.write_bytes(model.SerializeToString())
    mt5 = sentencepiece_vocabulary(path, extra_ids=0)
    assert (sampleable_size(mt5), mt5.vocab_size) == (words, words + 10)
    assert special_ids(mt5).marker_a == words + 9


def test_byt5_s_bytes() -> None:
    byt5 = byte_vocabulary(extra_ids=125)
    assert (sampleable_size(byt5), byt5.vocab_size) == (259, 384)
