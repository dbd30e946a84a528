"""OpenAI's summarization comparisons (TL;DR of Reddit posts), as published and re-exported.

Rows are those of comparisons/batch*.json, of the same on the hub (parquet), or of Google's
re-export for Vertex AI (input_text, candidate_0, candidate_1, choice).
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import gin

from pagap_jax.data.sources.rows import (
    NULL,
    BadRowError,
    Context,
    DroppedRowError,
    Fields,
    UnreadableFormatError,
    checked_text,
    choice,
    field,
    names,
    shown,
    text,
)
from pagap_jax.records import PreferencePair

NEWS = "a news article (CNN/DM), no post"
POST_CUT = "the post was cut at its end to fit"
OTHER_SPLIT = "of a split that isn't asked for"

_PROMPT = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
_VERTEX_MARK = "[summary]:"
_AXES = (
    "evaluations of single summaries on several axes, which name no better one of two: expected "
    "comparisons (comparisons/batch*.json)"
)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class SummarizeFromFeedback:
    """Comparisons of two summaries of a post.

    Attributes:
        validation_splits: of the data's own splits, those for validation; 'train' is for training
            and what else there is is left out, counted.
    """

    validation_splits: Sequence[str] = ("valid1", "valid2")

    def __post_init__(self) -> None:
        """Raises ConfigError for a text where several are expected."""
        names(self.validation_splits, "SummarizeFromFeedback.validation_splits")

    recognised = "comparisons of summaries"

    def splits(self, paths: list[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
        """Each file, and those of a folder; each row names its split."""
        found: list[pathlib.Path] = []
        for path in paths:
            inside = path / "comparisons" if (path / "comparisons").is_dir() else path
            found += sorted(p for p in inside.iterdir() if p.is_file()) if path.is_dir() else [path]
        return [(path, "") for path in found]

    def pair(self, row: Fields, context: Context) -> PreferencePair:
        """A post that doesn't fit loses lines at its end.

        Raises:
            BadRowError: fields are missing or of another kind.
            DroppedRowError: a news article, a null, or a split that isn't asked for.
            UnreadableFormatError: axis evaluations.
        """
        if "candidate_0" in row:
            columns = ("input_text", "candidate_0", "candidate_1")
            prompt, a, b = (text(row, name).strip() for name in columns)
            post = prompt.removesuffix(_VERTEX_MARK).rstrip()
            prompt = _fitting(post, "{post}" + prompt[len(post) :], context)
            return PreferencePair(prompt, a, b, choice(row), split=context.split)
        if "input_text" in row:
            raise UnreadableFormatError("found prompts without summaries, expected comparisons")
        if "summary" in row and "summaries" not in row:
            raise UnreadableFormatError(f"found {_AXES}")
        info, summaries = field(row, "info"), field(row, "summaries")
        if not isinstance(info, dict):
            raise BadRowError(f"field 'info': found {shown(info)}, expected an object")
        if not isinstance(summaries, list) or len(summaries) != 2:
            raise BadRowError(f"field 'summaries': found {shown(summaries)}, expected two")
        if info.get("article") is not None:
            raise DroppedRowError(NEWS)
        label = choice(row)
        of_row = text(row, "split") if row.get("split") is not None else "train"
        if of_row not in ("train", *self.validation_splits):
            raise DroppedRowError(f"{OTHER_SPLIT}: {shown(of_row)}")
        a, b = (_summary(one, f"field 'summaries'[{i}]") for i, one in enumerate(summaries))
        split = "train" if of_row == "train" else "validation"
        return PreferencePair(_prompt(info, context), a, b, label, split=split)


def _summary(summary: Any, where: str) -> str:
    if not isinstance(summary, dict) or "text" not in summary:
        raise BadRowError(f"{where}: found {shown(summary)}, expected an object with 'text'")
    if summary["text"] is None:
        raise DroppedRowError(NULL)
    return checked_text(summary["text"], where).strip()


def _prompt(info: Fields, context: Context) -> str:
    """The post with its place."""
    if info.get("post") is None:
        raise DroppedRowError(NULL)
    parts = {name: info.get(name) or "" for name in ("subreddit", "title", "post")}
    for name, value in parts.items():
        parts[name] = checked_text(value, f"field 'info', {name!r}").strip()
    place = _PROMPT.replace("{subreddit}", parts["subreddit"]).replace("{title}", parts["title"])
    return _fitting(parts["post"], place, context)


def _fitting(post: str, place: str, context: Context) -> str:
    """The post in its place, which is marked as {post}; one that's too long loses its end."""
    before, _, after = place.rpartition("{post}")

    def written(shorter: str) -> str:
        return before + shorter + after

    if context.fits(written(post)):
        return written(post)
    context.report.noted[POST_CUT] += 1
    return written(_cut(post, lambda shorter: context.fits(written(shorter))))


def _cut(post: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning that fits and ends at a line break, else at a blank, else anywhere."""
    low, high = 0, len(post)  # the longest beginning that fits, found by halving
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(post[:middle]) else (low, middle - 1)
    beginning, rest = post[:low], post[low:]
    for separator in ("\n", " "):
        if rest.startswith(separator) or not rest:
            return beginning.rstrip()
        if (shorter := beginning.rpartition(separator)[0].rstrip()) and fits(shorter):
            return shorter
    return beginning
