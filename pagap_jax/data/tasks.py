"""The seqio tasks, every name spelled out: 'tickets', 'json_lines', 'hh_transcripts'.

A task gives `inputs`, `response_a` and `response_b` as token ids that end with the end token, and
the labels `choice` and, where it's known, `true_choice`. A user's own task that gives the same
works as well. Imports seqio, which takes seconds: import this module only where data are made.
"""

import difflib
import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from pagap_jax.data.quiet_seqio import seqio  # isort: skip  # before TensorFlow, which it quiets
import tensorflow as tf

from pagap_jax.data import sources
from pagap_jax.data.tickets import ticket_pairs
from pagap_jax.data.vocabulary import PAD_ID
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.records import CHOICE_UNKNOWN, PreferencePair

TICKETS = "tickets"
JSON_LINES = "json_lines"
HH_TRANSCRIPTS = "hh_transcripts"

SPLITS = ("train", "validation")
TOKEN_FEATURES = ("inputs", "response_a", "response_b")
LABEL_FEATURES = ("choice", "true_choice")

PAIRS_BETWEEN_SPLITS = 2**32  # of the built-in task
_EXAMPLES_AT_ONCE = 256

Provider: TypeAlias = seqio.Task | seqio.Mixture


class TicketsDataSource(seqio.FunctionDataSource):
    """The built-in task: so many pairs of each split, which vary with seqio's seed.

    The splits are stretches of one endless list of pairs, too far apart to meet.
    """

    def __init__(self, num_pairs: Mapping[str, int]):
        """Takes the number of pairs of each split."""
        self._num_pairs = num_pairs
        super().__init__(dataset_fn=self._pairs_of_split, splits=SPLITS)

    def _pairs_of_split(
        self, split: str, shuffle_files: bool = False, seed: int | None = None
    ) -> tf.data.Dataset:
        del shuffle_files
        first = SPLITS.index(split) * PAIRS_BETWEEN_SPLITS
        return _dataset(ticket_pairs(self._num_pairs[split], seed or 0, first))


class FileDataSource(seqio.FunctionDataSource):
    """A file of comparisons, a share of its prompts split off for validation.

    `report` is there after a reading.
    """

    def __init__(self, read: Callable[[], sources.SourcePairs], validation_share: float):
        """Takes a reader of the whole file and the share of its prompts for validation."""
        self._read = read
        self._validation_share = validation_share
        self.report: sources.SourceReport | None = None
        super().__init__(dataset_fn=self._pairs_of_split, splits=SPLITS)

    def _pairs_of_split(
        self, split: str, shuffle_files: bool = False, seed: int | None = None
    ) -> tf.data.Dataset:
        del shuffle_files, seed  # the order of batches is the business of data/batches.py
        found = self._read()
        self.report = found.report
        prompts = {pair.prompt for pair in found.pairs}
        chosen = sources.validation_prompts(prompts, self._validation_share)
        if split == "train":
            chosen = prompts - chosen
        if not chosen:
            raise DataError(
                f"split {split!r}: found none of the file's {len(prompts)} different prompts in it "
                f"(prepare.validation_share = {self._validation_share}; pairs of one prompt stay "
                "together), expected at least one"
            )
        return _dataset([pair for pair in found.pairs if pair.prompt in chosen])


def register_tasks(
    vocabulary: seqio.Vocabulary,
    num_ticket_pairs: Mapping[str, int],
    data_file: str | os.PathLike | None = None,
    validation_share: float = 0.05,
    max_bad_examples: int = 0,
) -> None:
    """Registers the built-in tasks, in place of those of an earlier call.

    'tickets' always; 'json_lines' and 'hh_transcripts' when there is a data file.

    Args:
        vocabulary: for prompts and responses alike.
        num_ticket_pairs: to be made of each split.
        data_file: .jsonl or .jsonl.gz.
        validation_share: of the file's prompts, chosen by a hash of their text.
        max_bad_examples: so many bad lines are skipped.
    """
    for name in (TICKETS, JSON_LINES, HH_TRANSCRIPTS):
        seqio.TaskRegistry.remove(name)
    _register(TICKETS, TicketsDataSource(num_ticket_pairs), vocabulary)
    if data_file is not None:
        readers = {JSON_LINES: sources.read_json_lines, HH_TRANSCRIPTS: sources.read_hh_transcripts}
        for name, reader in readers.items():
            read = functools.partial(reader, data_file, max_bad_examples)
            _register(name, FileDataSource(read, validation_share), vocabulary)


