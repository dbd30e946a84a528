"""Files of comparisons as the source of a seqio task. Imports seqio, which takes seconds."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

from pagap_jax.data.quiet_seqio import seqio  # isort: skip  # before TensorFlow, which it quiets
import tensorflow as tf

from pagap_jax.data.preprocessors import LONG_TEXT, shortened
from pagap_jax.data.sources.reader import SourceFiles, divide, read_source
from pagap_jax.data.sources.rows import SourceReport
from pagap_jax.data.special_text import SPELLED_OUT, SpecialText
from pagap_jax.errors import DataError
from pagap_jax.records import PreferencePair

SPLITS = ("train", "validation")
LABEL_FEATURES = ("choice", "true_choice")
SHORTENED = f"texts of over {LONG_TEXT:,} characters, cut before they were tokenised"


class FileDataSource(seqio.FunctionDataSource):
    """Files of comparisons, read once for both splits; `report` tells of the reading."""

    def __init__(
        self,
        name: str,
        files: SourceFiles,
        vocabulary: seqio.Vocabulary,
        lengths: tuple[int, int],
        validation_share: float,
        max_bad_examples: int,
        max_line_bytes: int,
    ):
        """Takes what `register_tasks` takes, of one source."""
        self.name = name
        self._files, self._vocabulary, self._lengths = files, vocabulary, lengths
        self._validation_share, self._limits = validation_share, (max_bad_examples, max_line_bytes)
        self.report = SourceReport()
        super().__init__(dataset_fn=self._pairs_of_split, splits=SPLITS)

    @functools.cached_property
    def pairs(self) -> dict[str, list[PreferencePair]]:
        """The pairs of each split."""
        fits = functools.lru_cache(2**16)(self._fits)
        source, paths = self._files.make(), self._files.paths
        bad, line = self._limits
        found = read_source(source, paths, bad, fits, self._prepared, line)
        self.report = found.report
        return divide(found, self._validation_share)

    def _fits(self, prompt: str) -> bool:
        """Whether a prompt and its end token are within the limit of tokens."""
        if len(prompt.encode()) + 2 <= self._lengths[0]:  # no id stands for less than a byte
            return True
        if shortened(prompt, self._lengths[0]) is not prompt:
            return False
        return len(self._vocabulary.encode(prompt)) + 1 <= self._lengths[0]

    @functools.cached_property
    def _special_text(self) -> SpecialText:
        return SpecialText(self._vocabulary)

    @functools.cached_property
    def longest(self) -> int:
        """Characters of the longest text."""
        pairs = itertools.chain.from_iterable(self.pairs.values())
        return max(max(len(p.prompt), len(p.response_a), len(p.response_b)) for p in pairs)

    def _prepared(self, pair: PreferencePair, report: SourceReport) -> PreferencePair:
        texts = (pair.prompt, pair.response_a, pair.response_b)
        places = zip(texts, (0, 1, 1), strict=True)
        short = [shortened(text, self._lengths[i], i == 0) for text, i in places]
        plain = [self._special_text.spelled_out(text) for text in short]
        report.noted.update([SHORTENED] * (short != [*texts]))
        report.noted.update([SPELLED_OUT] * (plain != short))
        if plain == [*texts]:
            return pair
        prompt, a, b = plain
        return dataclasses.replace(pair, prompt=prompt, response_a=a, response_b=b)

    def _pairs_of_split(
        self, split: str, shuffle_files: bool = False, seed: int | None = None
    ) -> tf.data.Dataset:
        del shuffle_files, seed  # the order of batches is the business of data/batches.py
        if not self.pairs[split]:
            found = {pair.prompt for pairs in self.pairs.values() for pair in pairs}
            raise DataError(
                f"split {split!r}: found none of the {len(found)} different prompts in it "
                f"(prepare.validation_share = {self._validation_share}; pairs of one prompt stay "
                "together), expected at least one"
            )
        return dataset_of(self.pairs[split])


def dataset_of(pairs: Sequence[PreferencePair]) -> tf.data.Dataset:
    """Pairs as texts and labels, in their order."""
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
