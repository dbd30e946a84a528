"""Prepares D_initial: raw comparisons to a TFDS data set of token pairs, splits train, validation.

In: a seqio task or mixture (MIXTURE_OR_TASK_NAME), for 'json_lines' and 'hh_transcripts' a file.
Out, in MODEL_DIR: array_record files, `pairs.json` beside them, and `report.json`.

    pagap prepare --gin_file=gin_configs/jobs/prepare.gin --gin.MODEL_DIR="'/tmp/pairs'"

16,000 + 1,024 pairs of the built-in task take 20 s on 2 cores (measured), half of it TensorFlow's
import.
"""

import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import gin

from pagap_jax.data import preprocessors, stored
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.progress import progress_bar

REPORT_FILE = "report.json"
_SHOW_EVERY = 256  # pairs between two updates of the progress bar


@gin.configurable
def prepare(
    model_dir: str,
    mixture_or_task_name: str,
    vocabulary: Any,
    task_feature_lengths: Mapping[str, int],
    seed: int,
    num_train: int | None,
    num_validation: int | None,
    mixture_or_task_module: str | None = None,
    data_file: str | None = None,
    validation_share: float = 0.05,
    max_bad_examples: int = 0,
) -> dict[str, Any]:
    """Writes the data set and returns its report; returns that of a finished one at once.

    Args:
        model_dir: folder of the data set; other files in it stay.
        mixture_or_task_name: 'tickets', 'json_lines', 'hh_transcripts' or a registered seqio name.
        vocabulary: a seqio vocabulary, for prompts and responses alike.
        task_feature_lengths: tokens of a prompt and of a response: {'inputs': P, 'targets': R}.
        seed: of the built-in task's data.
        num_train: pairs kept at most; None for all that the task has.
        num_validation: the same of the validation split.
        mixture_or_task_module: imported first; registers a user's own tasks.
        data_file: of the two file formats, .jsonl or .jsonl.gz.
        validation_share: of a data file, split off by a hash of the example's index.
        max_bad_examples: so many bad lines of a data file are skipped and counted.

    Raises:
        ConfigError: the settings don't fit, or `model_dir` holds a data set of other settings.
        DataError: the data don't hold what was expected.
    """
    settings = dict(locals())  # kept with the data: another run must be of the same
    del settings["model_dir"]
    settings["vocabulary"] = stored.describe_vocabulary(vocabulary)
    settings["task_feature_lengths"] = dict(task_feature_lengths)
    if stored.is_complete(model_dir):
        return _finished_report(model_dir, settings)

    from pagap_jax.data import tasks  # brings seqio and TensorFlow, which take seconds

    wanted = {"train": num_train, "validation": num_validation}
    if mixture_or_task_name == tasks.TICKETS and None in wanted.values():
        raise ConfigError(
            "prepare.num_train, prepare.num_validation: found None, expected numbers: "
            f"the task {tasks.TICKETS!r} makes as many pairs as it is asked for"
        )
    num_tickets = {split: num_pairs or 0 for split, num_pairs in wanted.items()}
    tasks.register_tasks(vocabulary, num_tickets, data_file, validation_share, max_bad_examples)
    provider = tasks.find_task(mixture_or_task_name, mixture_or_task_module, vocabulary)
    packers = {}
    for split, num_pairs in wanted.items():
        packers[split] = _packer(task_feature_lengths)
        rows = tasks.read_split(provider, split, seed)
        _fill(packers[split], rows, num_pairs, f"{mixture_or_task_name}: {split}")
    report = _report(settings, packers, tasks.source_reports(provider))
    _write(model_dir, packers, vocabulary, report)
    return report


def _packer(task_feature_lengths: Mapping[str, int]) -> preprocessors.PairPacker:
    expected = {"inputs", "targets"}
    if set(task_feature_lengths) != expected or min(task_feature_lengths.values()) < 2:
        raise ConfigError(
            f"TASK_FEATURE_LENGTHS: found {dict(task_feature_lengths)}, "
            f"expected lengths of 2 or more for {sorted(expected)}"
        )
    return preprocessors.PairPacker(
        prompt_length=task_feature_lengths["inputs"],
        response_length=task_feature_lengths["targets"],
    )


def _write(
    model_dir: str,
    packers: Mapping[str, preprocessors.PairPacker],
    vocabulary: Any,
    report: dict[str, Any],
) -> None:
    pathlib.Path(model_dir).mkdir(parents=True, exist_ok=True)
    # Before the data set: that is what says that the job is finished.
    (pathlib.Path(model_dir) / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")
    pairs = {split: packer.pairs() for split, packer in packers.items()}
    stored.write_token_pairs(model_dir, pairs, vocabulary, report)


def _finished_report(model_dir: str | os.PathLike, settings: dict[str, Any]) -> dict[str, Any]:
    report = stored.read_metadata(model_dir)["report"]
    made_with = report.get("settings", {})
    for name, value in settings.items():
        if made_with.get(name) != value:
            raise ConfigError(
                f"{model_dir}: found a data set made with {name} = {made_with.get(name)!r}, "
                f"expected {value!r}: remove it or choose another MODEL_DIR"
            )
    return report


def _fill(
    packer: preprocessors.PairPacker,
    rows: Iterator[tuple],
    num_pairs: int | None,
    description: str,
) -> None:
    """Takes examples until `num_pairs` are kept or there are no more."""
    with progress_bar() as progress:
        bar = progress.add_task(description, total=num_pairs, note="")
        while len(packer) != num_pairs and (row := next(rows, None)) is not None:
            packer.add(*row)
            if packer.read % _SHOW_EVERY == 0:
                progress.update(bar, completed=len(packer))
    if not len(packer):
        raise DataError(
            f"{description}: found no usable pair among {packer.read} "
            f"(dropped: {dict(packer.dropped)}), expected at least one"
        )


def _report(
    settings: dict[str, Any],
    packers: Mapping[str, preprocessors.PairPacker],
    source_reports: list[Any],
) -> dict[str, Any]:
    """Counts of all splits together, then of each; lines of a file that never became a pair too."""
    dropped = sum((packer.dropped for packer in packers.values()), Counter[str]())
    noted = Counter[str]()
    for source in source_reports:
        dropped += source.dropped
        noted += source.noted
    bad_lines = sum(sum(source.dropped.values()) for source in source_reports)
    return {
        "settings": settings,
        "read": bad_lines + sum(packer.read for packer in packers.values()),
        "dropped": dict(sorted(dropped.items())),
        "noted": dict(sorted(noted.items())),
        "splits": {split: packer.report() for split, packer in packers.items()},
    }
