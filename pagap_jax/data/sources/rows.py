"""What readers share: a row's fields, what is wrong with one, and what became of all."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pagap_jax.errors import ConfigError
from pagap_jax.records import CHOICE_A, CHOICE_B, PreferencePair

Fields = Mapping[str, Any]

BAD_LINE = "bad line"
NULL = "null instead of a text"
DIVERGES_EARLY = "transcripts diverge before the last turn"
REPEATED_PROMPT = "both responses begin with the prompt"
WINDOWS_LINE_ENDS = "line ends of Windows"


MAX_ROW = 2**24  # bytes of a line, unless a job says otherwise
SETTING = "prepare.max_line_bytes"
MAX_TEXT = 2**24  # characters: no response is longer, and a bomb of zeros is noticed in time


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        where: 'pairs.jsonl:3', as an error names it.
        fields: what it holds; raises BadRowError where that can't be read.
    """

    where: str
    fields: Callable[[], dict[str, Any]]


class BadRowError(Exception):
    """A row that doesn't hold what its format says: the message without file and line."""


class UnreadableFormatError(Exception):
    """A whole file that this task doesn't read: the message without the file."""


class DroppedRowError(Exception):
    """A row that is as its format says and yet no pair to learn from: the reason to count."""


@dataclasses.dataclass
class SourceReport:
    """What became of a source's rows; blank lines don't count."""

    read: int = 0
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)  # by reason
    noted: Counter[str] = dataclasses.field(default_factory=Counter)  # kept, but worth knowing
    files: list[str] = dataclasses.field(default_factory=list)
    recognised: str = ""  # the format, in words

    def as_json(self, pairs: int) -> dict[str, Any]:
        """For a job's result: with `pairs`, how many were handed on to be tokenised."""
        return {
            "files": self.files,
            "recognised": self.recognised,
            "rows": self.read,
            "pairs": pairs,
            "dropped": dict(sorted(self.dropped.items())),
            "noted": dict(sorted(self.noted.items())),
        }


@dataclasses.dataclass(frozen=True)
class Context:
    """What a reader of rows knows beside the row.

    Attributes:
        index: of the row among all that the source has read, from 0.
        split: of its file; '' where the file has none.
        report: where what is kept is noted.
        fits: whether a prompt is within the limit of tokens.
    """

    index: int
    split: str
    report: SourceReport
    fits: Callable[[str], bool]


def field(row: Fields, name: str) -> Any:
    """The value of a field; raises BadRowError where there is none."""
    if name not in row:
        raise BadRowError(f"field {name!r}: found fields {sorted(row)}, expected it among them")
    return row[name]


def text(row: Fields, name: str) -> str:
    """A field that holds a text; raises BadRowError for anything else."""
    return checked_text(field(row, name), f"field {name!r}")


def checked_text(value: Any, where: str) -> str:
    """The value where it is a text that a vocabulary can encode; raises BadRowError."""
    if not isinstance(value, str):
        raise BadRowError(f"{where}: found {shown(value)}, expected a text")
    if len(value) > MAX_TEXT:
        raise BadRowError(
            f"{where}: found {len(value):,} characters, expected {MAX_TEXT:,} at most"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON's \ud800 escapes: no vocabulary can encode them
        raise BadRowError(
            f"{where}: found {error.reason} at character {error.start}, expected UTF-8"
        ) from error
    return value


def choice(row: Fields, name: str = "choice") -> int:
    """A label that is 0 or 1, which JSON's `true` isn't."""
    value = field(row, name)
    if type(value) is not int or value not in (CHOICE_A, CHOICE_B):
        raise BadRowError(f"field {name!r}: found {shown(value)}, expected 0 or 1")
    return value


def shown_pair(prompt: str, chosen: str, rejected: str, context: Context) -> PreferencePair:
    """Which side is shown first is drawn, or the choice would be the same for every pair."""
    chosen, rejected = chosen.strip(), rejected.strip()
    if hashed_uniform("side", context.index) < 0.5:
        return PreferencePair(prompt.strip(), chosen, rejected, CHOICE_A, split=context.split)
    return PreferencePair(prompt.strip(), rejected, chosen, CHOICE_B, split=context.split)


def names(value: Sequence[str], setting: str) -> tuple[str, ...]:
    """A setting that takes several names; raises ConfigError for one that lacks its comma."""
    if isinstance(value, str):
        raise ConfigError(f"{setting}: found the text {value!r}, expected several: ({value!r},)")
    return tuple(value)


def hashed_uniform(purpose: str, number: int) -> float:
    """In [0, 1), always the same for a purpose and a number."""
    digest = hashlib.blake2b(f"{purpose}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def shown(value: Any) -> str:
    """A value in an error message, cut to a line."""
    found = repr(value)
    return found if len(found) <= 60 else f"{found[:57]}..."
