"""Findings: the rule of the verdict, what the interval is over, and what can't be asked."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from pagap_jax.errors import DataError
from pagap_jax.study.experiments import EXPERIMENTS
from pagap_jax.study.figures import FIGURES
from pagap_jax.study.findings import finding, verdict_of
from pagap_jax.study.outcomes import Outcome, paired_difference

WORDS = ("name", "sentence", "Fig. 1", "measured")


def gaps(*rows):
    return pd.DataFrame(rows, columns=["gap", "low", "high"])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.3, "agrees"), (-0.3, -0.01, "disagrees"), (-0.1, 0.1, "undecided"),
        (0.0, 0.2, "undecided"), (-0.2, 0.0, "undecided"), (math.nan, math.nan, "undecided"),
    ],
)  # fmt: skip
def test_an_interval_that_excludes_the_other_sign_decides(low, high, verdict):
    assert verdict_of(low, high) == verdict


def test_one_seed_rests_on_prompts():
    found = finding(*WORDS, gaps((0.1, 0.05, 0.15)))
    assert (found.over, found.seeds, found.verdict) == ("prompts", 1, "agrees")
    assert (found.effect, found.low, found.high) == (0.1, 0.05, 0.15)


def test_several_seeds_rest_on_seeds():
    """However sure each is of its prompts: a seed that turned out otherwise undoes the verdict."""
    alike = finding(*WORDS, *[gaps((0.10, 0.09, 0.11), (0.12, 0.11, 0.13), (0.11, 0.10, 0.12))])
    assert (alike.over, alike.seeds, alike.verdict) == ("seeds", 3, "agrees")
    assert alike.effect == pytest.approx(0.11)
    assert alike.low == pytest.approx(0.11 - 4.302653 * 0.01 / math.sqrt(3), abs=1e-6)
    unlike = finding(*WORDS, gaps((0.10, 0.09, 0.11), (-0.3, -0.31, -0.29), (0.9, 0.89, 0.91)))
    assert unlike.verdict == "undecided"


def test_what_was_not_run_is_not_asked():
    found = finding(*WORDS, gaps())
    assert found.verdict == "not asked" and math.isnan(found.effect)
    nothing = finding(*WORDS, gaps((math.nan, math.nan, math.nan)))
    assert nothing.verdict == "not asked"
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["effect"] is None


def test_every_finding_of_every_experiment(study_rows, make_rows):
    for experiment in EXPERIMENTS.values():
        assert set(experiment.figures) <= set(FIGURES)
        for ask in experiment.findings:
            assert ask(make_rows({"arm": "sft"})).verdict == "not asked"
    for ask in EXPERIMENTS["comparison"].findings:
        found = ask(study_rows)
        assert found.verdict != "not asked" and found.seeds == 3


def test_a_study_that_shows_the_paper(study_rows):
    at_equal_kl, peaks, *_ = (ask(study_rows) for ask in EXPERIMENTS["comparison"].findings)
    assert (at_equal_kl.name, at_equal_kl.verdict) == ("online above offline at equal KL", "agrees")
    assert (peaks.name, peaks.verdict) == ("online peaks higher", "agrees")


def outcome(win, prompt_id=None, select=None):
    size = len(win)
    ids = np.arange(size) if prompt_id is None else prompt_id
    return Outcome(np.array(win, float), ids, np.zeros(size, bool) if select is None else select)


def test_pairing_by_prompt_narrows_what_goes_together():
    easy = np.random.default_rng(0).random(400) < 0.5  # prompts that both win
    ours, theirs = easy.astype(float), easy * (np.arange(400) % 20 > 0)
    gap, se = paired_difference({0: 1.0, 1: -1.0}, [outcome(ours), outcome(theirs)])
    assert gap == pytest.approx(np.mean(ours) - np.mean(theirs))
    unpaired = math.sqrt((np.var(ours) + np.var(theirs)) / 400)
    assert se < 0.4 * unpaired
    assert se == pytest.approx(np.std(ours - theirs, ddof=1) / 20)


def test_a_prompt_that_occurs_often_counts_as_one():
    win = np.random.default_rng(1).random(50) < 0.3
    once = paired_difference({0: 1.0, 1: -1.0}, [outcome(win), outcome(0 * win)])
    ids, again = np.repeat(np.arange(50), 4), np.repeat(win, 4)
    often = paired_difference({0: 1.0, 1: -1.0}, [outcome(again, ids), outcome(0 * again, ids)])
    assert often == pytest.approx(once)


def test_only_the_reported_half_is_looked_at():
    select = np.arange(10) < 5
    gap, _ = paired_difference({0: 1.0}, [outcome(select.astype(float), select=select)])
    assert gap == 0.0


def test_outcomes_of_other_prompts_are_refused():
    ours, theirs = outcome([1, 0]), outcome([1, 0], prompt_id=np.array([0, 7]))
    with pytest.raises(DataError, match="outcomes of different prompts"):
        paired_difference({0: 1.0, 1: -1.0}, [ours, theirs])
