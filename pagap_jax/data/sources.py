"""Raw files of comparisons, read to PreferencePairs: JSON lines and Anthropic's HH transcripts.

Readers only read: pairs that can't teach anything (empty, identical) are dropped for all sources
alike, after tokenising, in `preprocessors`.
"""

import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pagap_jax.data.prompts import prompt_id
from pagap_jax.errors import DataError
from pagap_jax.records import CHOICE_A, CHOICE_B, PreferencePair

BAD_LINE = "bad line"
DIVERGES_EARLY = "transcripts diverge before the last turn"

ASSISTANT_TURN = "\n\nAssistant:"
_JSON_LINES_FIELDS = "(prompt, response_a, response_b, choice) or (prompt, chosen, rejected)"


@dataclasses.dataclass
class SourceReport:
    """What became of a file's lines; blank ones don't count."""

    read: int = 0
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)  # by reason
    noted: Counter[str] = dataclasses.field(default_factory=Counter)  # kept, but worth knowing


@dataclasses.dataclass
class SourcePairs:
    """The pairs of a file, in its order."""

    pairs: list[PreferencePair]
    report: SourceReport


class _BadLineError(Exception):
    """A line that doesn't hold a pair: the message without file and line."""


RowParser = Callable[[dict[str, Any], int, SourceReport], PreferencePair]


def read_json_lines(path: str | os.PathLike, max_bad_examples: int = 0) -> SourcePairs:
    """Reads lines of (prompt, response_a, response_b, choice) or (prompt, chosen, rejected).

    `choice` is 0 for response_a, 1 for response_b. Of chosen and rejected, which one is shown as
    response_a is drawn by a hash of the line's index. White space around a text is removed.

    Args:
        path: .jsonl or .jsonl.gz in UTF-8.
        max_bad_examples: so many bad lines are skipped and counted; one more is an error.

    Raises:
        DataError: with file, line, field, what was found and what was expected.
    """
    return _read(path, _json_lines_pair, max_bad_examples)


def read_hh_transcripts(path: str | os.PathLike, max_bad_examples: int = 0) -> SourcePairs:
    r"""Reads Anthropic's HH format: two whole dialogues a line, `chosen` and `rejected`.

    The prompt is what both have in common up to its last "\n\nAssistant:", that included; the
    responses are the rest. Where the dialogues part before the last turn, the rest runs over
    several turns: such pairs are kept, since both answer the same prompt, and noted in the report.

    Arguments and errors are those of `read_json_lines`.
    """
    return _read(path, _hh_pair, max_bad_examples)


def file_digest(path: str | os.PathLike) -> str:
    """12 hex digits of the SHA-256 of a file's bytes; raises DataError if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise _unreadable(path, error) from error


def validation_prompts(prompts: Iterable[str], share: float) -> set[str]:
    """The prompts whose pairs, all of them, are for validation; the others' are for training.

    Were a prompt on both sides, validation would ask what training has answered. Each prompt is
    drawn by itself, so that what else is in a file moves none to the other side; but of a few
    prompts, none of them drawn, the one that came closest is taken.
    """
    drawn = {prompt: _hashed_uniform("validation", prompt_id(prompt)) for prompt in prompts}
    limit = max(share, min(drawn.values(), default=0.0)) if share > 0 else -1.0
    return {prompt for prompt, number in drawn.items() if number <= limit}


def _hashed_uniform(purpose: str, number: int) -> float:
    digest = hashlib.blake2b(f"{purpose}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _read(path: str | os.PathLike, parse: RowParser, max_bad_examples: int) -> SourcePairs:
    found = SourcePairs([], SourceReport())
    report = found.report
    for line_number, line in _lines(pathlib.Path(path)):
        index = report.read
        report.read += 1
        try:
            found.pairs.append(parse(_json_object(line), index, report))
        except _BadLineError as error:
            report.dropped[BAD_LINE] += 1
            if report.dropped[BAD_LINE] > max_bad_examples:
                raise DataError(
                    f"{path}:{line_number}: {error} "
                    f"(prepare.max_bad_examples = {max_bad_examples}: so many are skipped)"
                ) from error
    if not found.pairs:
        raise DataError(f"{path}: found no pairs in {report.read} lines, expected at least one")
    return found


def _lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and content of each line that isn't blank."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                if line.strip():
                    yield line_number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: found {error}, expected a whole gzip file") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | os.PathLike, error: OSError) -> DataError:
    return DataError(f"{path}: found {error.strerror}, expected a file to read")


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _BadLineError(
            f"found {error.reason} at byte {error.start}, expected UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        text = _shown(line.decode("utf-8-sig").strip())
        raise _BadLineError(f"found {text} ({error}), expected a JSON object") from error
    if not isinstance(row, dict):
        raise _BadLineError(f"found {_shown(row)}, expected a JSON object")
    return row


def _json_lines_pair(row: dict[str, Any], index: int, report: SourceReport) -> PreferencePair:
    del report
    if "response_a" not in row and "chosen" not in row:
        raise _BadLineError(f"found fields {sorted(row)}, expected {_JSON_LINES_FIELDS}")
    prompt = _text(row, "prompt").strip()
    if "response_a" not in row:
        return _shown_pair(prompt, _text(row, "chosen"), _text(row, "rejected"), index)
    response_a, response_b = _text(row, "response_a"), _text(row, "response_b")
    choice = row.get("choice", "no such field")
    if type(choice) is not int or choice not in (CHOICE_A, CHOICE_B):  # True == 1, but no choice
        raise _BadLineError(f"field 'choice': found {_shown(choice)}, expected 0 or 1")
    return PreferencePair(prompt, response_a.strip(), response_b.strip(), choice)


def _hh_pair(row: dict[str, Any], index: int, report: SourceReport) -> PreferencePair:
    chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
    common = os.path.commonprefix([chosen, rejected])
    turn = common.rfind(ASSISTANT_TURN)
    if turn < 0:
        raise _BadLineError(
            f"field 'rejected': found {_shown(rejected)}, expected a transcript that has a start "
            f"up to {ASSISTANT_TURN!r} in common with 'chosen', {_shown(chosen)}"
        )
    end = turn + len(ASSISTANT_TURN)
    if ASSISTANT_TURN in chosen[end:] or ASSISTANT_TURN in rejected[end:]:
        report.noted[DIVERGES_EARLY] += 1
    return _shown_pair(chosen[:end].strip(), chosen[end:], rejected[end:], index)


def _shown_pair(prompt: str, chosen: str, rejected: str, index: int) -> PreferencePair:
    """Which side is shown first is drawn, or the choice would be the same for every pair."""
    chosen, rejected = chosen.strip(), rejected.strip()
    if _hashed_uniform("side", index) < 0.5:
        return PreferencePair(prompt, chosen, rejected, CHOICE_A)
    return PreferencePair(prompt, rejected, chosen, CHOICE_B)


def _text(row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise _BadLineError(f"field {field!r}: found fields {sorted(row)}, expected it among them")
    value = row[field]
    if not isinstance(value, str):
        raise _BadLineError(f"field {field!r}: found {_shown(value)}, expected a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON's \ud800 escapes: no vocabulary can encode them
        raise _BadLineError(
            f"field {field!r}: found {error.reason} at character {error.start}, expected UTF-8"
        ) from error
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
