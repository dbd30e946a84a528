"""A source's files to pairs, with what became of each row."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from pagap_jax.data.prompts import prompt_id
from pagap_jax.data.sources.files import Paths, digest, expand, rows_of
from pagap_jax.data.sources.rows import (
    BAD_LINE,
    MAX_ROW,
    BadRowError,
    Context,
    DroppedRowError,
    Fields,
    SourceReport,
    UnreadableFormatError,
    hashed_uniform,
)
from pagap_jax.errors import DataError
from pagap_jax.progress import with_progress
from pagap_jax.records import PreferencePair

IN_TRAIN = "prompt of validation that is in train as well"
SPLIT_OFF = "of train, split off for validation by prompt"


@runtime_checkable
class Source(Protocol):
    """A format of rows, with the settings that it has."""

    @property
    def recognised(self) -> str:
        """The format in words."""

    def splits(self, paths: list[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
        """The files of these paths, each with its split ('train', 'validation', '' for none)."""

    def pair(self, row: Fields, context: Context) -> PreferencePair:
        """The pair that a row holds.

        Raises:
            BadRowError: the row isn't as the format says.
            DroppedRowError: it's no pair to learn from.
            UnreadableFormatError: the file is of another format.
        """


@dataclasses.dataclass
class SourcePairs:
    """The pairs of a source, in its order."""

    pairs: list[PreferencePair]
    report: SourceReport


@dataclasses.dataclass(frozen=True)
class SourceFiles:
    """A source with its files, before they are read.

    Attributes:
        make: the source with the settings that gin has for it, anew for each reading.
        paths: files, folders or patterns.
    """

    make: Callable[[], Source]
    paths: Paths

    def digest(self) -> str:
        """Tells what the files hold; raises DataError where one can't be read."""
        return digest([path for path, _ in self.make().splits(expand(self.paths))])


def read_source(
    source: Source,
    paths: Paths,
    max_bad_examples: int = 0,
    fits: Callable[[str], bool] = lambda prompt: True,
    prepared: Callable[[PreferencePair, SourceReport], PreferencePair] = lambda pair, report: pair,
    max_line_bytes: int = MAX_ROW,
) -> SourcePairs:
    """Reads all files of a source.

    Args:
        source: the format.
        paths: files, folders or patterns.
        max_bad_examples: so many bad rows are skipped and counted; one more is an error.
        fits: whether a prompt is within the limit of tokens.
        prepared: makes of each pair what is kept of it, and notes what was changed.
        max_line_bytes: a longer line is an error.

    Raises:
        DataError: with file, line, field, what was found and what was expected.
    """
    found = SourcePairs([], SourceReport())
    report = found.report
    for path, split in source.splits(expand(paths)):
        report.files.append(f"{path.parent.name}/{path.name}")
        for row in with_progress(rows_of(path, max_line_bytes), f"reading {path.name}"):
            context = Context(report.read, split, report, fits)
            report.read += 1
            try:
                found.pairs.append(prepared(source.pair(row.fields(), context), report))
            except DroppedRowError as reason:
                report.dropped[str(reason)] += 1
            except UnreadableFormatError as error:
                raise DataError(f"{row.where}: {error}") from error
            except BadRowError as error:
                report.dropped[BAD_LINE] += 1
                if report.dropped[BAD_LINE] > max_bad_examples:
                    raise DataError(
                        f"{row.where}: {error} "
                        f"(at most {max_bad_examples} bad rows are skipped: "
                        "prepare.max_bad_examples)"
                    ) from error
    report.recognised = source.recognised
    if not found.pairs:
        left_out = f" (left out: {dict(report.dropped)})" if report.dropped else ""
        raise DataError(
            f"{paths}: found no pairs in {report.read} rows{left_out}, expected at least one"
        )
    return found


def divide(found: SourcePairs, validation_share: float) -> dict[str, list[PreferencePair]]:
    """The pairs of each split: the data's own, or by prompt where they have none.

    Pairs of validation whose prompt is in train as well are left out, counted: training has
    answered what they ask.
    """
    splits = {pair.split for pair in found.pairs}
    report = found.report
    if "validation" in splits:
        train = [pair for pair in found.pairs if pair.split != "validation"]
        known = {prompt_id(prompt) for prompt in {pair.prompt for pair in train}}
        kept = [pair for pair in found.pairs if pair.split == "validation"]
        held_out = [pair for pair in kept if prompt_id(pair.prompt) not in known]
        if len(held_out) < len(kept):
            report.dropped[IN_TRAIN] += len(kept) - len(held_out)
        return {"train": train, "validation": held_out}
    chosen = validation_prompts({pair.prompt for pair in found.pairs}, validation_share)
    divided = {
        "train": [pair for pair in found.pairs if pair.prompt not in chosen],
        "validation": [pair for pair in found.pairs if pair.prompt in chosen],
    }
    if "train" in splits and divided["validation"]:
        report.noted[SPLIT_OFF] += len(divided["validation"])
    return divided


def validation_prompts(prompts: Iterable[str], share: float) -> set[str]:
    """The prompts whose pairs, all of them, are for validation; the others' are for training.

    Were a prompt on both sides, validation would ask what training has answered. Each prompt is
    drawn by itself, so that what else is in a file moves none to the other side; but of a few
    prompts, none of them drawn, the one that came closest is taken.
    """
    drawn = {prompt: hashed_uniform("validation", prompt_id(prompt)) for prompt in prompts}
    limit = max(share, min(drawn.values(), default=0.0)) if share > 0 else -1.0
    return {prompt for prompt, number in drawn.items() if number <= limit}
