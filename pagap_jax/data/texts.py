"""How texts become a run's token ids and back: vocabulary and lengths, kept in the run's folder.

RUN/texts.json has lengths and vocabulary, RUN/vocabulary.model a copy of the sentencepiece model: a
run that is copied elsewhere, without its data, still reads and writes texts.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from pagap_jax.data.preprocessors import padded, shortened, truncate_prompt, truncate_response
from pagap_jax.data.special_text import SpecialText
from pagap_jax.data.vocabulary import (
    END_ID,
    byte_vocabulary,
    describe_vocabulary,
    sentencepiece_model,
    sentencepiece_vocabulary,
)
from pagap_jax.errors import DataError
from pagap_jax.files import write_atomically
from pagap_jax.processes import is_first

TEXTS_FILE, VOCABULARY_FILE = "texts.json", "vocabulary.model"


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts to padded ids, cut as the data were, and back.

    Attributes:
        vocabulary: seqio's.
        prompt_length: tokens, P; a longer prompt loses its beginning.
        response_length: tokens, R, end token included; a longer response loses its end.
    """

    vocabulary: Any = dataclasses.field(repr=False)
    prompt_length: int
    response_length: int

    def prompts(self, texts: Sequence[str]) -> np.ndarray:
        """int32[E, P].

        Raises:
            DataError: a prompt is empty.
        """
        rows = [self._encoded(shortened(text, self.prompt_length, True)) for text in texts]
        if empty := [row for row, ids in enumerate(rows) if len(ids) < 2]:
            raise DataError(f"prompt {empty[0]}: found an empty text, expected a prompt")
        cut = [truncate_prompt(ids, self.prompt_length) for ids in rows]
        return padded(cut, self.prompt_length)

    def responses(self, texts: Sequence[str], ids: Sequence[tuple[int, ...] | None]) -> np.ndarray:
        """int32[E, R].

        Args:
            ids: of responses that were sampled, taken as they are where they are this vocabulary's
                for the text: the text may encode otherwise, and says nothing of an end token.
        """
        rows = []
        for text, known in zip(texts, ids, strict=True):
            short = shortened(text, self.response_length)
            is_ours = known is not None and self.decoded(known) == text
            rows.append(np.array(known, np.int32) if is_ours else self._encoded(short))
        cut = [truncate_response(row, self.response_length) for row in rows]
        return padded(cut, self.response_length)

    def decoded(self, ids: Sequence[int]) -> str:
        """The text of ids, without padding and end token; '' for ids that aren't known."""
        inside = [i for i in ids if i > END_ID]
        return self.vocabulary.decode(inside) if max(inside, default=0) < self._size else ""

    @functools.cached_property
    def _size(self) -> int:
        return int(self.vocabulary.vocab_size)

    @functools.cached_property
    def _special_text(self) -> SpecialText:
        return SpecialText(self.vocabulary)

    def _encoded(self, text: str) -> np.ndarray:
        plain = self._special_text.spelled_out(text.strip())  # as `pagap prepare` does
        return np.array([*self.vocabulary.encode(plain), END_ID], np.int32)


def keep_texts(folder: epath.PathLike, texts: Texts) -> None:
    """Writes both files into a run's folder, by the one process that writes."""
    if not is_first():
        return
    vocabulary = texts.vocabulary
    if model := sentencepiece_model(vocabulary):
        write_atomically(epath.Path(folder) / VOCABULARY_FILE, model)
    known = {
        "prompt_length": texts.prompt_length,
        "response_length": texts.response_length,
        "vocabulary": describe_vocabulary(vocabulary) | {"extra_ids": int(vocabulary.extra_ids)},
    }
    write_atomically(epath.Path(folder) / TEXTS_FILE, (json.dumps(known, indent=1) + "\n").encode())


def kept_texts(folder: epath.PathLike) -> tuple[Any | None, int, int] | None:
    """What `keep_texts` wrote: vocabulary, prompt and response length; None where it didn't.

    The vocabulary is None where it is of a class that isn't one of ours.

    Raises:
        DataError: a file is missing or damaged.
    """
    file = epath.Path(folder) / TEXTS_FILE
    if not file.exists():
        return None
    try:
        known = json.loads(file.read_text())
        described = dict(known["vocabulary"])
        extra_ids = int(described.pop("extra_ids"))
        lengths = int(known["prompt_length"]), int(known["response_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: found {error!r}, expected what a run wrote") from error
    vocabulary: Any = None
    if described["class"] == "ByteVocabulary":
        vocabulary = byte_vocabulary(extra_ids)
    elif described["class"] == "SentencePieceVocabulary":
        vocabulary = sentencepiece_vocabulary(os.path.join(folder, VOCABULARY_FILE), extra_ids)
    if vocabulary is not None and (found := describe_vocabulary(vocabulary)) != described:
        raise DataError(f"{file}: found the vocabulary {found}, expected {described}")
    return vocabulary, *lengths
