"""From paths to rows: JSON lines, JSON arrays, CSV and parquet, plain or packed.

A file is read as it is asked for, some rows in memory at a time.
"""

import csv
import dataclasses
import functools
import glob
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

from pagap_jax.data.sources.rows import BadRowError, shown
from pagap_jax.errors import DataError

Paths: TypeAlias = str | os.PathLike | Sequence[str | os.PathLike]

MAX_ROW = 2**24  # bytes of a line
_BUFFER = 2**20  # bytes
_CHUNK = 2**20  # characters
_GZIP, _ZSTD, _PARQUET, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"PK\x03\x04"
_SPLIT = re.compile(r"(train|test|validation|valid|val|eval|dev)(?![a-z])")
_ROWS_AT_ONCE = 64  # of parquet


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        where: 'pairs.jsonl:3', as an error names it.
        fields: what it holds; raises BadRowError where that can't be read.
    """

    where: str
    fields: Callable[[], dict[str, Any]]


def expand(paths: Paths) -> list[pathlib.Path]:
    """The files and folders of a path, of several, or of a pattern (`batch*.json`), in order.

    Raises:
        DataError: nothing is there.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    found: list[pathlib.Path] = []
    for path in several:
        name = os.path.expanduser(os.fspath(path))
        matches = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
        if not matches:
            expected = "a file that matches" if glob.has_magic(name) else "a file to read"
            raise DataError(f"{path}: found No such file or directory, expected {expected}")
        found += [pathlib.Path(match) for match in matches if pathlib.Path(match) not in found]
    if not found:
        raise DataError("DATA_FILE: found no files, expected at least one")
    return found


def splits_by_name(paths: Sequence[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
    """Each file with its split: that of its name ('train-0.parquet') where there are both kinds."""
    named = [_SPLIT.match(path.name) for path in paths]
    kinds = [found[1] if found else "" for found in named]
    splits = ["validation" if kind and kind != "train" else kind for kind in kinds]
    is_divided = {*splits} == {"train", "validation"}
    return [(path, split * is_divided) for path, split in zip(paths, splits, strict=True)]


def digest(paths: Sequence[pathlib.Path]) -> str:
    """12 hex digits of the SHA-256 of all files' bytes; raises DataError if one can't be read."""
    found = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise _unreadable(path, error) from error
    return found.hexdigest()[:12]


def rows_of(path: pathlib.Path) -> Iterator[Row]:
    """The rows of a file, whatever of the formats above it is in.

    Raises:
        DataError: it can't be read, or is cut.
    """
    number = 0
    try:
        for row in _rows(path):
            number += 1
            yield row
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: after row {number}: found {error.reason}, expected UTF-8"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: found {error}, expected a whole gzip file") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _rows(path: pathlib.Path) -> Iterator[Row]:
    with path.open("rb") as raw:
        magic = raw.read(4)
    if magic == _ZIP:
        raise DataError(f"{path}: found a zip archive, expected the file in it: unpack it first")
    if magic == _PARQUET or path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    with _unpacked(path, magic) as file:
        inner = pathlib.Path(path.stem) if _is_packed(path, magic) else path
        if inner.suffix.lower() == ".csv":
            with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
                yield from _csv_rows(path, text)
            return
        peeked = file.peek(_BUFFER)[:_BUFFER]
        is_array = peeked.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
        # A line may be an array where it should be an object: told from a file that is one.
        if is_array and not _is_a_line(peeked):
            with io.TextIOWrapper(file, "utf-8-sig") as text:
                yield from _array_rows(path, text)
        else:
            yield from _lines(path, file)


def _is_packed(path: pathlib.Path, magic: bytes) -> bool:
    return path.suffix in (".gz", ".zst") or magic.startswith((_GZIP, _ZSTD))


def _unpacked(path: pathlib.Path, magic: bytes) -> io.BufferedReader:
    if magic == _ZSTD or path.suffix == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), _BUFFER)
    if magic.startswith(_GZIP) or path.suffix == ".gz":
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)), _BUFFER)
    return io.BufferedReader(io.FileIO(path), _BUFFER)


def _is_a_line(beginning: bytes) -> bool:
    """Whether the first line, which begins with '[', is a whole value and more lines follow."""
    line, end, rest = beginning.partition(b"\n")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return bool(end and rest.strip())


def _lines(path: pathlib.Path, file: io.BufferedReader) -> Iterator[Row]:
    """Each line that isn't blank; they are numbered from 1."""
    number = 0
    while line := file.readline(MAX_ROW + 1):
        number += 1
        if len(line) > MAX_ROW:
            raise DataError(
                f"{path}:{number}: found a line of over {MAX_ROW:,} bytes, expected a pair a line"
            )
        if line.strip():
            yield Row(f"{path}:{number}", functools.partial(_json_object, line))


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        found = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRowError(f"found {error.reason} at byte {error.start}, expected UTF-8") from error
    try:
        return _as_object(_DECODER.decode(found))
    except (ValueError, RecursionError) as error:
        raise BadRowError(
            f"found {shown(found.strip())} ({error}), expected a JSON object a line"
        ) from error


def _as_object(value: Any) -> dict[str, Any]:
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


def _array_rows(path: pathlib.Path, reader: io.TextIOWrapper) -> Iterator[Row]:
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
            if not more or len(waiting) > MAX_ROW:
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
    return functools.partial(_as_object, found), end


def _after_space(waiting: str, at: int) -> int:
    found = _SPACE.match(waiting, at)
    return found.end() if found else at


def _raise(error: BadRowError) -> dict[str, Any]:
    raise error


def _csv_rows(path: pathlib.Path, file: io.TextIOWrapper) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW)
    reader = csv.DictReader(_short_lines(path, file), strict=True)
    try:
        _refuse_repeated(path, reader.fieldnames or ())
        for fields in reader:
            yield Row(f"{path}:{reader.line_num}", functools.partial(_csv_fields, fields))
    except csv.Error as error:
        where = f"{path}: after line {reader.line_num}"
        raise DataError(f"{where}: found {error}, expected CSV") from error


def _short_lines(path: pathlib.Path, file: io.TextIOWrapper) -> Iterator[str]:
    while line := file.readline(MAX_ROW + 1):
        if len(line) > MAX_ROW:
            raise DataError(f"{path}: found a line of over {MAX_ROW:,} characters, expected CSV")
        yield line


def _refuse_repeated(path: pathlib.Path, columns: Sequence[str]) -> None:
    if repeated := sorted({name for name in columns if list(columns).count(name) > 1}):
        raise DataError(f"{path}: found the columns {repeated} more than once, expected each once")


def _csv_fields(fields: dict[Any, Any]) -> dict[str, Any]:
    if None in fields or None in fields.values():
        found = len(fields) + len(fields.get(None, ())) - (None in fields)
        missing = sum(value is None for value in fields.values())
        raise BadRowError(f"found {found - missing} cells, expected as many as the header has")
    if fields.get("choice") in ("0", "1"):  # cells are texts
        return {**fields, "choice": int(fields["choice"])}
    return fields


def _parquet_rows(path: pathlib.Path) -> Iterator[Row]:
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _refuse_repeated(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}: row {number}", functools.partial(_as_object, fields))
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: after row {number}: found {reason}, expected parquet") from error


def _unreadable(path: str | os.PathLike, error: OSError) -> DataError:
    return DataError(f"{path}: found {error.strerror or error}, expected a file to read")
