"""KL(policy ‖ reference) of whole responses (§4.1, App. D)."""

import jax.numpy as jnp
from jaxtyping import Float

from pagap_jax.array_types import Array, PromptTokens, SampledTokens
from pagap_jax.policies import Params, Policy


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
    encoded, reference_encoded = (policy.encode(of, prompt) for of in (params, reference))
    return jnp.sum(policy.kl(params, encoded, reference, reference_encoded, responses), axis=-1)
