"""Losses of a pair: IPO, DPO, SLiC and Best-of-2 (§2, Eq. 1-3 and App. B).

All have one signature: sequence log-probs [B] in nats of the chosen and the rejected response under
the policy and the reference, and β. They return the loss of each pair [B]. With
`h = (chosen − reference_chosen) − (rejected − reference_rejected)` all but Bo2 are functions of h.
"""

import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from pagap_jax.array_types import Array, PerPair, Scalar, SequenceLogProbs

PairLoss = Callable[[PerPair, PerPair, PerPair, PerPair, Scalar], PerPair]


def log_ratio_margin(
    chosen: PerPair, rejected: PerPair, reference_chosen: PerPair, reference_rejected: PerPair
) -> PerPair:
    """h, in nats: how much more than the reference the policy prefers the chosen response."""
    return (chosen - reference_chosen) - (rejected - reference_rejected)


def mean_log_ratio(scores: SequenceLogProbs, reference: SequenceLogProbs) -> Float[Array, ""]:
    """Mean of log π(y|x) − log π_ref(y|x) over all responses, nats a sequence; ties count as well.

    Where the responses are samples of the policy it estimates KL(policy ‖ reference), for that is
    its expectation over y ~ π. It has noise, may be below 0, and is no more than an estimate of
    the exact KL that evaluations sum over the vocabulary (`evaluation.kl`). Log-probs are the
    models' own: at temperature 1, without truncation, and of all ids, also of the few that are
    never sampled. Of samples that were tempered or truncated, or of a data set's responses, it is
    a mean log-ratio and no KL.

    Args:
        scores: [B, 2] of the policy for responses a and b, summed over tokens; `reference`
            likewise.
    """
    return jnp.mean(scores - reference)


def ipo(
    chosen: PerPair,
    rejected: PerPair,
    reference_chosen: PerPair,
    reference_rejected: PerPair,
    beta: Scalar,
) -> PerPair:
    """(β·h − ½)², App. B's general form: asks for a margin of h = 1/(2β) nats. The default."""
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    return jnp.square(beta * h - 0.5)


def ipo_margin(
    chosen: PerPair,
    rejected: PerPair,
    reference_chosen: PerPair,
    reference_rejected: PerPair,
    beta: Scalar,
) -> PerPair:
    """(h − β/2)², as Eq. 1 prints IPO: asks for a margin of h = β/2 nats, so β acts inversely."""
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    return jnp.square(h - beta / 2)


def dpo(
    chosen: PerPair,
    rejected: PerPair,
    reference_chosen: PerPair,
    reference_rejected: PerPair,
    beta: Scalar,
) -> PerPair:
    """log(1 + exp(−β·h))."""
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    return jax.nn.softplus(-beta * h)


def slic(
    chosen: PerPair,
    rejected: PerPair,
    reference_chosen: PerPair,
    reference_rejected: PerPair,
    beta: Scalar,
) -> PerPair:
    """max(0, 1 − β·h), the hinge of the same family."""
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    return jax.nn.relu(1 - beta * h)


def bo2(
    chosen: PerPair,
    rejected: PerPair,
    reference_chosen: PerPair,
    reference_rejected: PerPair,
    beta: Scalar,
) -> PerPair:
    """−log π(chosen): Best-of-2 (Eq. 3), which is not contrastive. β and the rest have no part."""
    del rejected, reference_chosen, reference_rejected, beta
    return -chosen


class AlignmentLoss(enum.Enum):
    """A loss by the name that rows carry."""

    IPO = "ipo"
    IPO_MARGIN = "ipo_margin"
    DPO = "dpo"
    SLIC = "slic"
    BO2 = "bo2"

    @property
    def function(self) -> PairLoss:
        """The loss of each pair: the function of this name here."""
        return globals()[self.value]

    @property
    def is_contrastive(self) -> bool:
        """Whether it compares the two responses: identical ones then have nothing to teach."""
        return self is not AlignmentLoss.BO2
