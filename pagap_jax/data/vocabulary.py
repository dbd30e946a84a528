"""Vocabularies, all with T5's ids (pad 0, end 1, unknown 2), and what their top ids stand for."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import pathlib
from typing import TYPE_CHECKING, Any

import gin
from etils import epath

from pagap_jax.buckets import local_copy
from pagap_jax.errors import ConfigError
from pagap_jax.files import refuse_special
from pagap_jax.ranges import ExtraIds, Place

if TYPE_CHECKING:  # seqio brings TensorFlow, which takes seconds to import
    import seqio

PAD_ID, END_ID, UNKNOWN_ID = 0, 1, 2
TICKETS_MODEL = pathlib.Path(__file__).parent / "assets" / "tickets.model"


@dataclasses.dataclass(frozen=True)
class SpecialIds:
    """Ids that only preference models read or write: T5's sentinels, from the last one down.

    A T5 checkpoint has embeddings for them and gives them no meaning inside a text, so any T5
    checkpoint can initialise a preference model.
    """

    marker_a: int  # stands in front of response a in a preference model's input
    marker_b: int
    verdict_a: int  # logit of verdict_a minus that of verdict_b: the preference score
    verdict_b: int
    tag_ok_a: int  # of a word of response a, in pretraining: it's as written
    tag_bad_a: int  # it was replaced
    tag_ok_b: int
    tag_bad_b: int


NUM_SPECIAL_IDS = len(dataclasses.fields(SpecialIds))


def special_ids(vocabulary: seqio.Vocabulary) -> SpecialIds:
    """The special ids of a vocabulary: its size - 1, - 2, and so on.

    Raises:
        ConfigError: the vocabulary has too few extra ids, so that words would be taken.
    """
    if num_extra_ids(vocabulary) < NUM_SPECIAL_IDS:
        raise ConfigError(
            f"vocabulary {type(vocabulary).__name__}: found {num_extra_ids(vocabulary)} extra ids, "
            f"expected at least {NUM_SPECIAL_IDS}"
        )
    return SpecialIds(*(vocabulary.vocab_size - 1 - i for i in range(NUM_SPECIAL_IDS)))


def sampleable_size(vocabulary: seqio.Vocabulary) -> int:
    """Ids in [1, size) may be sampled: not pad, and no extra id, which a text never holds."""
    return vocabulary.vocab_size - num_extra_ids(vocabulary)


def num_extra_ids(vocabulary: seqio.Vocabulary) -> int:
    """Ids at the top that stand for nothing in a text: seqio's, or mT5's, which are in its model.

    mT5's sentencepiece model ends with the pieces `<extra_id_99>` to `<extra_id_0>`, and seqio is
    asked for no further ones.
    """
    if vocabulary.extra_ids or not hasattr(vocabulary, "tokenizer"):
        return vocabulary.extra_ids
    pieces = map(vocabulary.tokenizer.id_to_piece, reversed(range(vocabulary.vocab_size)))
    return sum(1 for _ in itertools.takewhile(lambda piece: "<extra_id_" in piece, pieces))


def describe_vocabulary(vocabulary: Any) -> dict[str, Any]:
    """What tells one seqio vocabulary from another: class, number of ids, digest of the model."""
    model = getattr(vocabulary, "sp_model", None)
    return {
        "class": type(vocabulary).__name__,
        "size": int(vocabulary.vocab_size),
        "sha256": hashlib.sha256(model).hexdigest() if model else None,
    }


def sentencepiece_model(vocabulary: Any) -> bytes | None:
    """The file that a vocabulary was read from, its extra ids not among the pieces; None of bytes.

    seqio's `sp_model` is another: it has the extra ids as pieces.
    """
    path = getattr(vocabulary, "sentencepiece_model_file", None)
    if path is None:
        return None
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


@gin.configurable
def tickets_vocabulary() -> seqio.SentencePieceVocabulary:
    """The words of the built-in task, one id each."""
    return sentencepiece_vocabulary(TICKETS_MODEL, extra_ids=NUM_SPECIAL_IDS)


@gin.configurable
def byte_vocabulary(extra_ids: ExtraIds = NUM_SPECIAL_IDS) -> seqio.ByteVocabulary:
    """The bytes of UTF-8, for data that has no vocabulary of its own; ByT5's has 125 extra ids."""
    from pagap_jax.data.quiet_seqio import seqio

    return seqio.ByteVocabulary(extra_ids=extra_ids)


@gin.configurable
def sentencepiece_vocabulary(
    path: Place | pathlib.Path, extra_ids: ExtraIds = 100
) -> seqio.SentencePieceVocabulary:
    """A sentencepiece model from a file, local or in a bucket.

    T5's has 100 extra ids beside it, mT5's has them in it: `extra_ids=0`.

    Raises:
        ConfigError: no such file, not a sentencepiece model, or other ids than T5's.
    """
    from pagap_jax.data.quiet_seqio import seqio

    refuse_special(path)
    if not epath.Path(path).exists():
        raise ConfigError(f"sentencepiece model {path}: no such file")
    vocabulary = seqio.SentencePieceVocabulary(str(local_copy(path)), extra_ids=extra_ids)
    try:
        tokenizer = vocabulary.tokenizer
    except Exception as error:  # protobuf and sentencepiece raise several kinds
        raise ConfigError(f"{path}: not a sentencepiece model ({error})") from error
    found = (tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.unk_id())
    if found != (PAD_ID, END_ID, UNKNOWN_ID):
        raise ConfigError(
            f"sentencepiece model {path}: found pad, end, unknown {found}, "
            f"expected {(PAD_ID, END_ID, UNKNOWN_ID)} as T5 has them"
        )
    return vocabulary
