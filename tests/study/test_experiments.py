"""Each finding of the paper, asked of rows whose answer is known, and of their opposite."""

import dataclasses

import pandas as pd
import pytest

from pagap_jax.study.arms import Scale
from pagap_jax.study.experiments import EXPERIMENTS, classification, data_coverage, policy_size

SEEDS = (0, 1, 2)


@pytest.fixture
def levels(make_rows):
    """Rows of arms that win at some rate at KL 1 to 4, whatever the seed; each its own baseline."""

    def rows(levels, **more):
        changes = []
        for seed in SEEDS:
            for arm, level in levels.items():
                for kl in (1.0, 2.0, 4.0):
                    rate = level + 0.001 * seed
                    of_arm = {key: value[arm] for key, value in more.items() if arm in value}
                    changes.append({
                        "arm": arm, "run": arm, "seed": seed, "kl": kl, "step": int(100 * kl),
                        "select": rate, "report": rate, **of_arm,
                    })  # fmt: skip
        made = make_rows(*changes)
        return dataclasses.replace(made, baselines=frozenset(("tiny", arm) for arm in levels))

    return rows


def verdicts(experiment, rows):
    found = [ask(rows) for ask in EXPERIMENTS[experiment].findings]
    return {one.name: one.verdict for one in found}


PAPER = {
    "sft": 0.05, "online": 0.6, "offline": 0.3, "shuffled": 0.35, "lightly shuffled": 0.58,
    "heavily shuffled": 0.38, "late vs late": 0.08, "sft vs early": 0.25, "early vs late": 0.1,
    "online, bo2": 0.5, "offline, bo2": 0.2, "shuffled, bo2": 0.48,
}  # fmt: skip
OPPOSITE = {
    "sft": 0.05, "online": 0.3, "offline": 0.35, "shuffled": 0.6, "lightly shuffled": 0.58,
    "heavily shuffled": 0.31, "late vs late": 0.7, "sft vs early": 0.1, "early vs late": 0.25,
    "online, bo2": 0.2, "offline, bo2": 0.5, "shuffled, bo2": 0.15,
}  # fmt: skip
ASKED = {
    "data_coverage": (
        "shuffled below online", "shuffled adds little over offline",
        "heavy shuffling loses online",
    ),
    "data_quality": ("D_4k_vs_4k barely improves on SFT", "D_golden above D_4k_vs_4k"),
    "loss": ("the gap stays with Bo2", "shuffled matches online with Bo2"),
    "on_policy_data": ("D_sft_vs_800 above D_800_vs_4k", "D_golden is hard to beat"),
}  # fmt: skip


@pytest.mark.parametrize("experiment", ASKED)
def test_rows_like_the_paper_s_agree_and_their_opposite_disagrees(levels, experiment):
    agreed, opposed = (verdicts(experiment, levels(of)) for of in (PAPER, OPPOSITE))
    for name in ASKED[experiment]:
        assert agreed[name] == "agrees", name
        wanted = "agrees" if name == "heavy shuffling loses online" else "disagrees"
        assert opposed[name] == wanted, name


def test_light_shuffling_is_nearer_to_online(levels):
    name = "light shuffling keeps online"
    assert verdicts("data_coverage", levels(PAPER))[name] == "agrees"
    assert verdicts("data_coverage", levels(PAPER | {"lightly shuffled": 0.4}))[name] == "disagrees"


def test_a_replay_is_the_online_run_or_is_not(levels):
    """One measure of one checkpoint that is off by 1 % is told."""
    rows = levels({"online": 0.5, "replayed": 0.5})
    found = data_coverage.replay_is_the_online_run(rows)
    assert (found.effect, found.verdict) == (0.001, "agrees")
    frame = rows.checkpoints.copy()
    row = frame.index[(frame["arm"] == "replayed")][4]
    frame.loc[row, "accuracy"] *= 1.01
    found = data_coverage.replay_is_the_online_run(dataclasses.replace(rows, checkpoints=frame))
    assert min(found.by_seed) == pytest.approx(0.001 - 0.01)


def accuracies(online, offline, **more):
    return {
        "accuracy": {"online": online, "offline": offline, "shuffled": 0.55},
        "accuracy_low": {"online": online - 0.03, "offline": offline - 0.03},
        "accuracy_high": {"online": online + 0.03, "offline": offline + 0.03},
        **more,
    }


ARMS = {"online": 0.5, "offline": 0.3, "shuffled": 0.35}


