"""Samples side by side: what SFT, the best of each arm and the golden policy say to a prompt."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from pagap_jax.study import report_page as page
from pagap_jax.study import report_tables, statistics
from pagap_jax.study.rows import Rows
from pagap_jax.study.run_folders import RunFolder, by_name
from pagap_jax.study.wording import settings_of

TITLE = "Samples"
_OPEN = 2  # prompts that are open at first
_TITLE_LENGTH = 160  # characters of a prompt that name it
_ABOUT = (
    "One sample of each policy to the same prompts of one seed: SFT, the best checkpoint of each "
    "arm, and the golden policy's fixed response, which all others are judged against. Under each "
    "stands how probable the golden model thinks it (P) that the response is preferred to the "
    "golden policy's, asked in both orders. Few samples say little of a policy: the win rate is "
    "measured on all prompts."
)
Samples = Mapping[str, Mapping[str, Any]]  # by prompt


def samples(rows: Rows, runs: Sequence[RunFolder]) -> Iterator[str]:
    """The section's parts; none where no evaluation kept samples.

    Args:
        rows: of one task.
    """
    known = by_name(runs)
    for _, of_seed in rows.checkpoints.groupby("seed", sort=True):
        shown = {name: (row, texts) for name, row, texts in _policies(of_seed, known)}
        if not shown:
            continue
        yield page.paragraph(_ABOUT, "about")
        prompts = dict.fromkeys(text for _, texts in shown.values() for text in texts)
        for number, prompt in enumerate(prompts):
            entries = [
                _card(name, row, texts[prompt])
                for name, (row, texts) in shown.items()
                if prompt in texts
            ]
            golden = next(t[prompt]["golden_response"] for _, t in shown.values() if prompt in t)
            entries.append(page.Card("golden policy", "fixed response", golden, "", "golden"))
            title, content = " ".join(prompt.split()), page.cards(entries)
            if len(title) > _TITLE_LENGTH or title != prompt:
                title = f"{title[:_TITLE_LENGTH].rstrip()} …"
                content = page.disclosure("the whole prompt", page.words(prompt)) + content
            yield page.disclosure(title, content, is_open=number < _OPEN)
        return


def _policies(
    frame: pd.DataFrame, known: Mapping[tuple[str, int, str], RunFolder]
) -> Iterator[tuple[str, Mapping[str, Any], Samples]]:
    """SFT, then the best checkpoint of each arm: name, row, samples by prompt."""
    best = statistics.peak(frame).set_index("arm", drop=False)
    for arm in ("sft", *report_tables.arms_of(frame)):
        if arm not in best.index:
            continue
        row = best.loc[arm].to_dict()
        run = known.get((row["study"], row["seed"], f"rows/{row['run']}"))
        lines = run.samples() if run else []
        if texts := {line["prompt"]: line for line in lines if line["step"] == row["step"]}:
            yield arm, row, texts


def _card(name: str, row: Mapping[str, Any], sample: Mapping[str, Any]) -> page.Card:
    probability, text = sample["golden_probability"], sample["response"] or "(empty)"
    kind = "wins" if probability > 0.5 else "loses" if probability < 0.5 else ""
    verdict = f"golden model: {kind or 'a tie'}, P {probability:.3f}"
    if name == "sft":
        return page.Card("SFT", "where all arms start", text, verdict, name, kind)
    about = f"{settings_of(row)}, KL {row['kl']:.1f}"
    return page.Card(name, about, text, verdict, name.split(", ")[0], kind)
