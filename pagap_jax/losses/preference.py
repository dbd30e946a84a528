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
    """P(a preferred to b) from both orders: ½·(r(x, a, b) + 1 − r(x, b, a)).

    Above ½ exactly where r(x, a, b) > r(x, b, a), the sign that App. A decides by; swapping a and b
    maps p to 1 − p.
    """
    return 0.5 + 0.5 * (jax.nn.sigmoid(log_odds_ab) - jax.nn.sigmoid(log_odds_ba))
