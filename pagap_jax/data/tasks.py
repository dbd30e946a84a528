"""The seqio tasks: 'tickets', those of `sources/registry.py`, and 'pooled', all that have files.

A task gives `inputs`, `response_a` and `response_b` as token ids that end with the end token, and
the labels `choice` and, where it's known, `true_choice`. A user's own task that gives the same
works as well. Imports seqio, which takes seconds: import this module only where data are made.
"""

import difflib
import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from pagap_jax.data.quiet_seqio import seqio  # isort: skip  # before TensorFlow, which it quiets
import tensorflow as tf

from pagap_jax.data.file_task import LABEL_FEATURES, SPLITS, FileDataSource, dataset_of
from pagap_jax.data.preprocessors import Example
from pagap_jax.data.sources.reader import SourceFiles
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.data.sources.rows import MAX_ROW, SourceReport
from pagap_jax.data.tickets import ticket_pairs
from pagap_jax.data.vocabulary import PAD_ID
from pagap_jax.errors import ConfigError
from pagap_jax.records import CHOICE_UNKNOWN

TICKETS = "tickets"
POOLED = "pooled"

TOKEN_FEATURES = ("inputs", "response_a", "response_b")
_TEXTS = ("response_a_pretokenized", "response_b_pretokenized")

PAIRS_BETWEEN_SPLITS = 2**32  # of the built-in task
_EXAMPLES_AT_ONCE, _CHARACTERS_AT_ONCE = 256, 2**23

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
        return dataset_of(ticket_pairs(self._num_pairs[split], seed or 0, first))


def register_tasks(
    vocabulary: seqio.Vocabulary,
    num_ticket_pairs: Mapping[str, int],
    files: Mapping[str, SourceFiles],
    lengths: tuple[int, int],
    validation_share: float = 0.05,
    max_bad_examples: int = 0,
    max_line_bytes: int = MAX_ROW,
) -> None:
    """Registers the built-in tasks, in place of those of an earlier call.

    'tickets' always; those of the registry that have files; and 'pooled', a seqio mixture of
    these, which gives every pair of all of them once (App. C).

    Args:
        vocabulary: for prompts and responses alike.
        num_ticket_pairs: to be made of each split.
        files: of each source by its name.
        lengths: of prompts and responses in tokens; of a post that is longer the end is cut.
        validation_share: of the prompts of data without splits, chosen by a hash of their text.
        max_bad_examples: so many bad rows of each source are skipped.
        max_line_bytes: a file with a longer line is refused.
    """
    remove_tasks(files)
    _register(TICKETS, TicketsDataSource(num_ticket_pairs), vocabulary)
    for name, paths in files.items():
        settings = (vocabulary, lengths, validation_share, max_bad_examples, max_line_bytes)
        _register(name, FileDataSource(name, paths, *settings), vocabulary)
    if files:
        every_pair = functools.partial(
            tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=False
        )
        # In shares of their sizes, so that the first pairs are of all tasks.
        rates = [(name, _num_pairs) for name in files]
        seqio.MixtureRegistry.add(POOLED, rates, sample_fn=every_pair)


def remove_tasks(names: Iterable[str]) -> None:
    """Takes tasks away again, and what they have read out of memory; the built-in ones always."""
    seqio.MixtureRegistry.remove(POOLED)
    for name in {TICKETS, *SOURCES, *names}:
        seqio.TaskRegistry.remove(name)


def _num_pairs(task: seqio.Task) -> float:
    return float(sum(map(len, task.source.pairs.values())))


def find_task(name: str, module: str | None, vocabulary: seqio.Vocabulary) -> Provider:
    """The task or mixture of that name, after importing the module that registers it.

    Raises:
        ConfigError: no such module or task, or the task has other features or another vocabulary.
    """
    if module:
        try:
            importlib.import_module(module)
        except (ModuleNotFoundError, TypeError, ValueError) as error:
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


