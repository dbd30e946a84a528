"""From paths to rows: JSON lines, JSON arrays, CSV and parquet, plain or packed.

A file is read as it is asked for, some rows in memory at a time.
"""

import csv
import functools
import glob
import gzip
import hashlib
import io
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, cast

from pagap_jax.buckets import in_bucket, local_copy, matching
from pagap_jax.data.sources.json_rows import array_rows, as_object, is_a_line, lines
from pagap_jax.data.sources.rows import MAX_ROW, SETTING, BadRowError, Row
from pagap_jax.errors import DataError
from pagap_jax.files import refuse_special
from pagap_jax.ranges import Place

Paths: TypeAlias = Place | os.PathLike | Sequence[Place | os.PathLike]

_BUFFER = 2**20  # bytes
_GZIP, _ZSTD, _PARQUET, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"PK\x03\x04"
_SPLIT = re.compile(r"(train|test|validation|valid|val|eval|dev)(?![a-z])")
_ROWS_AT_ONCE = 16  # of parquet


def expand(paths: Paths) -> list[pathlib.Path]:
    """The files and folders of a path, of several, or of a pattern (`batch*.json`), in order.

    Raises:
        DataError: nothing is there.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    found: list[pathlib.Path] = []
    for path in several:
        name = os.path.expanduser(os.fspath(path))
        matches = _matches(name)
        if not matches:
            expected = "a file that matches" if glob.has_magic(name) else "a file to read"
            raise DataError(f"{path}: found No such file or directory, expected {expected}")
        for match in matches:
            refuse_special(match)
        found += [pathlib.Path(match) for match in matches if pathlib.Path(match) not in found]
    if not found:
        raise DataError("DATA_FILE: found no files, expected at least one")
    return found


def _matches(name: str) -> list[str]:
    if in_bucket(name):
        return [os.fspath(local_copy(found)) for found in matching(name)]
    return [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))


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
        refuse_special(path)
        try:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise _unreadable(path, error) from error
    return found.hexdigest()[:12]


def rows_of(path: pathlib.Path, most: int = MAX_ROW) -> Iterator[Row]:
    """The rows of a file, whatever of the formats above it is in, of `most` bytes a line.

    Raises:
        DataError: it can't be read, or is cut.
    """
    number = 0
    try:
        for row in _rows(path, most):
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


def _rows(path: pathlib.Path, most: int) -> Iterator[Row]:
    refuse_special(path)
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
                yield from _csv_rows(path, text, most)
            return
        peeked = file.peek(_BUFFER)[:_BUFFER]
        is_array = peeked.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
        # A line may be an array where it should be an object: told from a file that is one.
        if is_array and not is_a_line(peeked):
            with io.TextIOWrapper(file, "utf-8-sig") as text:
                yield from array_rows(path, text, most)
        else:
            yield from lines(path, file, most)


def _is_packed(path: pathlib.Path, magic: bytes) -> bool:
    return path.suffix in (".gz", ".zst") or magic.startswith((_GZIP, _ZSTD))


def _unpacked(path: pathlib.Path, magic: bytes) -> io.BufferedReader:
    if magic == _ZSTD or path.suffix == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), _BUFFER)
    if magic.startswith(_GZIP) or path.suffix == ".gz":
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)), _BUFFER)
    return io.BufferedReader(io.FileIO(path), _BUFFER)


def _csv_rows(path: pathlib.Path, file: io.TextIOWrapper, most: int) -> Iterator[Row]:
    csv.field_size_limit(most)
    reader = csv.DictReader(_short_lines(path, file, most), strict=True)
    try:
        _refuse_repeated(path, reader.fieldnames or ())
        for fields in reader:
            yield Row(f"{path}:{reader.line_num}", functools.partial(_csv_fields, fields))
    except csv.Error as error:
        where = f"{path}: after line {reader.line_num}"
        raise DataError(f"{where}: found {error}, expected CSV") from error


def _short_lines(path: pathlib.Path, file: io.TextIOWrapper, most: int) -> Iterator[str]:
    while line := file.readline(most + 1):
        if len(line) > most:
            raise DataError(
                f"{path}: found a line of over {most:,} characters, expected CSV ({SETTING} is the"
                " most)"
            )
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
                    yield Row(f"{path}: row {number}", functools.partial(as_object, fields))
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: after row {number}: found {reason}, expected parquet") from error


def _unreadable(path: str | os.PathLike, error: OSError) -> DataError:
    return DataError(f"{path}: found {error.strerror or error}, expected a file to read")
