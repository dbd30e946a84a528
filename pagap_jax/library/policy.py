"""A policy that takes prompts as texts, with the settings of the run that made it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pagap_jax.array_types import RandomKey
from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.data.texts import Texts
from pagap_jax.errors import ConfigError
from pagap_jax.jobs.inputs import build_policy
from pagap_jax.library.batches import Batches, as_many, several
from pagap_jax.library.settings import Given, complete, texts_of
from pagap_jax.lineage import require_job
from pagap_jax.mapping.batching import compile_for
from pagap_jax.model.config import T5Config
from pagap_jax.policies import Policy
from pagap_jax.sampling.loop import END_ID, Samples
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.streams import Purpose, key_for
from pagap_jax.train.state import abstract_params


@dataclasses.dataclass(frozen=True)
class Response:
    """A response that a policy sampled; its text is `str(response)`.

    Attributes:
        ids: its tokens, the end token included where there is one.
        log_prob: of the whole response under the policy, untempered; nats.
        finished: whether it ended before there was no more room.
    """

    text: str
    ids: tuple[int, ...]
    log_prob: float
    finished: bool

    def __str__(self) -> str:
        return self.text


class TextPolicy:
    """A policy with its parameters: samples responses and scores them.

    Attributes:
        texts: vocabulary and lengths.
        sampling: how responses are drawn.
    """

    def __init__(
        self, policy: Policy, params: Any, texts: Texts, sampling: SamplingMethod, batches: Batches
    ):
        """Puts built parts together; `load_policy` builds them."""
        self.texts, self.sampling = texts, sampling
        self._policy, self._params, self._batches = policy, params, batches
        self._sampler = functools.cache(self._compiled_sampler)
        self._scorer = compile_for(self._scores, 1, batches.mesh)

    def __repr__(self) -> str:
        return f"TextPolicy({self.texts}, {self.sampling}, {self._policy.transformer.config})"

    def sample(self, texts: Sequence[str], n: int = 1, seed: int = 0) -> list[list[Response]]:
        """`n` responses to each prompt; the same arguments give the same responses.

        Raises:
            DataError: no prompts, or an empty one.
            ConfigError: `n` is below 1.
        """
        if n < 1:
            raise ConfigError(f"n: found {n}, expected 1 or more")
        prompt = self.texts.prompts(several("prompts", texts))
        columns = {"prompt": prompt, "row": np.arange(len(prompt), dtype=np.int32)}
        models = (self._params, key_for(seed, Purpose.READ_SAMPLES))
        # Draws depend on a row's place in its batch: not by length.
        samples = self._batches.map(self._sampler(n), models, columns, by_length=False)
        return [
            [self._response(*one) for one in zip(*rows, strict=True)]
            for rows in zip(samples.tokens, samples.log_probs, strict=True)
        ]

    def log_probs(self, texts: Sequence[str], responses: Sequence[str | Response]) -> np.ndarray:
        """log π(response | prompt) of each pair, float32[E], nats a response.

        A response of `sample` is scored as the tokens it is; a text is encoded, and ends.

        Raises:
            DataError: no prompts, an empty one, or not as many responses.
        """
        prompt = self.texts.prompts(several("prompts", texts))
        response = encoded_responses(self.texts, as_many("responses", responses, prompt))
        columns = {"prompt": prompt, "response": response}
        return self._batches.map(self._scorer, (self._params,), columns)

    def _response(self, tokens: np.ndarray, log_probs: np.ndarray) -> Response:
        ids = tuple(tokens[tokens > 0].tolist())
        is_finished = bool(ids) and ids[-1] == END_ID
        return Response(self.texts.decoded(ids), ids, float(np.sum(log_probs)), is_finished)

    def _compiled_sampler(self, n: int) -> Callable:
        def sample(params: Any, key: RandomKey, batch: Mapping[str, jax.Array]) -> Samples:
            encoded = self._policy.encode(params, batch["prompt"])
            batch_key = jax.random.fold_in(key, batch["row"][0])
            return self._policy.sample(params, encoded, batch_key, n, self.sampling, True)

        return compile_for(sample, 2, self._batches.mesh)

    def _scores(self, params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        encoded = self._policy.encode(params, batch["prompt"])
        log_probs = self._policy.log_probs(params, encoded, batch["response"][:, None])
        return jnp.sum(log_probs[:, 0], axis=-1)


def load_policy(
    path: str,
    *,
    model: T5Config | None = None,
    vocabulary: Any = None,
    prompt_length: int | None = None,
    response_length: int | None = None,
    sampling: SamplingMethod | None = None,
    mesh: Mesh | None = None,
    batch_size: int | None = None,
) -> TextPolicy:
    """A policy, with the settings of the run that made it.

    Args:
        path: a run of `sft` or `align`, one of its checkpoints/STEP, or a checkpoint of another
            program, which needs vocabulary and lengths (tokens) as arguments.
        model: else the run's, or what a foreign checkpoint's shapes say.
        vocabulary: seqio's (`pagap_jax.data.vocabulary`).
        sampling: else the run's; untruncated at temperature 1 where training sampled nothing.
        mesh: else all devices.
        batch_size: prompts at a time, at most; 32, or one a device where there are more.

    Raises:
        ConfigError: no such checkpoint, a run of another job, or a setting that is known from
            neither; names it.
        DataError: the checkpoint or the run's files are damaged.
    """
    path = str(path)
    require_job(path, "a policy", "sft", "align")
    given = Given(model, vocabulary, prompt_length, response_length, sampling)
    settings = complete(path, given, ("prompt_length", "response_length", "sampling"))
    batches = Batches.on(mesh, batch_size)
    assert settings.model is not None and settings.sampling is not None
    texts = texts_of(settings)
    policy = build_policy(settings.model, settings.vocabulary, texts.response_length)
    params = restore_params(path, abstract_params(policy.transformer, batches.mesh))
    return TextPolicy(policy, params, texts, settings.sampling, batches)


def encoded_responses(texts: Texts, responses: Sequence[str | Response]) -> np.ndarray:
    """int32[E, R]: sampled responses as the tokens they are, texts encoded."""
    ids = [one.ids if isinstance(one, Response) else None for one in responses]
    return texts.responses([str(one) for one in responses], ids)
