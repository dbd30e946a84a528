"""KL(policy ‖ reference) of whole responses (§4.1, App. D)."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Float

from pagap_jax.array_types import Array, PromptTokens, SampledTokens
from pagap_jax.policies import Params, Policy, next_token_kl


def response_kl(
    policy: Policy,
    params: Params,
    reference: Params,
    prompt: PromptTokens,
    responses: SampledTokens,
) -> Float[Array, "B N"]:
    """Σ over positions of KL(π(·|x, y<t) ‖ π_ref(·|x, y<t)), exact at each position; nats.

    Averaged over responses sampled from the policy it is an unbiased estimate of the KL of the two
    distributions over responses, with less variance than the log-ratio of the samples.
    """

    def logits(of: Any) -> Array:
        return policy.logits(of, policy.encode(of, prompt), responses)

    kl = next_token_kl(logits(params), logits(reference), responses > 0)
    return jnp.sum(kl, axis=-1)
