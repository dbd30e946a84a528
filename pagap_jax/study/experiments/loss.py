"""Hypothesis 4: is it the contrastive loss?

Best-of-2 (Eq. 3) in place of IPO, online, offline and on the shuffled D_online of the run with
the same loss (the paper doesn't say of which run; so the shuffled arm has online's data here
too). (§5.4, Fig. 9)
"""

from pagap_jax.study import gaps
from pagap_jax.study.arms import OFFLINE, ONLINE, SHUFFLED, Arm, Scale, varied
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.findings import Finding, finding
from pagap_jax.study.rows import Rows


def with_losses(scale: Scale) -> tuple[Arm, ...]:
    """The three arms with each of the other losses."""
    return tuple(
        varied(arm, loss, settings={**arm.settings, "LOSS": loss})
        for loss in scale.losses
        for arm in (ONLINE, OFFLINE, SHUFFLED)
    )


def gap_stays_with_bo2(rows: Rows) -> Finding:
    """The headline's statistic with Best-of-2."""
    return finding(
        "the gap stays with Bo2",
        "With Best-of-2 online is above offline at equal KL too.",
        "Fig. 9",
        "win rate of online minus offline, both with Bo2, at equal KL",
        gaps.budget_gap(rows, {"online, bo2": 1, "offline, bo2": -1}),
    )


def shuffled_matches_online_with_bo2(rows: Rows) -> Finding:
    """Nearer to online than to offline."""
    return finding(
        "shuffled matches online with Bo2",
        "With Best-of-2 the shuffled D_online is as good as online.",
        "Fig. 9",
        "shuffled minus the middle of online and offline, all with Bo2, at equal KL",
        gaps.budget_gap(rows, {"shuffled, bo2": 1, "online, bo2": -0.5, "offline, bo2": -0.5}),
    )


LOSS = Experiment(
    name="loss",
    title="Hypothesis 4: the contrastive loss",
    question="Is it the contrastive loss that makes offline worse?",
    arms=lambda scale: (ONLINE, OFFLINE, SHUFFLED, *with_losses(scale)),
    figures=("fig_9",),
    findings=(gap_stays_with_bo2, shuffled_matches_online_with_bo2),
)
