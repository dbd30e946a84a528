"""Token pairs on disk: TFDS data sets in array_record files, with token ids beside the text.

Strings that look the same can tokenise differently, and one mismatch makes a replay of D_online
diverge (App. F). So the ids are what is read back; the text is there for people.
"""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pagap_jax.buckets import checksums, in_bucket, upload
from pagap_jax.data.prompts import decoded, prompt_ids
from pagap_jax.data.stored_metadata import METADATA_FILE, SCHEMA_VERSION, is_complete
from pagap_jax.data.vocabulary import PAD_ID, describe_vocabulary
from pagap_jax.errors import DataError
from pagap_jax.files import room_for, sealed_json, write_atomically

DATASET_NAME = "token_pairs"
ROWS_FILE = "rows.npz"  # of every row, read or not: lengths, scalars, which prompt

TOKEN_COLUMNS = ("prompt", "response_a", "response_b")
SCALAR_COLUMNS = {
    "choice": np.int8,
    "true_choice": np.int8,
    "probability": np.float32,
    "step": np.int32,
}
PROMPT_ID = "prompt_id"  # int64[E]: equal where the prompt is; no column of batches

PIECE = 4096  # rows
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

    def pieces(self) -> "Iterator[TokenPairs]":
        """The same, some thousand rows at a time."""
        columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for start in range(0, len(self), PIECE):
            rows = slice(start, start + PIECE)
            yield TokenPairs(**{name: column[rows] for name, column in columns.items()})


@runtime_checkable
class Pieces(Protocol):
    """Pairs of which some thousand rows are padded at a time: whole they may not fit in memory."""

    def __len__(self) -> int: ...

    def pieces(self) -> Iterator[TokenPairs]:
        """All pairs in their order, the same at each call."""


def _expect_column(name: str, column: np.ndarray, dtype: type, rank: int, length: int) -> None:
    if column.dtype != dtype or column.ndim != rank or len(column) != length:
        raise DataError(
            f"column {name!r}: found {column.dtype} of shape {column.shape}, "
            f"expected {np.dtype(dtype)} of rank {rank} with {length} rows"
        )


def write_token_pairs(
    directory: str | os.PathLike,
    splits: Mapping[str, Pieces],
    vocabulary: Any,
    report: dict,
) -> None:
    """Writes the splits as one TFDS data set, in the order given.

    All files are written aside and moved into `directory` at the end, `pairs.json` last, so that a
    killed write leaves nothing that reads as complete. What else lies in `directory` stays. For a
    bucket they are written to this machine's disk and uploaded: array_record writes files only.

    Args:
        directory: of the data set itself (`tfds.builder_from_directory` opens it).
        splits: at least one; all with the same P and R.
        vocabulary: a seqio vocabulary; gives the text columns and the ids allowed.
        report: what is to be known of the making; JSON values only.

    Raises:
        DataError: a complete data set is already there, or the ids don't fit the vocabulary.
        NoRoomError: the disk is full.
    """
    if is_complete(directory):
        raise DataError(
            f"{directory}: found a complete data set, expected none: remove it or choose another"
        )
    if in_bucket(directory):
        with tempfile.TemporaryDirectory() as folder:
            write_token_pairs(folder, splits, vocabulary, report)
            upload(pathlib.Path(folder), directory, last=[METADATA_FILE])
        return
    directory = pathlib.Path(directory)
    widths: set[tuple[int, int]] = set()
    for split, pairs in splits.items():
        widths |= _checked(f"{directory}: split {split!r}", pairs, vocabulary.vocab_size)
    if len(widths) != 1:
        raise DataError(f"{directory}: found padded lengths {sorted(widths)}, expected one pair")

    (prompt_length, response_length), *_ = widths
    writing = directory / _WRITING_DIR
    shutil.rmtree(writing, ignore_errors=True)  # of a write that was killed, or found no room
    num_ids = (prompt_length + 2 * response_length) * sum(map(len, splits.values()))
    with room_for(directory, 4 * num_ids):  # int32; texts and lengths are compressed with them
        writing.mkdir(parents=True)
        known: dict[str, Any] = _write_tfds(writing, splits, vocabulary)
        np.savez(writing / ROWS_FILE, **known)
    metadata: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "prompt_length": prompt_length,
        "response_length": response_length,
        "vocabulary": describe_vocabulary(vocabulary),
        "splits": {split: len(pairs) for split, pairs in splits.items()},
        "files": {file.name: file.stat().st_size for file in sorted(writing.iterdir())},
        "checksums": checksums(writing),
        "report": report,
    }
    _move(writing, directory, metadata["files"])
    write_atomically(directory / METADATA_FILE, sealed_json(metadata))