def test_classifiers(levels):
    shifts = {"chosen_log_prob_shift": {"online": -5.0, "offline": -9.0, "shuffled": -4.0}}
    own = {"self_accuracy": {"online": 0.5, "offline": 0.7}}
    found = verdicts("classification", levels(ARMS, **accuracies(0.45, 0.66), **shifts, **own))
    assert found == {
        "proxy accuracy falls along D_online": "not asked",
        "offline is the better classifier": "agrees",
        "online classifies at about chance": "agrees",
        # Accuracy is the same at all checkpoints of an arm; the better arm has the lower one.
        "accuracy doesn't predict win rate": "agrees",
        "online classifies its own samples at chance": "agrees",
        "offline classifies its own samples at chance": "disagrees",
        "chosen log-prob falls": "agrees",
        "chosen log-prob falls most offline": "agrees",
    }
    other = verdicts("classification", levels(ARMS, **accuracies(0.7, 0.5), **shifts, **own))
    assert other["offline is the better classifier"] == "disagrees"
    assert other["online classifies at about chance"] == "disagrees"
    rows = levels(ARMS, **accuracies(0.45, 0.66), **shifts, **own)
    (falls,) = {classification.chosen_log_prob_falls(rows).effect}
    assert falls == pytest.approx(4.0)  # shuffled falls least
    assert classification.it_falls_most_offline(rows).effect == pytest.approx(4.0)
    assert classification.online_does_not_classify_its_own(rows).effect == pytest.approx(0.05)
    assert classification.offline_does_not_classify_its_own(rows).effect == pytest.approx(-0.15)


def test_accuracy_that_goes_with_the_win_rate_predicts_it(levels):
    rows = levels(ARMS)
    frame = rows.checkpoints
    same = dataclasses.replace(rows, checkpoints=frame.assign(accuracy=frame["win_rate"]))
    assert classification.accuracy_does_not_predict_win_rate(same).effect == pytest.approx(-0.5)
    turned = dataclasses.replace(rows, checkpoints=frame.assign(accuracy=-frame["win_rate"]))
    assert classification.accuracy_does_not_predict_win_rate(turned).effect == pytest.approx(1.5)


def test_the_proxy_s_accuracy_along_the_stream(levels):
    rows = levels(ARMS)

    def stream(rates):
        return pd.DataFrame([
            {"seed": seed, "classifier": "proxy", "step": 80 * (i + 1),
             "accuracy": rate + 0.001 * seed, "accuracy_pairs": 64, "task": "tickets"}
            for seed in SEEDS for i, rate in enumerate(rates)
        ])  # fmt: skip

    falling = dataclasses.replace(rows, stream=stream([0.9, 0.8, 0.7, 0.6]))
    found = classification.proxy_accuracy_falls(falling)
    assert found.effect == pytest.approx(0.85 - 0.65)
    assert found.verdict in ("agrees", "undecided")  # equal in all seeds, the interval is a point
    rising = dataclasses.replace(rows, stream=stream([0.6, 0.7, 0.8, 0.9]))
    assert classification.proxy_accuracy_falls(rising).effect == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("shuffled_xl", "offline_xl", "verdict"), [(0.6, 0.4, "agrees"), (0.3, 0.5, "disagrees")]
)
def test_policy_sizes(levels, shuffled_xl, offline_xl, verdict):
    """Relative to online: shuffled from 0.5 to 0.75 (or 0.375), offline from 0.5 to 0.5 (0.625)."""
    level = {
        "online": 0.6, "shuffled": 0.3, "offline": 0.3,
        "online, xl": 0.8, "shuffled, xl": shuffled_xl, "offline, xl": offline_xl,
    }  # fmt: skip
    xl = {arm for arm in level if arm.endswith("xl")}
    rows = levels(
        level, policy_size=dict.fromkeys(xl, "xl"), policy_parameters=dict.fromkeys(xl, 10**6)
    )
    found = {ask.__name__: ask(rows) for ask in EXPERIMENTS["policy_size"].findings}
    assert found["larger_policies_peak_higher"].effect == pytest.approx(0.2)
    assert found["they_peak_at_a_similar_kl"].effect == pytest.approx(0.693, abs=1e-3)
    narrows = found["gap_to_shuffled_narrows"]
    assert narrows.effect == pytest.approx(shuffled_xl / 0.8 - 0.5, abs=3e-3)
    assert narrows.verdict == verdict
    assert found["gap_to_offline_narrows_less"].effect == pytest.approx(
        (shuffled_xl - offline_xl) / 0.8, abs=3e-3
    )


def test_one_size_has_nothing_to_compare(levels):
    assert {ask(levels(ARMS)).verdict for ask in policy_size.POLICY_SIZE.findings} == {"not asked"}


def test_every_experiment_has_arms_of_its_own_and_shared_ones_are_the_same():
    """An arm named by two experiments is run once: it has to be equal in both."""
    scale = Scale(sizes={"xl": {"POLICY_SIZE": "xl"}}, losses=("bo2", "dpo"))
    by_name = {}
    for experiment in EXPERIMENTS.values():
        for arm in experiment.arms(scale):
            assert by_name.setdefault(arm.name, arm) == arm
    assert by_name["shuffled, xl"].pairs.of == "online, xl"
    assert by_name["shuffled, dpo"].settings["LOSS"] == "dpo"
    assert by_name["late vs late"].pairs_name == "D_4000_vs_4000"
    assert by_name["heavily shuffled"].settings == {"SHUFFLE_BLOCK": 500}
