"""The rows of JSON lines, and those of one JSON array."""

import functools
import io
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from pagap_jax.data.sources.rows import MAX_ROW, SETTING, BadRowError, Row, shown
from pagap_jax.errors import DataError

_CHUNK = 2**20  # characters


def is_a_line(beginning: bytes) -> bool:
    """Whether the first line, which begins with '[', is a whole value and more lines follow."""
    line, end, rest = beginning.partition(b"\n")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return bool(end and rest.strip())


def lines(path: pathlib.Path, file: io.BufferedReader, most: int = MAX_ROW) -> Iterator[Row]:
    """Each line that isn't blank, of `most` bytes; they are numbered from 1."""
    number = 0
    while line := file.readline(most + 1):
        number += 1
        if len(line) > most:
            raise DataError(
                f"{path}:{number}: found a line of over {most:,} bytes, expected a pair a line"
                f" ({SETTING} is the most)"
            )
        if line.strip():
            yield Row(f"{path}:{number}", functools.partial(_json_object, line))


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        found = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRowError(f"found {error.reason} at byte {error.start}, expected UTF-8") from error
    try:
        return as_object(_DECODER.decode(found))
    except (ValueError, RecursionError) as error:
        raise BadRowError(
            f"found {shown(found.strip())} ({error}), expected a JSON object a line"
        ) from error


def as_object(value: Any) -> dict[str, Any]:
    """A row; raises BadRowError for any other value."""
    if not isinstance(value, dict):
        raise BadRowError(f"found {shown(value)}, expected a JSON object")
    return value


def _without_repeated_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):
        names = [name for name, _ in items]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise BadRowError(f"found the keys {repeated} more than once, expected each once")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeated_keys)
_PLAIN_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def array_rows(path: pathlib.Path, reader: io.TextIOWrapper, most: int = MAX_ROW) -> Iterator[Row]:
    """The items of a JSON array, which may be longer than memory; numbered from 1."""
    waiting, number = reader.read(_CHUNK), 0
    while "[" not in waiting:
        waiting += reader.read(_CHUNK)
    at = waiting.index("[") + 1
    while True:
        fields, end = _item(waiting, at, is_first=number == 0)
        while end is None or end >= len(waiting) - 1:  # cut, or nothing after it yet
            more = reader.read(_CHUNK)
            if not more and end is not None:
                break
            waiting, at = waiting[at:] + more, 0
            if not more or len(waiting) > most:
                raise DataError(
                    f"{path}: item {number + 1}: found {shown(waiting[:60])}, expected a JSON "
                    "object, and ']' after the last one"
                )
            fields, end = _item(waiting, at, is_first=number == 0)
        if fields is None:
            rest = (waiting[end:] + reader.read(_CHUNK)).strip()
            if rest:
                raise DataError(f"{path}: found {shown(rest)} after the array, expected nothing")
            return
        number, at = number + 1, end
        yield Row(f"{path}: item {number}", fields)


def _item(
    waiting: str, at: int, is_first: bool
) -> tuple[Callable[[], dict[str, Any]] | None, int | None]:
    """The next item and where it ends: no item at the array's end, no end where the text is cut."""
    at = _after_space(waiting, at)
    if waiting[at : at + 1] == "]":
        return None, at + 1
    if not is_first:
        if waiting[at : at + 1] != ",":
            return None, None
        at = _after_space(waiting, at + 1)
    try:
        found, end = _DECODER.raw_decode(waiting, at)
    except (ValueError, RecursionError):
        return None, None
    except BadRowError as error:
        try:  # again for its end alone: what is repeated may stand inside of what is cut
            return functools.partial(_raise, error), _PLAIN_DECODER.raw_decode(waiting, at)[1]
        except (ValueError, RecursionError):
            return None, None
    return functools.partial(as_object, found), end


def _after_space(waiting: str, at: int) -> int:
    found = _SPACE.match(waiting, at)
    return found.end() if found else at


def _raise(error: BadRowError) -> dict[str, Any]:
    raise error
