"""A network that judges: a T5 that sees the prompt and both responses, asked in both orders."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Float, Int

from pagap_jax.array_types import (
    Array,
    PerPair,
    PerPairMask,
    PreferenceTokens,
    PromptTokens,
    RandomKey,
    ResponseTokens,
)
from pagap_jax.data.batches import whole_tiles
from pagap_jax.data.composer import PreferenceInput, compose_preference_input
from pagap_jax.data.vocabulary import SpecialIds
from pagap_jax.losses.preference import preference_margin, symmetric_probability
from pagap_jax.model.transformer import Transformer
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN

Params = Any


@struct.dataclass
class Judgement:
    """What a preference model says of pairs (a, b)."""

    probability: PerPair  # that a is preferred to b, from both orders
    log_odds_ab: PerPair  # with a shown first, that the first is preferred
    log_odds_ba: PerPair  # with b shown first, that the first is preferred
    prompt_truncated: PerPairMask  # the prompt lost its beginning for want of room
    choice: Int[Array, " B"]  # 0: a, 1: b, -1: a tie, or both are the same


@dataclasses.dataclass(frozen=True)
class PreferenceModel:
    """Pure functions of parameters around a T5.

    The score is the difference of two logits of the decoder's first token, verdict_a − verdict_b:
    the log-odds between two words of the vocabulary, so any T5 checkpoint initialises the model.

    Attributes:
        input_length: tokens of the composed input, L, at most.
    """

    transformer: Transformer
    special: SpecialIds
    input_length: int

    def log_odds(
        self,
        params: Params,
        tokens: PreferenceTokens,
        segments: PreferenceTokens,
        dropout_key: RandomKey | None = None,
    ) -> PerPair:
        """Log-odds that the response shown first is preferred, for composed inputs."""
        logits = self.verdict_logits(
            params, self.encode(params, tokens, segments, dropout_key), tokens, dropout_key
        )
        return logits[:, self.special.verdict_a] - logits[:, self.special.verdict_b]

    def encode(
        self,
        params: Params,
        tokens: PreferenceTokens,
        segments: PreferenceTokens,
        dropout_key: RandomKey | None = None,
    ) -> Float[Array, "B L D"]:
        """The encoder's output for composed inputs."""
        return self.transformer.apply(
            {"params": params},
            tokens,
            segments if self.transformer.config.num_segments else None,
            dropout_key is None,
            method=Transformer.encode,
            rngs={} if dropout_key is None else {"dropout": dropout_key},
        )

    def verdict_logits(
        self,
        params: Params,
        encoded: Float[Array, "B L D"],
        tokens: PreferenceTokens,
        dropout_key: RandomKey | None = None,
    ) -> Float[Array, "B V"]:
        """Logits of the decoder's first token."""
        start = jnp.zeros((tokens.shape[0], 1, 1), jnp.int32)
        decoded = self.transformer.apply(
            {"params": params},
            encoded,
            tokens > 0,
            start,
            jnp.ones_like(start, bool),
            dropout_key is None,
            method=Transformer.decode,
            rngs={} if dropout_key is None else {"dropout": dropout_key},
        )
        logits = self.transformer.apply({"params": params}, decoded, method=Transformer.logits)
        return logits[:, 0, 0]

    def compose(
        self, prompt: PromptTokens, response_a: ResponseTokens, response_b: ResponseTokens
    ) -> PreferenceInput:
        """This model's input for prompts and responses given as ids.

        As long as `input_length`, or shorter where prompts are padded to less (`read_batch`):
        then all of them fit in.
        """
        needed = 2 + prompt.shape[1] + response_a.shape[1] + response_b.shape[1]
        return compose_preference_input(
            prompt,
            response_a,
            response_b,
            length=min(self.input_length, whole_tiles(needed)),
            marker_a=self.special.marker_a,
            marker_b=self.special.marker_b,
        )

    def judge(
        self,
        params: Params,
        prompt: PromptTokens,
        response_a: ResponseTokens,
        response_b: ResponseTokens,
    ) -> Judgement:
        """Both orders in one batch of 2B. Position bias can't be trained away (App. A)."""
        ab = self.compose(prompt, response_a, response_b)
        ba = self.compose(prompt, response_b, response_a)
        log_odds = self.log_odds(
            params,
            jnp.concatenate([ab.tokens, ba.tokens]),
            jnp.concatenate([ab.segments, ba.segments]),
        )
        log_odds_ab, log_odds_ba = jnp.split(log_odds, 2)
        return Judgement(
            symmetric_probability(log_odds_ab, log_odds_ba),
            log_odds_ab,
            log_odds_ba,
            ab.prompt_truncated,
            choose(preference_margin(log_odds_ab, log_odds_ba), response_a, response_b),
        )


def choose(
    margin: PerPair, response_a: ResponseTokens, response_b: ResponseTokens
) -> Int[Array, " B"]:
    """0 where the margin is above 0 (a is preferred), 1 below; -1 at 0 or where both are the same.

    Args:
        margin: of `preference_margin`, nats.
    """
    same = jnp.all(response_a == response_b, axis=1) | (margin == 0)
    return jnp.where(same, CHOICE_UNKNOWN, jnp.where(margin > 0, CHOICE_A, CHOICE_B))
