"""Findings: sentences of the paper, each measured on this study's rows, with a verdict."""

import dataclasses
import math
from typing import Literal

import pandas as pd

from pagap_jax.study.statistics import summarize_seeds

Verdict = Literal["agrees", "disagrees", "undecided", "not asked"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One sentence of the paper and what this study says of it.

    Attributes:
        name: short, for tables and files.
        sentence: the paper's, in our words; positive effects agree with it.
        source: section or figure.
        measured: what the effect is, in words.
        effect, low, high: with its 95 % interval; NaN where it isn't asked.
        over: what the interval is over: 'seeds' (Student's t), or 'prompts' of one seed, paired.
        seeds: how many had something to compare.
        by_seed: the effect in each.
        verdict: by `verdict_of`.
    """

    name: str
    sentence: str
    source: str
    measured: str
    effect: float
    low: float
    high: float
    over: str
    seeds: int
    by_seed: tuple[float, ...]
    verdict: Verdict

    def as_json(self) -> dict:
        """As JSON values: NaN is none of them."""
        fields = dataclasses.asdict(self)
        numbers = {
            k: None if math.isnan(fields[k]) else fields[k] for k in ("effect", "low", "high")
        }
        return {**fields, **numbers, "by_seed": list(self.by_seed)}


def verdict_of(low: float, high: float) -> Verdict:
    """The rule, fixed before any run: an interval that excludes the other sign decides.

    'agrees' where all of it is above 0, 'disagrees' where all of it is below, else 'undecided'.
    """
    if math.isnan(low) or math.isnan(high):
        return "undecided"
    return "agrees" if low > 0 else "disagrees" if high < 0 else "undecided"


def in_words(found: Finding) -> str:
    """The verdict in plain words."""
    said = {
        "agrees": "This study agrees",
        "disagrees": "This study disagrees",
        "undecided": "This study can't tell",
        "not asked": "This study doesn't ask",
    }[found.verdict]
    if found.verdict == "not asked":
        return f"{said}."
    where = f"over {found.seeds} seeds" if found.over == "seeds" else "over prompts of one seed"
    interval = f" [{found.low:+.3f}, {found.high:+.3f}] {where}"
    known = not math.isnan(found.low)
    return f"{said}: {found.effect:+.3f}{interval if known else ', no interval from one seed'}."


def finding(name: str, sentence: str, source: str, measured: str, gaps: pd.DataFrame) -> Finding:
    """A finding from an effect that was measured seed by seed.

    With several seeds the interval is over seeds; with one it is over prompts, and says nothing of
    what another seed would give.

    Args:
        gaps: columns gap, low, high, a row a seed; none where the study can't ask.
    """
    known = gaps.dropna(subset=["gap"])
    words = (name, sentence, source, measured)
    if known.empty:
        nothing = math.nan
        return Finding(*words, nothing, nothing, nothing, "", 0, (), "not asked")
    effects = tuple(float(gap) for gap in known["gap"])
    if len(known) == 1:
        (row,) = known.to_dict("records")
        low, high, over = row["low"], row["high"], "prompts"
    else:
        summary = summarize_seeds(effects)
        low, high, over = summary.low, summary.high, "seeds"
    effect = sum(effects) / len(effects)
    return Finding(*words, effect, low, high, over, len(known), effects, verdict_of(low, high))
