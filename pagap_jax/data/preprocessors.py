"""From a task's token ids to stored pairs: truncation, and which pairs are dropped, counted.

This is the one place where pairs are truncated or dropped, whatever source they come from.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pagap_jax.data.stored import TokenPairs
from pagap_jax.data.vocabulary import END_ID
from pagap_jax.errors import DataError
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN

EMPTY_PROMPT = "empty prompt"
EMPTY_RESPONSE = "empty response"
IDENTICAL = "identical responses"
IDENTICAL_TRUNCATED = "identical after truncation"


def truncate_prompt(ids: np.ndarray, length: int) -> np.ndarray:
    """Keeps the end of a prompt, its end token included: the last question matters most."""
    return ids[-length:]


def truncate_response(ids: np.ndarray, length: int) -> np.ndarray:
    """Keeps the beginning of a response; a truncated one has no end token, for it doesn't end."""
    return ids[:length]


@dataclasses.dataclass
class PairPacker:
    """Takes pairs one by one, truncates them, keeps the usable ones and counts the rest."""

    prompt_length: int  # P, tokens
    response_length: int  # R, tokens
    read: int = 0
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)
    prompts_truncated: int = 0  # of the pairs kept
    responses_truncated: int = 0  # of the pairs kept, two each
    _rows: list[tuple[np.ndarray, ...]] = dataclasses.field(default_factory=list)
    _labels: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        """Pairs kept so far."""
        return len(self._rows)

    def add(
        self,
        prompt: np.ndarray,
        response_a: np.ndarray,
        response_b: np.ndarray,
        choice: int,
        true_choice: int = CHOICE_UNKNOWN,
    ) -> None:
        """Takes one pair of untruncated ids, each ending with the end token.

        Raises:
            DataError: the choice isn't one.
        """
        if choice not in (CHOICE_A, CHOICE_B, CHOICE_UNKNOWN):
            raise DataError(
                f"example {self.read}: field 'choice': found {choice}, "
                f"expected {CHOICE_A}, {CHOICE_B} or {CHOICE_UNKNOWN}"
            )
        self.read += 1
        responses = (response_a, response_b)
        cut = [truncate_response(response, self.response_length) for response in responses]
        reason = _unusable(prompt, responses, cut)
        if reason:
            self.dropped[reason] += 1
            return
        self.prompts_truncated += len(prompt) > self.prompt_length
        self.responses_truncated += sum(len(ids) > self.response_length for ids in responses)
        self._rows.append((truncate_prompt(prompt, self.prompt_length), *cut))
        self._labels.append((int(choice), int(true_choice)))

    def report(self) -> dict[str, Any]:
        """Counts, rates and mean lengths in tokens after truncation, end token included."""
        kept = max(len(self), 1)
        prompts = sum(len(row[0]) for row in self._rows)
        responses = sum(len(row[1]) + len(row[2]) for row in self._rows)
        return {
            "read": self.read,
            "examples": len(self),
            "dropped": dict(sorted(self.dropped.items())),
            "share_prompts_truncated": self.prompts_truncated / kept,
            "share_responses_truncated": self.responses_truncated / (2 * kept),
            "mean_prompt_length": prompts / kept,
            "mean_response_length": responses / (2 * kept),
            "share_choice_a": sum(choice == CHOICE_A for choice, _ in self._labels) / kept,
        }

    def pairs(self) -> TokenPairs:
        """The pairs kept, in the order taken."""
        num_pairs = len(self)
        choices = np.array(self._labels, np.int8).reshape(num_pairs, 2)
        return TokenPairs(
            prompt=_padded([row[0] for row in self._rows], self.prompt_length),
            response_a=_padded([row[1] for row in self._rows], self.response_length),
            response_b=_padded([row[2] for row in self._rows], self.response_length),
            choice=choices[:, 0].copy(),
            true_choice=choices[:, 1].copy(),
            probability=np.full(num_pairs, np.nan, np.float32),
            step=np.full(num_pairs, -1, np.int32),
        )


def _unusable(
    prompt: np.ndarray, responses: Sequence[np.ndarray], cut: Sequence[np.ndarray]
) -> str | None:
    """The first reason to drop the pair, or None."""
    if _is_empty(prompt):
        return EMPTY_PROMPT
    if any(_is_empty(response) for response in responses):
        return EMPTY_RESPONSE
    if np.array_equal(responses[0], responses[1]):
        return IDENTICAL
    # No loss can tell these apart: a pair like this would only dilute the batch.
    return IDENTICAL_TRUNCATED if np.array_equal(cut[0], cut[1]) else None


def _is_empty(ids: np.ndarray) -> bool:
    return ids.tolist() in ([], [END_ID])


def _padded(rows: Sequence[np.ndarray], length: int) -> np.ndarray:
    padded = np.zeros((len(rows), length), np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
