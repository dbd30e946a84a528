"""Likelihood of a preference, and the judgement of a model that is asked in both orders."""

import jax
import jax.numpy as jnp

from pagap_jax.array_types import PerPair


def preference_loss(log_odds: PerPair, first_is_chosen: PerPair) -> PerPair:
    """−log r of the order that was shown (Eq. 5), in nats.

    The two halves of Eq. 5 come about by showing each pair in a random order.

    Args:
        log_odds: the model's log-odds that the response shown first is preferred.
        first_is_chosen: 1 where the response shown first was chosen, else 0.
    """
    return jax.nn.softplus(jnp.where(first_is_chosen > 0.5, -log_odds, log_odds))


def symmetric_probability(log_odds_ab: PerPair, log_odds_ba: PerPair) -> PerPair:
    """P(a preferred to b) from both orders, to be shown: ½·(r(x, a, b) + 1 − r(x, b, a)).

    Swapping a and b maps p to 1 − p. Where both r are rounded to 1, p is ½ and tells nothing:
    `preference_margin` decides.
    """
    return 0.5 + 0.5 * (jax.nn.sigmoid(log_odds_ab) - jax.nn.sigmoid(log_odds_ba))


def preference_margin(log_odds_ab: PerPair, log_odds_ba: PerPair) -> PerPair:
    """Log-odds(a, b) − log-odds(b, a) in nats: a is preferred where it is above 0 (App. A).

    The logistic function is monotonic, so its sign is that of r(x, a, b) − r(x, b, a). That
    difference is rounded to 0 where position bias is strong; this one isn't.
    """
    return log_odds_ab - log_odds_ba
