"""Texts that a vocabulary would read as special ids: `<extra_id_1>` written by somebody.

T5's sentinels mark responses in a preference model's input. A response that holds one, in any
spelling that the vocabulary's normalisation makes one, would show the judge a second response.
"""

import re
from typing import Any

from pagap_jax.data.vocabulary import sampleable_size

SPELLED_OUT = "special tokens written in the text, spelled out"


class SpecialText:
    """Spells special tokens out, for one vocabulary."""

    def __init__(self, vocabulary: Any):
        """Takes a seqio vocabulary; one of bytes has no such texts."""
        self._vocabulary = vocabulary
        self._first_extra = sampleable_size(vocabulary)
        self._tokenizer = getattr(vocabulary, "tokenizer", None)
        if self._tokenizer is not None:
            of_texts = range(self._first_extra)
            ids = [i for i in of_texts if self._tokenizer.is_control(i)]
            ids += range(self._first_extra, vocabulary.vocab_size)
            written = {self._tokenizer.id_to_piece(i).strip("\u2581 ") for i in ids} - {""}
            self._pattern = re.compile("|".join(map(re.escape, sorted(written, key=len)[::-1])))

    def spelled_out(self, text: str) -> str:
        """The text itself, or one whose special tokens are ordinary text: '< extra_id_1>'."""
        if self._tokenizer is None:
            return text
        normal = self._tokenizer.normalize(text)  # '＜extra_id_1＞' becomes one, too
        if not self._pattern.search(normal) or not self._has_special(text):
            return text
        plain = normal.replace("\u2581", " ").strip()
        return self._pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", plain)

    def _has_special(self, text: str) -> bool:
        ids = self._vocabulary.encode(text)
        return any(i <= 1 or i >= self._first_extra for i in ids)
