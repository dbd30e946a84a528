"""From a task's token ids to stored pairs: truncation, and which pairs are dropped, counted.

This is the one place where pairs are truncated or dropped, whatever source they come from.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pagap_jax.data.stored import PIECE, TOKEN_COLUMNS, TokenPairs
from pagap_jax.data.vocabulary import END_ID, UNKNOWN_ID
from pagap_jax.errors import DataError
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN

EMPTY_PROMPT = "empty prompt"
EMPTY_RESPONSE = "empty response"
IDENTICAL = "identical responses"
IDENTICAL_TRUNCATED = "identical after truncation"
IDENTICAL_IDS = "identical in the vocabulary, not in the text"
SPECIAL_INSIDE = "special ids inside a text"

LONG_TEXT = 2**16  # characters: shorter ones are left as they are
_CHARACTERS_A_TOKEN = 64
_BINS = 40


def truncate_prompt(ids: np.ndarray, length: int) -> np.ndarray:
    """Keeps the end of a prompt, its end token included: the last question matters most."""
    return ids[-length:]


def truncate_response(ids: np.ndarray, length: int) -> np.ndarray:
    """Keeps the beginning of a response; a truncated one has no end token, for it doesn't end."""
    return ids[:length]


def shortened(text: str, length: int, from_end: bool = False) -> str:
    """A text without what truncation to `length` tokens takes away anyhow, if it's a very long one.

    Tokenising takes hundreds of bytes a character. No vocabulary has pieces of so many characters.
    """
    room = _CHARACTERS_A_TOKEN * length
    if len(text) <= max(LONG_TEXT, room):
        return text
    return text[-room:] if from_end else text[:room]


class Example(NamedTuple):
    """One comparison as token ids, each text untruncated and with its end token.

    `texts_differ` is False too where a task doesn't pass the responses' texts on.
    """

    prompt: np.ndarray
    response_a: np.ndarray
    response_b: np.ndarray
    choice: int
    true_choice: int = CHOICE_UNKNOWN
    texts_differ: bool = False


