"""Token pairs on disk: TFDS data sets in array_record files, with token ids beside the text.

Strings that look the same can tokenise differently, and one mismatch makes a replay of D_online
diverge (App. F). So the ids are what is read back; the text is there for people.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from pagap_jax.data.prompts import decoded, prompt_ids
from pagap_jax.data.vocabulary import PAD_ID
from pagap_jax.errors import DataError
from pagap_jax.files import write_atomically

DATASET_NAME = "token_pairs"
ROWS_FILE = "rows.npz"  # of every row, read or not: lengths, scalars, which prompt
METADATA_FILE = "pairs.json"  # moved into place last: a data set without it isn't complete
SCHEMA_VERSION = 4

TOKEN_COLUMNS = ("prompt", "response_a", "response_b")
SCALAR_COLUMNS = {
    "choice": np.int8,
    "true_choice": np.int8,
    "probability": np.float32,
    "step": np.int32,
}
PROMPT_ID = "prompt_id"  # int64[E]: equal where the prompt is; no column of batches

_WRITING_DIR = ".writing"


@dataclasses.dataclass(frozen=True)
class TokenPairs:
    """Pairs as padded columns, E examples long.

    Pad is 0, the end token 1. A prompt ends with 1; a response does unless it was truncated or,
    when sampled, didn't finish.
    """

    prompt: np.ndarray  # int32[E, P]
    response_a: np.ndarray  # int32[E, R]
    response_b: np.ndarray  # int32[E, R]
    choice: np.ndarray  # int8[E]: 0 a, 1 b, -1 unknown or a tie
    true_choice: np.ndarray  # int8[E]: sign of the hidden score, -1 where there is none
    probability: np.ndarray  # float32[E]: the labelling model's P(a preferred), nan if none
    step: np.ndarray  # int32[E]: step of the online run that made the pair, -1 if none

    def __post_init__(self) -> None:
        """Raises DataError if the columns don't fit together."""
        for name in TOKEN_COLUMNS:
            _expect_column(name, getattr(self, name), np.int32, 2, len(self.prompt))
        for name, dtype in SCALAR_COLUMNS.items():
            _expect_column(name, getattr(self, name), dtype, 1, len(self.prompt))
        if self.response_a.shape != self.response_b.shape:
            raise DataError(
                f"column 'response_b': found shape {self.response_b.shape}, "
                f"expected that of 'response_a', {self.response_a.shape}"
            )

    def __len__(self) -> int:
        """Number of pairs E."""
        return len(self.prompt)


def _expect_column(name: str, column: np.ndarray, dtype: type, rank: int, length: int) -> None:
    if column.dtype != dtype or column.ndim != rank or len(column) != length:
        raise DataError(
            f"column {name!r}: found {column.dtype} of shape {column.shape}, "
            f"expected {np.dtype(dtype)} of rank {rank} with {length} rows"
        )


def is_complete(directory: str | os.PathLike) -> bool:
    """Whether a finished data set lies in `directory` (its files aren't opened)."""
    return (_local(directory) / METADATA_FILE).is_file()


def _local(directory: str | os.PathLike) -> pathlib.Path:
    if "://" in os.fspath(directory):  # pathlib would make a folder of this name
        raise DataError(
            f"{directory}: found a bucket, expected a folder (one may be mounted): array_record "
            "reads and writes files only"
        )
    return pathlib.Path(directory)


def write_token_pairs(
    directory: str | os.PathLike,
    splits: Mapping[str, TokenPairs],
    vocabulary: Any,
    report: dict,
) -> None:
    """Writes the splits as one TFDS data set, in the order given.

    All files are written aside and moved into `directory` at the end, `pairs.json` last, so that a
    killed write leaves nothing that reads as complete. What else lies in `directory` stays.

    Args:
        directory: of the data set itself (`tfds.builder_from_directory` opens it).
        splits: at least one; all with the same P and R.
        vocabulary: a seqio vocabulary; gives the text columns and the ids allowed.
        report: what is to be known of the making; JSON values only.

    Raises:
        DataError: a complete data set is already there, or the ids don't fit the vocabulary.
    """
    directory = _local(directory)
    if is_complete(directory):
        raise DataError(
            f"{directory}: found a complete data set, expected none: remove it or choose another"
        )
    for split, pairs in splits.items():
        _check_ids(f"{directory}: split {split!r}", pairs, vocabulary.vocab_size)
    widths = {(pairs.prompt.shape[1], pairs.response_a.shape[1]) for pairs in splits.values()}
    if len(widths) != 1:
        raise DataError(f"{directory}: found padded lengths {sorted(widths)}, expected one pair")

    writing = directory / _WRITING_DIR
    shutil.rmtree(writing, ignore_errors=True)  # of a write that was killed
    writing.mkdir(parents=True)
    prompts = {split: decoded(pairs.prompt, vocabulary) for split, pairs in splits.items()}
    _write_tfds(writing, splits, prompts, vocabulary)
    rows = {
        rows_key(split, name): column
        for split, pairs in splits.items()
        for name, column in _known_of_rows(pairs, prompts[split]).items()
    }
    np.savez(writing / ROWS_FILE, **rows)
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "prompt_length": min(widths)[0],
        "response_length": min(widths)[1],
        "vocabulary": describe_vocabulary(vocabulary),
        "splits": {split: len(pairs) for split, pairs in splits.items()},
        "files": {file.name: file.stat().st_size for file in sorted(writing.iterdir())},
        "report": report,
    }
    for name in metadata["files"]:
        with open(writing / name, "rb") as file:
            os.fsync(file.fileno())  # `pairs.json` must not reach the disk before what it tells of
        os.replace(writing / name, directory / name)
    writing.rmdir()
    write_atomically(directory / METADATA_FILE, (json.dumps(metadata, indent=2) + "\n").encode())


