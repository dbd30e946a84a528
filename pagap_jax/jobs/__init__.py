"""The jobs by name: what `pagap JOB` runs. Imports nothing, so that `pagap --help` is quick."""

from typing import NamedTuple


class Job(NamedTuple):
    """Where a job's gin configurable function is, and what the job does in one line."""

    function: str  # 'module:function'
    description: str


JOBS: dict[str, Job] = {
    "prepare": Job(
        "pagap_jax.jobs.prepare:prepare",
        "raw comparisons -> tokenised data set with a train and a validation split",
    ),
    "pretrain": Job(
        "pagap_jax.jobs.pretrain:pretrain",
        "no checkpoint -> tiny T5 taught to spot replaced words (stands in for T5's pretraining)",
    ),
    "sft": Job(
        "pagap_jax.jobs.sft:sft",
        "T5 checkpoint + prompts with responses -> SFT policy",
    ),
    "preference_model": Job(
        "pagap_jax.jobs.preference_model:preference_model",
        "T5 checkpoint + labelled pairs -> golden or proxy preference model",
    ),
    "relabel": Job(
        "pagap_jax.jobs.relabel:relabel",
        "golden preference model + pairs -> D_golden",
    ),
    "reference_scores": Job(
        "pagap_jax.jobs.reference_scores:reference_scores",
        "SFT policy + pairs -> the reference's log-probs, which offline runs may share",
    ),
    "align": Job(
        "pagap_jax.jobs.align:align",
        "SFT policy + pairs (offline) or prompts (online) -> policy checkpoints, D_online",
    ),
    "sample_pairs": Job(
        "pagap_jax.jobs.sample_pairs:sample_pairs",
        "two policies + prompts -> a data set of sampled pairs",
    ),
    "evaluate": Job(
        "pagap_jax.jobs.evaluate:evaluate",
        "policy checkpoints -> rows of KL, win rate, accuracy and log-prob shift",
    ),
    "classify_stream": Job(
        "pagap_jax.jobs.classify_stream:classify_stream",
        "D_online + policies -> rows of accuracy along its steps",
    ),
    "study": Job(
        "pagap_jax.study.run:study",
        "all of the above in order -> rows.csv, figures and report.html",
    ),
}
