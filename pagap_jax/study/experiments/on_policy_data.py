"""Would offline be as good on data that are more on-policy?

Data sets sampled from checkpoints of the online run, on the prompts of D_golden. (§6, Fig. 12)
"""

from pagap_jax.study import gaps, statistics
from pagap_jax.study.arms import OFFLINE, Arm, Place, SampledPairs, Scale
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.findings import Finding, finding
from pagap_jax.study.rows import Rows

SAMPLED = ("sft vs early", "early vs late", "late vs late")


def sampled_arms(scale: Scale) -> dict[str, Arm]:
    """Offline on D_sft_vs_800, D_800_vs_4k and D_4k_vs_4k, whatever the steps are here."""
    early, late = scale.early_step, scale.late_step
    policies = {
        "sft": Place("sft"),
        "early": Place("online", f"checkpoints/{early}"),
        "late": Place("online", f"checkpoints/{late}"),
    }
    names = {"sft": "sft", "early": str(early), "late": str(late)}
    arms = {}
    for name in SAMPLED:
        a, b = name.split(" vs ")
        data_set = f"D_{names[a]}_vs_{names[b]}"
        pairs = SampledPairs(f"d_{a}_vs_{b}", policies[a], policies[b])
        arms[name] = Arm(name, data_set, pairs, like="offline")
    return arms


def nearer_data_are_better(rows: Rows) -> Finding:
    """Contrast with the SFT policy's own responses beats better responses."""
    return finding(
        "D_sft_vs_800 above D_800_vs_4k",
        "Offline learning on pairs of the SFT policy against an early online policy beats that on"
        " pairs of an early against the last one.",
        "Fig. 12",
        "sft vs early minus early vs late, at equal KL",
        gaps.budget_gap(rows, {"sft vs early": 1, "early vs late": -1}),
    )


def golden_is_hard_to_beat(rows: Rows) -> Finding:
    """D_golden against the best of all sampled data sets, by their peaks."""
    pooled = rows.checkpoints["arm"].isin(SAMPLED)
    arms = rows.checkpoints["arm"].where(~pooled, "sampled")
    return finding(
        "D_golden is hard to beat",
        "No sampled data set gives a better offline policy than D_golden.",
        "Fig. 12",
        "win rate of the best offline checkpoint on D_golden minus the best on any sampled data",
        gaps.seed_gaps(
            rows,
            statistics.peak(rows.checkpoints.assign(arm=arms)),
            {"offline": 1, "sampled": -1},
        ),
    )


ON_POLICY_DATA = Experiment(
    name="on_policy_data",
    title="Data that are more on-policy",
    question="Would offline be as good on data that lie nearer to its policy?",
    arms=lambda scale: (OFFLINE, *sampled_arms(scale).values()),
    figures=("fig_12",),
    findings=(nearer_data_are_better, golden_is_hard_to_beat),
)
