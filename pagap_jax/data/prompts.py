"""Which pairs answer the same prompt, whatever split, data set or spelling they come in.

Data of comparisons ask each prompt several times (TL;DR: 92,858 comparisons of about 21,000
posts). What is measured on prompts of the training data isn't measured on new ones, and pairs of
one prompt tell less than as many pairs of different ones. Both need to know which is which.
"""

import hashlib
import unicodedata
from typing import Any

import numpy as np


def prompt_id(text: str) -> int:
    """Tells prompts apart: 64 bits, signed, of a hash of the normalised text.

    Of 100,000 different prompts two have the same number once in four billion times.
    """
    digest = hashlib.blake2b(normalised(text).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def normalised(text: str) -> str:
    """The text as it's compared: compatible characters, case and white space made the same.

    Copies of a post that passed through different programs differ in just these, and readers
    take them for the same post. Vocabularies don't keep all of it either: T5's folds compatible
    characters and white space, so that ids can't tell what is left out here.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def decoded(tokens: np.ndarray, vocabulary: Any) -> list[str]:
    """The text of each padded row of ids, int32[E, T]; equal rows are decoded once."""
    texts: dict[bytes, str] = {}
    rows = [row.tobytes() for row in tokens]
    for ids, row in zip(tokens, rows, strict=True):
        if row not in texts:
            texts[row] = vocabulary.decode(ids[: np.count_nonzero(ids)].tolist())
    return [texts[row] for row in rows]


def prompt_ids(texts: list[str]) -> np.ndarray:
    """`prompt_id` of each text, int64[E]; equal texts are hashed once."""
    known = {text: prompt_id(text) for text in set(texts)}
    return np.array([known[text] for text in texts], np.int64)
