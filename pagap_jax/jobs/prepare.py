r"""Prepares D_initial: raw comparisons to a TFDS data set with splits train and validation.

In: a seqio task or mixture (MIXTURE_OR_TASK_NAME), for 'json_lines' and 'hh_transcripts' a file.
Out, in MODEL_DIR: array_record files with `pairs.json` beside them, and the report, `result.json`.

    pagap prepare --gin_file=jobs/prepare.gin --gin_file=data/tickets.gin --gin.SEED=0 \
        --gin.MODEL_DIR="'/tmp/pairs'"

16,000 + 1,024 pairs of the built-in task take 20 s on 2 cores (measured), half of it TensorFlow's
import.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import gin
import numpy as np

from pagap_jax.data.preprocessors import PairPacker
from pagap_jax.data.prompts import decoded, prompt_ids
from pagap_jax.data.sources import SourceReport, file_digest
from pagap_jax.data.stored import TokenPairs, is_complete, write_token_pairs
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.processes import is_first
from pagap_jax.progress import progress_bar
from pagap_jax.run_directory import RunDirectory

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
    config_text: str = "",
) -> dict[str, Any]:
    """Writes the data set and returns its report; returns that of a finished one at once.

    Args:
        model_dir: folder of the data set.
        mixture_or_task_name: 'tickets', 'json_lines', 'hh_transcripts' or a registered seqio name.
        vocabulary: a seqio vocabulary, for prompts and responses alike.
        task_feature_lengths: tokens of a prompt and of a response: {'inputs': P, 'targets': R}.
        seed: of the built-in task's data.
        num_train: pairs kept at most; None for all that the task has.
        num_validation: the same of the validation split.
        mixture_or_task_module: imported first; registers a user's own tasks.
        data_file: of the two file formats, .jsonl or .jsonl.gz.
        validation_share: of a data file's prompts, split off with all of their pairs.
        max_bad_examples: so many bad lines of a data file are skipped and counted.
        config_text: the whole configuration, places left out.

    Raises:
        ConfigError: the settings don't fit, or `model_dir` holds a run of other settings or data.
        DataError: the data don't hold what was expected.
    """
    # The file's content belongs to what the data set was made from, like the settings.
    content = f"DATA_FILE's content = {file_digest(data_file)}\n" if data_file else ""
    with RunDirectory(model_dir, "prepare", config_text + content) as run:
        if (done := run.result()) is not None:
            return done
        from pagap_jax.data import tasks  # brings seqio and TensorFlow, which take seconds

        wanted = {"train": num_train, "validation": num_validation}
        num_tickets = _num_tickets(wanted, is_asked_for=mixture_or_task_name == tasks.TICKETS)
        tasks.register_tasks(vocabulary, num_tickets, data_file, validation_share, max_bad_examples)
        provider = tasks.find_task(mixture_or_task_name, mixture_or_task_module, vocabulary)
        packers = {}
        for split, num_pairs in wanted.items():
            packers[split] = _packer(task_feature_lengths)
            rows = tasks.read_split(provider, split, seed)
            _fill(packers[split], rows, num_pairs, f"{mixture_or_task_name}: {split}")
        pairs = {split: packer.pairs() for split, packer in packers.items()}
        prompts = {s: prompt_ids(decoded(p.prompt, vocabulary)) for s, p in pairs.items()}
        report = _report(packers, prompts, tasks.source_reports(provider))
        report["overlap"] = _overlap(pairs, prompts)
        if is_first() and not is_complete(run.path):  # killed after the data set, before the result
            write_token_pairs(run.path, pairs, vocabulary, report)
        _tell_overlap(**report["overlap"])
        return run.finish(report)


def _num_tickets(wanted: Mapping[str, int | None], is_asked_for: bool) -> dict[str, int]:
    if is_asked_for and None in wanted.values():
        raise ConfigError(
            "prepare.num_train, prepare.num_validation: found None, expected numbers: the task "
            "'tickets' makes as many pairs as it is asked for"
        )
    return {split: num_pairs or 0 for split, num_pairs in wanted.items()}


def _packer(task_feature_lengths: Mapping[str, int]) -> PairPacker:
    expected = {"inputs", "targets"}
    if set(task_feature_lengths) != expected or min(task_feature_lengths.values()) < 2:
        raise ConfigError(
            f"TASK_FEATURE_LENGTHS: found {dict(task_feature_lengths)}, "
            f"expected lengths of 2 or more for {sorted(expected)}"
        )
    return PairPacker(
        prompt_length=task_feature_lengths["inputs"],
        response_length=task_feature_lengths["targets"],
    )


def _fill(
    packer: PairPacker,
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
    packers: Mapping[str, PairPacker],
    prompts: Mapping[str, np.ndarray],
    source_reports: list[SourceReport],
) -> dict[str, Any]:
    """Counts of all splits together, bad lines of a file included, then of each split."""
    dropped = sum((packer.dropped for packer in packers.values()), Counter[str]())
    noted = Counter[str]()
    read = sum(packer.read for packer in packers.values())
    for source in source_reports:
        dropped += source.dropped
        noted += source.noted
        read += source.dropped.total()  # these never came to a packer
    return {
        "read": read,
        "dropped": dict(sorted(dropped.items())),
        "noted": dict(sorted(noted.items())),
        "splits": {
            split: packer.report() | {"prompts": len(np.unique(prompts[split]))}
            for split, packer in packers.items()
        },
    }


def _overlap(pairs: Mapping[str, TokenPairs], prompts: Mapping[str, np.ndarray]) -> dict[str, int]:
    """What of validation is in train as well.

    A file is split by prompt, before it's tokenised: only prompts that truncation or words the
    vocabulary lacks made equal are shared there. Other tasks have splits of their own.

    Args:
        pairs: of the splits 'train' and 'validation'.
        prompts: int64[E] for each split, which prompt a pair has.

    Returns:
        The number of prompts, of all pairs of these prompts, and of pairs that are in train with
        the same two responses.
    """
    shared = np.intersect1d(prompts["train"], prompts["validation"])
    contents = {
        split: _contents(pairs[split], ids, rows=np.flatnonzero(np.isin(ids, shared)))
        for split, ids in prompts.items()
    }
    of_train = set(contents["train"])
    return {
        "prompts": len(shared),
        "pairs_of_these_prompts": len(contents["validation"]),
        "pairs": sum(content in of_train for content in contents["validation"]),
    }


def _contents(pairs: TokenPairs, prompts: np.ndarray, rows: np.ndarray) -> list[tuple]:
    """Tells pairs from others, whichever response is shown first."""
    a, b = pairs.response_a, pairs.response_b
    return [(prompts[i], frozenset((a[i].tobytes(), b[i].tobytes()))) for i in rows]


def _tell_overlap(prompts: int, pairs_of_these_prompts: int, pairs: int) -> None:
    if is_first() and prompts:
        print(
            f"prepare: note: {prompts} prompts of validation are in train as well, with "
            f"{pairs_of_these_prompts} pairs there, {pairs} of them the same as in train",
            flush=True,
        )