@dataclasses.dataclass
class PairPacker:
    """Takes pairs one by one, truncates them, keeps the usable ones and counts the rest."""

    prompt_length: int  # P, tokens
    response_length: int  # R, tokens
    sampleable_size: int  # of the vocabulary: ids that a text may hold are below it
    read: int = 0
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)
    prompts_truncated: int = 0  # of the pairs kept
    responses_truncated: int = 0  # of the pairs kept, two each
    _rows: list[tuple[np.ndarray, ...]] = dataclasses.field(default_factory=list)
    _labels: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    _lengths: list[tuple[int, ...]] = dataclasses.field(default_factory=list)  # untruncated

    def __len__(self) -> int:
        """Pairs kept so far."""
        return len(self._rows)

    def add(self, example: Example) -> None:
        """Takes one pair.

        Raises:
            DataError: the choice isn't one.
        """
        if example.choice not in (CHOICE_A, CHOICE_B, CHOICE_UNKNOWN):
            raise DataError(
                f"example {self.read}: field 'choice': found {example.choice}, "
                f"expected {CHOICE_A}, {CHOICE_B} or {CHOICE_UNKNOWN}"
            )
        self.read += 1
        texts = (example.prompt, example.response_a, example.response_b)
        responses = texts[1:]
        cut = [truncate_response(response, self.response_length) for response in responses]
        reason = self._unusable(example, cut)
        if reason:
            self.dropped[reason] += 1
            return
        self.prompts_truncated += len(example.prompt) > self.prompt_length
        self.responses_truncated += sum(len(ids) > self.response_length for ids in responses)
        kept = (truncate_prompt(example.prompt, self.prompt_length), *cut)
        # Copies: what came is views of a batch, which they would keep in memory.
        self._rows.append(tuple(ids.astype(np.int32) for ids in kept))
        self._labels.append((int(example.choice), int(example.true_choice)))
        self._lengths.append(tuple(map(len, texts)))

    def report(self) -> dict[str, Any]:
        """Counts, rates and mean lengths in tokens after truncation, end token included.

        `share_unknown` is that of the unknown id among the tokens of each column, `lengths` a
        histogram of the lengths before truncation.
        """
        kept = max(len(self), 1)
        columns = list(zip(*self._rows, strict=True)) or [(), (), ()]
        tokens = [sum(map(len, column)) for column in columns]
        unknown = [sum(np.count_nonzero(ids == UNKNOWN_ID) for ids in ids_of) for ids_of in columns]
        lengths = np.array(self._lengths, np.int32).reshape(-1, 3)
        return {
            "read": self.read,
            "examples": len(self),
            "dropped": dict(sorted(self.dropped.items())),
            "share_prompts_truncated": self.prompts_truncated / kept,
            "share_responses_truncated": self.responses_truncated / (2 * kept),
            "mean_prompt_length": tokens[0] / kept,
            "mean_response_length": (tokens[1] + tokens[2]) / (2 * kept),
            "share_choice_a": sum(choice == CHOICE_A for choice, _ in self._labels) / kept,
            "share_without_choice": sum(c == CHOICE_UNKNOWN for c, _ in self._labels) / kept,
            "share_unknown": {
                name: u / max(t, 1)
                for name, u, t in zip(TOKEN_COLUMNS, unknown, tokens, strict=True)
            },
            "lengths": {
                "prompt": length_histogram(lengths[:, 0], self.prompt_length),
                "response": length_histogram(lengths[:, 1:].ravel(), self.response_length),
            },
        }

    def pieces(self) -> Iterator[TokenPairs]:
        """The pairs kept, in the order taken, some thousand at a time."""
        for start in range(0, len(self), PIECE):
            yield self._piece(slice(start, start + PIECE))

    def responses(self, row: int) -> frozenset[bytes]:
        """Tells the responses of a pair from others, whichever is shown first."""
        return frozenset(ids.tobytes() for ids in self._rows[row][1:])

    def _piece(self, rows: slice) -> TokenPairs:
        kept, num_pairs = self._rows[rows], len(self._rows[rows])
        choices = np.array(self._labels[rows], np.int8).reshape(num_pairs, 2)
        return TokenPairs(
            prompt=padded([row[0] for row in kept], self.prompt_length),
            response_a=padded([row[1] for row in kept], self.response_length),
            response_b=padded([row[2] for row in kept], self.response_length),
            choice=choices[:, 0].copy(),
            true_choice=choices[:, 1].copy(),
            probability=np.full(num_pairs, np.nan, np.float32),
            step=np.full(num_pairs, -1, np.int32),
        )

    def _unusable(self, example: Example, cut: Sequence[np.ndarray]) -> str | None:
        """The first reason to drop the pair, or None."""
        prompt, a, b = example.prompt, example.response_a, example.response_b
        if _is_empty(prompt):
            return EMPTY_PROMPT
        if _is_empty(a) or _is_empty(b):
            return EMPTY_RESPONSE
        if any(self._has_special_inside(ids) for ids in (prompt, a, b)):
            return SPECIAL_INSIDE
        if np.array_equal(a, b):
            return IDENTICAL_IDS if example.texts_differ else IDENTICAL
        # No loss can tell these apart: a pair like this would only dilute the batch.
        return IDENTICAL_TRUNCATED if np.array_equal(cut[0], cut[1]) else None

    def _has_special_inside(self, ids: np.ndarray) -> bool:
        """Whether pads, sentinels or ends but its own are in a text."""
        inside = ids[:-1] if ids[-1] == END_ID else ids
        return bool(((inside <= END_ID) | (inside >= self.sampleable_size)).any())


def length_histogram(lengths: np.ndarray, limit: int) -> dict[str, Any]:
    """Counts of untruncated lengths, the last bin's all that are at twice the limit or beyond."""
    edges = np.linspace(0, 2 * limit, _BINS + 1)
    counts, _ = np.histogram(np.minimum(lengths, 2 * limit), edges)
    return {"limit": limit, "bin_width": float(edges[1]), "counts": counts.tolist()}


def _is_empty(ids: np.ndarray) -> bool:
    return ids.tolist() in ([], [END_ID])


def padded(rows: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Rows of ids side by side, int32[E, length], 0 behind each row's end."""
    columns = np.zeros((len(rows), length), np.int32)
    for row, ids in zip(columns, rows, strict=True):
        row[: len(ids)] = ids
    return columns
