"""Runs with another loss are another arm, however they came to be read together."""

import pytest

from pagap_jax.study import statistics
from pagap_jax.study.loss_arms import losses_as_arms


@pytest.mark.parametrize(
    "other, name",
    [
        ({"loss": "dpo"}, "online, dpo"),
        ({"reduction": "mean"}, "online, ipo, mean"),
        ({"loss": "bo2", "arm": "online, bo2"}, "online, bo2"),
    ],
)
def test_another_loss_is_never_pooled_with_ipo(make_rows, other, name):
    sft = {"arm": "sft", "run": "sft", "loss": "cross_entropy", "reduction": "mean"}
    ipo = {"study": "a", "seed": 0, "run": "x", "report": 0.3, "select": 0.3}
    others = {"study": "b", "seed": 1, "run": "y", "report": 0.9, "select": 0.9} | other
    rows = losses_as_arms(make_rows(sft, ipo, others))
    assert sorted(rows.checkpoints["arm"]) == sorted(["sft", "online", name])
    assert rows.checkpoints.set_index("run")["arm"]["x"] == "online"
    best = statistics.mean_over_seeds(statistics.peak(rows.checkpoints), ["arm"]).set_index("arm")
    assert best.loc["online", "win_rate"] == 0.3 and best.loc["online", "seeds"] == 1
    assert best.loc[name, "win_rate"] == 0.9


def test_a_study_of_one_other_loss_keeps_its_names(make_rows):
    rows = losses_as_arms(make_rows({"loss": "dpo"}, {"arm": "offline", "loss": "dpo"}))
    assert sorted(rows.checkpoints["arm"]) == ["offline", "online"]


def test_other_tasks_have_their_own_loss(make_rows):
    rows = losses_as_arms(make_rows({"task": "a", "loss": "dpo"}, {"task": "b", "loss": "ipo"}))
    assert list(rows.checkpoints["arm"]) == ["online", "online"]
