"""Hypothesis 2: is offline worse because its responses are worse?

D_4k_vs_4k: both responses sampled from the last online policy, on the prompts of D_golden. (§5.2,
Fig. 5)
"""

from pagap_jax.study import gaps
from pagap_jax.study.arms import OFFLINE
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.experiments.on_policy_data import sampled_arms
from pagap_jax.study.findings import Finding, finding
from pagap_jax.study.rows import Rows
from pagap_jax.study.statistics import peak


def better_responses_barely_help(rows: Rows) -> Finding:
    """'Barely' is less than half of what D_golden's responses give over π_sft."""
    return finding(
        "D_4k_vs_4k barely improves on SFT",
        "Offline learning on responses of the last online policy barely improves on SFT.",
        "Fig. 5",
        "middle of SFT and the best offline checkpoint minus the best late vs late checkpoint",
        gaps.seed_gaps(rows, peak(rows.checkpoints), {"sft": 0.5, "offline": 0.5, ARM: -1}),
    )


def golden_responses_are_better(rows: Rows) -> Finding:
    """The worse responses teach more."""
    return finding(
        "D_golden above D_4k_vs_4k",
        "Offline learning on D_golden beats that on responses of the last online policy.",
        "Fig. 5",
        "win rate of offline minus late vs late, at equal KL",
        gaps.budget_gap(rows, {"offline": 1, ARM: -1}),
    )


ARM = "late vs late"
DATA_QUALITY = Experiment(
    name="data_quality",
    title="Hypothesis 2: quality of the offline data",
    question="Is offline worse because the responses that it learns from are worse?",
    arms=lambda scale: (OFFLINE, sampled_arms(scale)[ARM]),
    figures=("fig_5",),
    findings=(better_responses_barely_help, golden_responses_are_better),
)
