"""Chat arena's side-by-side comparisons: the 33k, 55k, 100k and 140k releases.

Rows are conversations of both models and a winner, or (55k, CSV) lists of a model's turns as JSON
in cells and a flag for each outcome.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import gin

from pagap_jax.data.sources.conversations import (
    ASSISTANT,
    USER,
    ChatTemplate,
    Turn,
    part,
    turns_of,
)
from pagap_jax.data.sources.files import splits_by_name
from pagap_jax.data.sources.rows import (
    NULL,
    BadRowError,
    Context,
    DroppedRowError,
    Fields,
    checked_text,
    field,
    names,
    shown,
)
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN, PreferencePair

TIE = "tie"
BOTH_BAD = "tie, both bad"
LANGUAGE = "another language"
CORRUPT = "a cell that can't be read"
TWO_WINNERS = "flags that contradict each other"
SERVER_ERROR = "an error of the server as an answer"

_WINNERS: dict[str, int | str] = {
    "model_a": CHOICE_A,
    "model_b": CHOICE_B,
    "tie": TIE,
    "tie (bothbad)": BOTH_BAD,
    "both_bad": BOTH_BAD,
}
_FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
_SERVER_ERRORS = ("NETWORK ERROR DUE TO HIGH TRAFFIC", "API REQUEST ERROR")


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ChatbotArena:
    """Battles of two models.

    Attributes:
        keep_ties: ties and both-bad are kept with weight 0: nothing is learnt from their label,
            but the golden model labels them, and their prompts count.
        languages: of the rows to read, as their column names them ('English', 'en'); None for all.
        keep_diverging: whether conversations are kept whose models had different histories: the
            prompt is then what both have in common up to a user's turn, and the responses run over
            several turns. If False, only those are read in which all but the last turn is shared.
        template: makes what turns conversations into text.
    """

    keep_ties: bool = False
    languages: Sequence[str] | None = None
    keep_diverging: bool = False
    template: Callable[[], ChatTemplate] = ChatTemplate

    def __post_init__(self) -> None:
        """Raises ConfigError for a text where several are expected."""
        if self.languages is not None:
            names(self.languages, "ChatbotArena.languages")

    recognised = "battles of two models"

    def splits(self, paths: list[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
        """Each file, with the split that its name says where all of them say one."""
        return splits_by_name(paths)

    def pair(self, row: Fields, context: Context) -> PreferencePair:
        """Raises BadRowError for another format, DroppedRowError for what is left out."""
        if self.languages is not None and field(row, "language") not in self.languages:
            raise DroppedRowError(LANGUAGE)
        winner = _winner(row)
        if isinstance(winner, str) and not self.keep_ties:
            raise DroppedRowError(winner)
        a, b = _conversations(row)
        for turn in (*a, *b):
            if turn.role == ASSISTANT and turn.text.strip("* ").startswith(_SERVER_ERRORS):
                raise DroppedRowError(SERVER_ERROR)
        prompt, *rest = part(a, b, context.report, self.keep_diverging)
        template = self.template()
        of_a, of_b = (template.response(turns) for turns in rest)
        asked = template.prompt(prompt)
        if isinstance(winner, str):
            context.report.noted[winner] += 1
            winner = CHOICE_UNKNOWN
        return PreferencePair(asked, of_a, of_b, winner, split=context.split)


def _winner(row: Fields) -> int | str:
    """A choice, or why there is none."""
    if "winner_tie" not in row:
        name = field(row, "winner")
        if name is None:
            raise DroppedRowError(NULL)
        if not isinstance(name, str) or name not in _WINNERS:
            raise BadRowError(
                f"field 'winner': found {shown(name)}, expected one of {list(_WINNERS)}"
            )
        return _WINNERS[name]
    flags = [str(field(row, name)) for name in _FLAGS]
    if not {*flags} <= {"0", "1"}:
        raise BadRowError(f"fields {list(_FLAGS)}: found {flags}, expected 0 or 1")
    if flags.count("1") != 1:
        raise DroppedRowError(TWO_WINNERS)
    outcomes: tuple[int | str, ...] = (CHOICE_A, CHOICE_B, TIE)
    return outcomes[flags.index("1")]


def _conversations(row: Fields) -> tuple[list[Turn], list[Turn]]:
    """What was said with each model."""
    if "conversation_a" in row:
        names = ("conversation_a", "conversation_b")
        if any(field(row, name) is None for name in names):
            raise DroppedRowError(NULL)
        a, b = (turns_of(row[name], f"field {name!r}") for name in names)
        return a, b
    users, of_a, of_b = (_cell(row, name) for name in ("prompt", "response_a", "response_b"))
    if not len(users) == len(of_a) == len(of_b):
        raise DroppedRowError(CORRUPT)
    a, b = (
        [turn for pair in zip(users, said, strict=True) for turn in _said(*pair)]
        for said in (of_a, of_b)
    )
    return a, b


def _said(user: str, assistant: str) -> tuple[Turn, Turn]:
    return Turn(USER, user), Turn(ASSISTANT, assistant)


def _cell(row: Fields, name: str) -> list[str]:
    """A list of texts that is JSON in a cell, or a list as it is."""
    value: Any = field(row, name)
    try:
        texts = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise DroppedRowError(CORRUPT) from error
    if not isinstance(texts, list) or not texts:
        raise DroppedRowError(CORRUPT)
    if None in texts:
        raise DroppedRowError(NULL)
    try:
        return [checked_text(one, f"field {name!r}") for one in texts]
    except BadRowError as error:
        raise DroppedRowError(CORRUPT) from error
