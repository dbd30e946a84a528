"""FLOPs and bytes that a T5 must take, counted from its config; and what this machine does of them.

A multiplication with its addition is two FLOPs. Norms, activations and softmax aren't counted: a
limit may be missed, never beaten. A backward pass is twice the forward.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pagap_jax.model.config import T5Config


@dataclasses.dataclass(frozen=True)
class Counts:
    """FLOPs of the parts of a T5 on B prompts of P tokens and N responses of R tokens each."""

    config: T5Config
    batch: int
    prompt: int
    samples: int
    response: int

    @property
    def _mlp(self) -> int:
        return (len(self.config.mlp_activations) + 1) * self.config.emb_dim * self.config.mlp_dim

    @property
    def _projection(self) -> int:
        return self.config.emb_dim * self.config.joined_heads

    @property
    def encoder(self) -> int:
        """One forward pass of the encoder."""
        tokens, width = self.batch * self.prompt, self.config.joined_heads
        layer = 2 * tokens * (4 * self._projection + self._mlp) + 4 * tokens * self.prompt * width
        return self.config.num_encoder_layers * layer

    @property
    def prompt_keys_values(self) -> int:
        """The decoder's projections of encoded prompts."""
        tokens = self.batch * self.prompt
        return self.config.num_decoder_layers * 2 * tokens * 2 * self._projection

    @property
    def decoder(self) -> int:
        """One forward pass over the responses, `prompt_keys_values` and logits included."""
        tokens, width = self.batch * self.samples * self.response, self.config.joined_heads
        seen = self.response + self.prompt
        layer = 2 * tokens * (6 * self._projection + self._mlp) + 4 * tokens * seen * width
        logits = 2 * tokens * self.config.emb_dim * self.config.vocab_size
        return self.config.num_decoder_layers * layer + self.prompt_keys_values + logits

    @property
    def token_bytes(self) -> int:
        """What one token of all responses must read in float32: weights and caches."""
        config = self.config
        weights = config.num_decoder_layers * (6 * self._projection + self._mlp)
        weights += config.emb_dim * config.vocab_size
        own = self.batch * self.samples * self.response // 2  # half full on the average
        caches = 2 * config.num_decoder_layers * config.joined_heads
        return 4 * (weights + caches * (self.batch * self.prompt + own))

    def forward(self) -> int:
        """Encoder and decoder."""
        return self.encoder + self.decoder

    def sampling_seconds(self, machine: "Machine") -> float:
        """Encoder, then token by token whichever takes longer, arithmetic or reading."""
        once = self.encoder + self.prompt_keys_values
        token = (self.decoder - self.prompt_keys_values) / self.response
        reading = self.token_bytes / machine.bandwidth
        return once / machine.flops + self.response * max(token / machine.flops, reading)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was measured: FLOP a second of large matrix products, bytes read a second."""

    flops: float
    bandwidth: float

    @classmethod
    def measured(cls, rounds: int) -> "Machine":
        n = 2048
        a = jnp.ones((n, n))
        product = jax.jit(lambda a: a @ a)
        # As many numbers as don't fit in a cache; written to nowhere.
        x = jnp.ones(2**27)
        total = jax.jit(jnp.sum)
        flops = 2 * n**3 / seconds(lambda: product(a), rounds)
        return cls(flops, x.nbytes / seconds(lambda: total(x), rounds))


def seconds(function: Callable[[], object], rounds: int) -> float:
    """The median time of a call that was made once before."""
    jax.block_until_ready(function())
    return statistics.median(once(function) for _ in range(rounds))


def once(function: Callable[[], object]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start