def read_split(provider: Provider, split: str, seed: int) -> Iterator[Example]:
    """The examples of a split, untruncated, in the source's order.

    A mixture draws from its tasks by their rates. A user's ends where the first of them ends,
    unless its `sample_fn` says otherwise; 'pooled' gives all examples of all of its tasks.

    Raises:
        ConfigError: the task has no such split or doesn't give a choice.
    """
    if split not in provider.splits:
        raise ConfigError(
            f"task {provider.name!r}: found splits {sorted(provider.splits)}, expected {split!r}"
        )
    # A mixture passes on its output features only, unless told.
    more = {"passthrough_features": (*LABEL_FEATURES, *_TEXTS)}
    dataset = provider.get_dataset(
        sequence_length=None,
        split=split,
        shuffle=False,
        seed=seed,
        num_epochs=1,
        **(more if isinstance(provider, seqio.Mixture) else {}),
    )
    found = dataset.element_spec
    if "choice" not in found:
        raise ConfigError(
            f"task {provider.name!r}: found features {sorted(found)}, expected 'choice' among them"
        )
    names = [n for n in (*TOKEN_FEATURES, *LABEL_FEATURES, *_TEXTS) if n in found]
    dataset = dataset.map(lambda example: {name: example[name] for name in names})
    # TensorFlow takes half a millisecond to hand over an example, and as long to hand over many.
    # Ragged: padded to the longest of them, one text of a million letters would take gigabytes.
    for batch in dataset.ragged_batch(_examples_at_once(provider)).as_numpy_iterator():
        tokens = [_rows(batch[name]) for name in TOKEN_FEATURES]
        choices = batch["choice"].tolist()
        true_choices = batch.get("true_choice", np.full(len(choices), CHOICE_UNKNOWN)).tolist()
        differ = np.full(len(choices), False)
        if {*_TEXTS} <= {*batch}:
            differ = batch[_TEXTS[0]] != batch[_TEXTS[1]]
        columns = zip(*tokens, choices, true_choices, differ.tolist(), strict=True)
        yield from (Example(*row) for row in columns)


def _examples_at_once(provider: Provider) -> int:
    """Fewer where texts are long."""
    longest = max((source.longest for source in _files_of(provider)), default=1)
    return min(max(_CHARACTERS_AT_ONCE // max(longest, 1), 1), _EXAMPLES_AT_ONCE)


def _rows(column: np.ndarray) -> list[np.ndarray]:
    """Each example's ids, without pads at their end."""
    if column.dtype == object:  # of several lengths
        return list(column)
    lengths = np.count_nonzero(np.cumsum((column != PAD_ID)[:, ::-1], axis=1), axis=1)
    return [row[:length] for row, length in zip(column, lengths.tolist(), strict=True)]


def read_files(provider: Provider) -> dict[str, tuple[SourceReport, int]]:
    """Report and number of pairs of each source of files that a task or mixture has."""
    files = _files_of(provider)
    numbers = {one.name: sum(map(len, one.pairs.values())) for one in files}
    return {one.name: (one.report, numbers[one.name]) for one in files}


def _files_of(provider: Provider) -> list[FileDataSource]:
    tasks = provider.tasks if isinstance(provider, seqio.Mixture) else [provider]
    return [task.source for task in tasks if isinstance(task.source, FileDataSource)]


def _expected_name(name: str, known: list[str]) -> str:
    if name in (*SOURCES, POOLED):
        return "expected a data file with it: set DATA_FILE"
    close = difflib.get_close_matches(name, known, n=1)
    return f"expected one of {known}" + (f"; did you mean {close[0]!r}?" if close else "")


def _register(name: str, source: seqio.DataSource, vocabulary: seqio.Vocabulary) -> None:
    feature = seqio.Feature(vocabulary=vocabulary, add_eos=True, dtype=tf.int32)
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features=dict.fromkeys(TOKEN_FEATURES, feature),
    )