def rows_key(split: str, column: str) -> str:
    """The name of an array in the file of what is known of rows."""
    return f"{split}/{column}"


def _known_of_rows(pairs: TokenPairs, prompts: list[str]) -> dict[str, Any]:
    tokens = {name: getattr(pairs, name) for name in TOKEN_COLUMNS}
    lengths = {k: np.count_nonzero(ids, axis=1).astype(np.int32) for k, ids in tokens.items()}
    scalars = {name: getattr(pairs, name) for name in SCALAR_COLUMNS}
    return lengths | scalars | {PROMPT_ID: prompt_ids(prompts)}


def describe_vocabulary(vocabulary: Any) -> dict[str, Any]:
    """What tells one seqio vocabulary from another: class, number of ids, digest of the model."""
    model = getattr(vocabulary, "sp_model", None)
    return {
        "class": type(vocabulary).__name__,
        "size": int(vocabulary.vocab_size),
        "sha256": hashlib.sha256(model).hexdigest() if model else None,
    }


def _check_ids(where: str, pairs: TokenPairs, vocabulary_size: int) -> None:
    if not len(pairs):
        raise DataError(f"{where}: found no pairs, expected at least one")
    for name in TOKEN_COLUMNS:
        ids = getattr(pairs, name)
        outside = (ids < 0) | (ids >= vocabulary_size)
        # Rows are stored without their padding, so a pad between tokens couldn't be told.
        hole = (ids[:, :-1] == PAD_ID) & (ids[:, 1:] != PAD_ID)
        for bad, expected in ((outside, f"ids in [0, {vocabulary_size})"), (hole, "pads last")):
            if bad.any():
                row = int(np.argmax(bad.any(axis=1)))
                raise DataError(
                    f"{where}: example {row}, column {name!r}: found {ids[row].tolist()}, "
                    f"expected {expected}"
                )


def _tfds_features() -> Any:
    import tensorflow_datasets as tfds

    # Not tfds.features.Sequence: that is read back as a list of scalars, ten times slower.
    tokens = {n: tfds.features.Tensor(shape=(None,), dtype=np.int32) for n in TOKEN_COLUMNS}
    texts = {f"{name}_text": tfds.features.Text() for name in TOKEN_COLUMNS}
    scalars = {n: tfds.features.Scalar(dtype=dtype) for n, dtype in SCALAR_COLUMNS.items()}
    return tfds.features.FeaturesDict({**tokens, **texts, **scalars})


def _write_tfds(
    directory: pathlib.Path,
    splits: Mapping[str, TokenPairs],
    prompts: Mapping[str, list[str]],
    vocabulary: Any,
) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import dataset_info

    # TFDS's lower-level writer: store_as_tfds_dataset makes its own nested directories, draws
    # progress bars and puts the examples through a sort by key.
    identity = dataset_info.DatasetIdentity(
        name=DATASET_NAME,
        version=tfds.core.Version("1.0.0"),
        data_dir=os.fspath(directory),
        module_name="",
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description="Pairs of responses to a prompt, as token ids and text (pagap_jax).",
        features=_tfds_features(),
        disable_shuffling=True,
    )
    writer = tfds.core.SequentialWriter(
        info,
        max_examples_per_shard=max(len(pairs) for pairs in splits.values()),
        file_format="array_record",
    )
    writer.initialize_splits(list(splits))
    for split, pairs in splits.items():
        # A generator will do, and keeps one example in memory instead of all.
        examples: Any = (
            _example(pairs, row, vocabulary) | {"prompt_text": text}
            for row, text in enumerate(prompts[split])
        )
        writer.add_examples({split: examples})
    writer.close_all()


def _example(pairs: TokenPairs, row: int, vocabulary: Any) -> dict[str, Any]:
    example: dict[str, Any] = {name: getattr(pairs, name)[row] for name in SCALAR_COLUMNS}
    for name in TOKEN_COLUMNS:
        ids = getattr(pairs, name)[row]
        ids = ids[: np.count_nonzero(ids)]
        example[name] = ids
        if name != "prompt":  # it's decoded once for all of its pairs
            example[f"{name}_text"] = vocabulary.decode(ids.tolist())
    return example


def read_metadata(directory: str | os.PathLike) -> dict[str, Any]:
    """What `write_token_pairs` noted: lengths, vocabulary, examples per split, report.

    Raises:
        DataError: no complete data set of this schema there, or a file of it is gone or cut.
    """
    directory = _local(directory)
    path = directory / METADATA_FILE
    if not path.is_file():
        raise DataError(
            f"{directory}: found no {METADATA_FILE}, expected a complete data set of token pairs"
        )
    try:
        metadata = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: found {error}, expected JSON") from error
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path}: field 'schema_version': found {metadata.get('schema_version')!r}, "
            f"expected {SCHEMA_VERSION}: prepare again, and make again what was made from it"
        )
    for name, size in metadata["files"].items():
        file = directory / name
        found = f"{file.stat().st_size} bytes" if file.is_file() else "no such file"
        if found != f"{size} bytes":
            raise DataError(f"{file}: found {found}, expected {size} bytes")
    return metadata