def _move(writing: pathlib.Path, directory: pathlib.Path, files: Iterable[str]) -> None:
    for name in files:
        with open(writing / name, "rb") as file:
            os.fsync(file.fileno())  # `pairs.json` must not reach the disk before what it tells of
        os.replace(writing / name, directory / name)
    writing.rmdir()


def rows_key(split: str, column: str) -> str:
    """The name of an array in the file of what is known of rows."""
    return f"{split}/{column}"


def _known_of_rows(pairs: TokenPairs, prompts: list[str]) -> dict[str, Any]:
    numbers = {k: np.count_nonzero(getattr(pairs, k), axis=1) for k in TOKEN_COLUMNS}
    lengths = {k: column.astype(np.int32) for k, column in numbers.items()}
    scalars = {name: getattr(pairs, name) for name in SCALAR_COLUMNS}
    return lengths | scalars | {PROMPT_ID: prompt_ids(prompts)}


def _checked(where: str, pairs: Pieces, vocabulary_size: int) -> set[tuple[int, int]]:
    """The padded lengths P and R; raises DataError for ids that can't be."""
    if not len(pairs):
        raise DataError(f"{where}: found no pairs, expected at least one")
    widths, first = set[tuple[int, int]](), 0
    for piece in pairs.pieces():
        for name in TOKEN_COLUMNS:
            ids = getattr(piece, name)
            outside = (ids < 0) | (ids >= vocabulary_size)
            # Rows are stored without their padding, so a pad between tokens couldn't be told.
            hole = (ids[:, :-1] == PAD_ID) & (ids[:, 1:] != PAD_ID)
            for bad, expected in ((outside, f"ids in [0, {vocabulary_size})"), (hole, "pads last")):
                if bad.any():
                    row = int(np.argmax(bad.any(axis=1)))
                    raise DataError(
                        f"{where}: example {first + row}, column {name!r}: found "
                        f"{ids[row].tolist()}, expected {expected}"
                    )
        widths.add((piece.prompt.shape[1], piece.response_a.shape[1]))
        first += len(piece)
    return widths


def _tfds_features() -> Any:
    import tensorflow_datasets as tfds

    # Not tfds.features.Sequence: that is read back as a list of scalars, ten times slower.
    tokens = {n: tfds.features.Tensor(shape=(None,), dtype=np.int32) for n in TOKEN_COLUMNS}
    texts = {f"{name}_text": tfds.features.Text() for name in TOKEN_COLUMNS}
    scalars = {n: tfds.features.Scalar(dtype=dtype) for n, dtype in SCALAR_COLUMNS.items()}
    return tfds.features.FeaturesDict({**tokens, **texts, **scalars})


def _write_tfds(
    directory: pathlib.Path, splits: Mapping[str, Pieces], vocabulary: Any
) -> dict[str, np.ndarray]:
    """Writes all; what is known of rows without reading them, by `rows_key`."""
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
    known: dict[str, list[dict[str, np.ndarray]]] = {split: [] for split in splits}
    for split, pairs in splits.items():
        # A generator will do, and keeps one example in memory instead of all.
        writer.add_examples({split: _examples(pairs, vocabulary, known[split])})
    writer.close_all()
    return {
        rows_key(split, name): np.concatenate([piece[name] for piece in of_split])
        for split, of_split in known.items()
        for name in of_split[0]
    }


def _examples(
    pairs: Pieces, vocabulary: Any, known: list[dict[str, np.ndarray]]
) -> Iterator[dict[str, Any]]:
    """Each pair as TFDS stores it; adds to `known` what is known of the rows of each piece."""
    for piece in pairs.pieces():
        prompts = decoded(piece.prompt, vocabulary)
        known.append(_known_of_rows(piece, prompts))
        for row, text in enumerate(prompts):
            yield _example(piece, row, text, vocabulary)


def _example(pairs: TokenPairs, row: int, prompt: str, vocabulary: Any) -> dict[str, Any]:
    example: dict[str, Any] = {name: getattr(pairs, name)[row] for name in SCALAR_COLUMNS}
    for name in TOKEN_COLUMNS:
        ids = getattr(pairs, name)[row]
        ids = ids[: np.count_nonzero(ids)]
        text = prompt if name == "prompt" else vocabulary.decode(ids.tolist())
        example |= {name: ids, f"{name}_text": text}
    return example
