r"""Prepares D_initial: raw comparisons to a TFDS data set with splits train and validation.

In: a seqio task or mixture (MIXTURE_OR_TASK_NAME); real data need files (docs/data.md).
Out, in MODEL_DIR: array_record files with `pairs.json` beside them, and the report, `result.json`.

    pagap prepare --gin_file=jobs/prepare.gin --gin_file=data/tickets.gin --gin.SEED=0 \
        --gin.MODEL_DIR="'/tmp/pairs'"

16,000 + 1,024 pairs of the built-in task take 20 s on 2 cores (measured), half of it TensorFlow's
import.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gin
import numpy as np
from etils import epath

from pagap_jax.data import prepared
from pagap_jax.data.length_picture import LENGTHS_FILE, lengths_picture
from pagap_jax.data.preprocessors import Example, PairPacker
from pagap_jax.data.prompts import decoded, prompt_ids
from pagap_jax.data.sources.files import Paths
from pagap_jax.data.sources.reader import Source, SourceFiles
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.data.sources.rows import MAX_ROW, SourceReport
from pagap_jax.data.stored import write_token_pairs
from pagap_jax.data.stored_metadata import is_complete
from pagap_jax.data.vocabulary import sampleable_size
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.files import write_atomically
from pagap_jax.processes import is_first
from pagap_jax.progress import progress_bar
from pagap_jax.ranges import Count, CountOrZero, Length, LineLimit, Place, Seed, Share, Vocabulary
from pagap_jax.run_directory import RunDirectory
from pagap_jax.run_warnings import check_limits

_SHOW_EVERY = 256  # pairs between two updates of the progress bar


@gin.configurable
def prepare(
    model_dir: Place,
    mixture_or_task_name: str,
    vocabulary: Vocabulary,
    task_feature_lengths: Mapping[str, Length],
    seed: Seed,
    num_train: Count | None,
    num_validation: Count | None,
    mixture_or_task_module: str | None = None,
    data_file: Paths | Mapping[str, Paths] | None = None,
    sources: Mapping[str, Callable[[], Source]] = SOURCES,
    validation_share: Share = 0.05,
    max_bad_examples: CountOrZero = 0,
    max_line_bytes: LineLimit = MAX_ROW,
    config_text: str = "",
) -> dict[str, Any]:
    """Writes the data set and returns its report; returns that of a finished one at once.

    Args:
        model_dir: folder of the data set.
        mixture_or_task_name: 'tickets', a source of docs/data.md, 'pooled', or a seqio name.
        vocabulary: a seqio vocabulary, for prompts and responses alike.
        task_feature_lengths: tokens of a prompt and of a response: {'inputs': P, 'targets': R}.
        seed: of the built-in task's data.
        num_train, num_validation: pairs kept at most of a split; None for all that there are.
        mixture_or_task_module: imported first; registers a user's own tasks.
        data_file: files, folders or patterns of the source, or of several of `sources` by name.
        validation_share: of the prompts of data without splits, split off with all of their pairs.
        max_bad_examples: bad rows of each source to skip and count; `max_line_bytes` of each row.
        config_text: the whole configuration, places left out.

    Raises:
        ConfigError: the settings don't fit, or `model_dir` holds a run of other settings or data.
        DataError: the data don't hold what was expected.
    """
    files = _files_by_source(data_file, mixture_or_task_name, sources)
    config_text += "".join(f"content of {name} = {files[name].digest()}\n" for name in files)
    with RunDirectory(model_dir, "prepare", config_text) as run:
        if (done := run.result()) is not None:
            return done
        from pagap_jax.data import tasks  # brings seqio and TensorFlow, which take seconds

        wanted = {"train": num_train, "validation": num_validation}
        num_tickets = _num_tickets(wanted, is_asked_for=mixture_or_task_name == tasks.TICKETS)
        packers = {split: _packer(task_feature_lengths, vocabulary) for split in wanted}
        lengths = task_feature_lengths["inputs"], task_feature_lengths["targets"]
        limits = (validation_share, max_bad_examples, max_line_bytes)
        tasks.register_tasks(vocabulary, num_tickets, files, lengths, *limits)
        task = mixture_or_task_name, mixture_or_task_module, vocabulary
        start = time.monotonic()
        readings = _read(packers, wanted, tasks.find_task(*task), seed)
        tasks.remove_tasks(files)  # and with them all texts
        prompts = {split: _prompt_ids(packer, vocabulary) for split, packer in packers.items()}
        report = prepared.report(packers, prompts, readings)
        _write(run.path, packers, vocabulary, report, time.monotonic() - start)
        check_limits(run, report["splits"]["train"])
        return run.finish(report)


def _prompt_ids(packer: PairPacker, vocabulary: Any) -> np.ndarray:
    pieces = (prompt_ids(decoded(piece.prompt, vocabulary)) for piece in packer.pieces())
    return np.concatenate(list(pieces))


def _write(
    path: os.PathLike,
    packers: Mapping[str, PairPacker],
    vocabulary: Any,
    report: dict[str, Any],
    seconds: float,
) -> None:
    if not is_first():
        return
    if not is_complete(path):  # written before a kill that left no result
        write_atomically(epath.Path(path) / LENGTHS_FILE, lengths_picture(report))
        write_token_pairs(path, packers, vocabulary, report)
    print(prepared.told(report, seconds), flush=True)


def _files_by_source(
    data_file: Paths | Mapping[str, Paths] | None,
    task: str,
    sources: Mapping[str, Callable[[], Source]],
) -> dict[str, SourceFiles]:
    """The files by source: their content belongs to what is made of them, like settings."""
    if data_file is None:
        return {}
    files = dict(data_file) if isinstance(data_file, Mapping) else {task: data_file}
    if task in files:
        files = {task: files[task]}
    for name in files:
        if name not in sources:
            raise ConfigError(
                f"DATA_FILE: found files for {name!r}, expected one of {sorted(sources)}: set "
                "MIXTURE_OR_TASK_NAME to one of them, or DATA_FILE to {name: files}"
            )
    return {name: SourceFiles(sources[name], paths) for name, paths in files.items()}


def _num_tickets(wanted: Mapping[str, int | None], is_asked_for: bool) -> dict[str, int]:
    if is_asked_for and None in wanted.values():
        raise ConfigError(
            "prepare.num_train, prepare.num_validation: found None, expected numbers: the task "
            "'tickets' makes as many pairs as it is asked for"
        )
    return {split: num_pairs or 0 for split, num_pairs in wanted.items()}


def _packer(task_feature_lengths: Mapping[str, int], vocabulary: Any) -> PairPacker:
    expected = {"inputs", "targets"}
    if set(task_feature_lengths) != expected or min(task_feature_lengths.values()) < 2:
        raise ConfigError(
            f"TASK_FEATURE_LENGTHS: found {dict(task_feature_lengths)}, "
            f"expected lengths of 2 or more for {sorted(expected)}"
        )
    return PairPacker(
        prompt_length=task_feature_lengths["inputs"],
        response_length=task_feature_lengths["targets"],
        sampleable_size=sampleable_size(vocabulary),
    )


def _read(
    packers: Mapping[str, PairPacker], wanted: Mapping[str, int | None], provider: Any, seed: int
) -> dict[str, tuple[SourceReport, int]]:
    """Fills the packers; what became of the rows of each source of files, and its pairs."""
    from pagap_jax.data import tasks

    readings = tasks.read_files(provider)
    for split, packer in packers.items():
        rows = tasks.read_split(provider, split, seed)
        _fill(packer, rows, wanted[split], f"{provider.name}: {split}")
    return readings


def _fill(
    packer: PairPacker,
    rows: Iterator[Example],
    num_pairs: int | None,
    description: str,
) -> None:
    """Takes examples until `num_pairs` are kept or there are no more."""
    with progress_bar() as progress:
        bar = progress.add_task(description, total=num_pairs, note="")
        while len(packer) != num_pairs and (row := next(rows, None)) is not None:
            packer.add(row)
            if packer.read % _SHOW_EVERY == 0:
                progress.update(bar, completed=len(packer))
    if not len(packer):
        raise DataError(
            f"{description}: found no usable pair among {packer.read} "
            f"(dropped: {dict(packer.dropped)}), expected at least one"
        )
