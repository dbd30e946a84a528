r"""Anthropic's helpfulness and harmlessness comparisons: two whole dialogues a row.

The prompt is what both have in common up to its last "\n\nAssistant:", that included; the
responses are the rest.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import gin

from pagap_jax.data.sources.files import splits_by_name
from pagap_jax.data.sources.rows import (
    DIVERGES_EARLY,
    WINDOWS_LINE_ENDS,
    BadRowError,
    Context,
    DroppedRowError,
    Fields,
    names,
    shown,
    shown_pair,
    text,
)
from pagap_jax.errors import DataError
from pagap_jax.records import PreferencePair

ASSISTANT_TURN = "\n\nAssistant:"
_TURNS = ("\n\nHuman:", ASSISTANT_TURN)
_RED_TEAM = (
    "red-team-attempts, single transcripts with a rating of harm: no pairs of responses to a "
    "prompt, and not to be trained on (their authors say so)"
)


@dataclasses.dataclass(frozen=True)
class Transcripts:
    """Files of (chosen, rejected) dialogues.

    Attributes:
        keep_diverging: whether pairs that part before their last turn are kept. They answer the
            same prompt; a response then runs over several turns.
    """

    keep_diverging: bool = True
    recognised = "transcripts (chosen, rejected)"

    def splits(self, paths: list[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
        """Each file, with the split that its name says where all of them say one."""
        return splits_by_name(paths)

    def pair(self, row: Fields, context: Context) -> PreferencePair:
        """Raises BadRowError for another format, DroppedRowError for pairs that part early."""
        if "transcript" in row and "chosen" not in row:
            raise BadRowError(f"found {_RED_TEAM}; expected fields 'chosen' and 'rejected'")
        chosen, rejected = _unix(text(row, "chosen")), _unix(text(row, "rejected"))
        common = os.path.commonprefix([chosen, rejected])
        turn = common.rfind(ASSISTANT_TURN)
        if turn < 0:
            raise BadRowError(
                f"field 'rejected': found {shown(rejected)}, expected a transcript that has a start"
                f" up to {ASSISTANT_TURN!r} in common with 'chosen', {shown(chosen)}"
            )
        end = turn + len(ASSISTANT_TURN)
        if any(mark in rest[end:] for rest in (chosen, rejected) for mark in _TURNS):
            if not self.keep_diverging:
                raise DroppedRowError(DIVERGES_EARLY)
            context.report.noted[DIVERGES_EARLY] += 1
        if "\r" in row["chosen"] + row["rejected"]:
            context.report.noted[WINDOWS_LINE_ENDS] += 1
        return shown_pair(chosen[:end], chosen[end:], rejected[end:], context)


@dataclasses.dataclass(frozen=True)
class HHFolders(Transcripts):
    """The folders as published: each part with train.jsonl.gz and test.jsonl.gz.

    Attributes:
        parts: folders that are pooled.
    """

    parts: Sequence[str] = ()

    def splits(self, paths: list[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
        """The files of each part with their splits.

        Raises:
            DataError: a part or a file of it isn't there, or it's red-team-attempts.
        """
        found: list[tuple[pathlib.Path, str]] = []
        files: list[pathlib.Path] = []
        for path in paths:
            if "red-team-attempts" in path.name:
                raise DataError(f"{path}: found {_RED_TEAM}")
            if path.is_file():
                files.append(path)
                continue
            folders = [path] if path.name in self.parts else [path / part for part in self.parts]
            for folder in folders:
                for split, name in (("train", "train"), ("validation", "test")):
                    published = [folder / f"{name}.jsonl{end}" for end in (".gz", "")]
                    there = [file for file in published if file.is_file()]
                    if not there:
                        raise DataError(
                            f"{folder}: found no {name}.jsonl.gz, expected the folder as published "
                            f"with the parts {list(self.parts)}"
                        )
                    found.append((there[0], split))
        return found + splits_by_name(files)


def _unix(transcript: str) -> str:
    return transcript.replace("\r\n", "\n").replace("\r", "\n")


@gin.configurable
def hh_transcripts(keep_diverging: bool = True) -> Transcripts:
    """Single files."""
    return Transcripts(keep_diverging)


@gin.configurable
def hh_helpful(
    parts: Sequence[str] = ("helpful-base", "helpful-rejection-sampled", "helpful-online"),
    keep_diverging: bool = True,
) -> HHFolders:
    """Helpfulness: base, rejection-sampled and online pooled, or a choice of them."""
    return HHFolders(keep_diverging, names(parts, "hh_helpful.parts"))


@gin.configurable
def hh_harmless(
    parts: Sequence[str] = ("harmless-base",), keep_diverging: bool = True
) -> HHFolders:
    """Harmlessness."""
    return HHFolders(keep_diverging, names(parts, "hh_harmless.parts"))
