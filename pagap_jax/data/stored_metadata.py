"""What a data set says of itself in pairs.json, and where its files are read."""

import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from pagap_jax.buckets import checksum, in_bucket, local_copy
from pagap_jax.errors import DataError
from pagap_jax.files import read_json, refuse_special

METADATA_FILE = "pairs.json"  # moved into place last: a data set without it isn't complete
SCHEMA_VERSION = 4


def is_complete(directory: str | os.PathLike) -> bool:
    """Whether a finished data set lies in `directory` (its files aren't opened)."""
    return (epath.Path(directory) / METADATA_FILE).is_file()


def local_folder(directory: str | os.PathLike) -> pathlib.Path:
    """Where on this machine's disk a complete data set is read; a copy where it is in a bucket."""
    if not in_bucket(directory):
        return pathlib.Path(directory)
    files = read_json(epath.Path(directory) / METADATA_FILE, "files")["files"]
    return local_copy(directory, [*files, METADATA_FILE])


def read_metadata(directory: str | os.PathLike) -> dict[str, Any]:
    """What `write_token_pairs` noted: lengths, vocabulary, examples per split, report.

    Files of a bucket are copied to this machine's disk for it; `local_folder` says where to.

    Raises:
        DataError: no complete data set of this schema there, or a file of it is damaged.
    """
    refuse_special(directory)
    path = epath.Path(directory) / METADATA_FILE
    if not path.is_file():
        raise DataError(
            f"{directory}: found no {METADATA_FILE}, expected a complete data set of token pairs"
        )
    metadata = read_json(path)
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path}: field 'schema_version': found {metadata.get('schema_version')!r}, "
            f"expected {SCHEMA_VERSION}: prepare again, and make again what was made from it"
        )
    _check_files(directory, metadata)
    return metadata


@functools.cache  # a job opens a data set several times
def _known_checksum(file: pathlib.Path, _changed: int) -> str:
    return checksum(file)


def _check_files(directory: str | os.PathLike, metadata: Mapping[str, Any]) -> None:
    """Raises DataError where a file isn't what was written; earlier versions noted sizes alone."""
    folder, checksums = local_folder(directory), metadata.get("checksums", {})
    for name, size in metadata["files"].items():
        file, where = folder / name, f"{os.fspath(directory)}/{name}"
        found = f"{file.stat().st_size} bytes" if file.is_file() else "no such file"
        if found != f"{size} bytes":
            raise DataError(f"{where}: found {found}, expected {size} bytes")
        if (
            name in checksums
            and (sums := _known_checksum(file, file.stat().st_mtime_ns)) != checksums[name]
        ):
            raise DataError(
                f"{where}: found {sums}, expected {checksums[name]} (bytes, CRC32C): it is damaged"
            )