def find_task(name: str, module: str | None, vocabulary: seqio.Vocabulary) -> Provider:
    """The task or mixture of that name, after importing the module that registers it.

    Raises:
        ConfigError: no such module or task, or the task has other features or another vocabulary.
    """
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"MIXTURE_OR_TASK_MODULE: found {module!r} ({error}), expected a module that can "
                "be imported: install it, or put its folder into PYTHONPATH"
            ) from error
    known = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
    if name not in known:
        raise ConfigError(f"MIXTURE_OR_TASK_NAME: found {name!r}, {_expected_name(name, known)}")
    provider = seqio.get_mixture_or_task(name)
    for feature in TOKEN_FEATURES:
        if feature not in provider.output_features:
            raise ConfigError(
                f"task {name!r}: found output features {sorted(provider.output_features)}, "
                f"expected {list(TOKEN_FEATURES)}"
            )
        if provider.output_features[feature].vocabulary != vocabulary:
            raise ConfigError(
                f"task {name!r}, feature {feature!r}: found vocabulary "
                f"{provider.output_features[feature].vocabulary}, expected {vocabulary}"
            )
    return provider


def read_split(
    provider: Provider, split: str, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]]:
    """Untruncated (prompt, response a, response b, choice, true choice), in the source's order.

    A mixture draws from its tasks by their rates and ends where the first of them ends.

    Raises:
        ConfigError: the task has no such split or doesn't give a choice.
    """
    if split not in provider.splits:
        raise ConfigError(
            f"task {provider.name!r}: found splits {sorted(provider.splits)}, expected {split!r}"
        )
    # A mixture passes on its output features only, unless told.
    labels = {"passthrough_features": LABEL_FEATURES} if isinstance(provider, seqio.Mixture) else {}
    dataset = provider.get_dataset(
        sequence_length=None, split=split, shuffle=False, seed=seed, num_epochs=1, **labels
    )
    found = dataset.element_spec
    if "choice" not in found:
        raise ConfigError(
            f"task {provider.name!r}: found features {sorted(found)}, expected 'choice' among them"
        )
    names = [name for name in (*TOKEN_FEATURES, *LABEL_FEATURES) if name in found]
    dataset = dataset.map(lambda example: {name: example[name] for name in names})
    # TensorFlow takes half a millisecond to hand over an example, and as long to hand over many.
    for batch in dataset.padded_batch(_EXAMPLES_AT_ONCE).as_numpy_iterator():
        tokens = [_unpadded(batch[name]) for name in TOKEN_FEATURES]
        choices = batch["choice"].tolist()
        true_choices = batch.get("true_choice", np.full(len(choices), CHOICE_UNKNOWN)).tolist()
        yield from zip(*tokens, choices, true_choices, strict=True)


def _unpadded(ids: np.ndarray) -> list[np.ndarray]:
    lengths = np.count_nonzero(np.cumsum((ids != PAD_ID)[:, ::-1], axis=1), axis=1)
    return [row[:length] for row, length in zip(ids, lengths.tolist(), strict=True)]


def source_reports(provider: Provider) -> list[sources.SourceReport]:
    """Reports of the files that the task, or the mixture's tasks, have read so far."""
    tasks = provider.tasks if isinstance(provider, seqio.Mixture) else [provider]
    reports = [getattr(task.source, "report", None) for task in tasks]
    return [report for report in reports if report is not None]


def _expected_name(name: str, known: list[str]) -> str:
    if name in (JSON_LINES, HH_TRANSCRIPTS):
        return "expected a data file with it: set prepare.data_file"
    close = difflib.get_close_matches(name, known, n=1)
    return f"expected one of {known}" + (f"; did you mean {close[0]!r}?" if close else "")


def _register(name: str, source: seqio.DataSource, vocabulary: seqio.Vocabulary) -> None:
    feature = seqio.Feature(vocabulary=vocabulary, add_eos=True, dtype=tf.int32)
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
            seqio.preprocessors.append_eos,
        ],
        output_features=dict.fromkeys(TOKEN_FEATURES, feature),
    )


def _dataset(pairs: Sequence[PreferencePair]) -> tf.data.Dataset:
    # From columns, not from a generator: a data set that calls back into Python can hang when it's
    # given up before its end.
    columns = {
        "inputs": [pair.prompt for pair in pairs],
        "response_a": [pair.response_a for pair in pairs],
        "response_b": [pair.response_b for pair in pairs],
        "choice": [pair.choice for pair in pairs],
        "true_choice": [pair.true_choice for pair in pairs],
    }
    return tf.data.Dataset.from_tensor_slices(
        {
            name: tf.constant(column, tf.int32 if name in LABEL_FEATURES else tf.string)
            for name, column in columns.items()
        }
    )
