"""The programs of each job, the very functions that it jits, with shapes as arguments."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.online import OnlinePairs
from pagap_jax.align.step import AlignStep, FrozenModels
from pagap_jax.checkpoints.saving import TrainState
from pagap_jax.data.stored import SCALAR_COLUMNS
from pagap_jax.data.vocabulary import SpecialIds
from pagap_jax.errors import ConfigError
from pagap_jax.evaluation.examine import Functions
from pagap_jax.jobs.align import check_parts, compile_align_step
from pagap_jax.jobs.inputs import TrainedJudge
from pagap_jax.jobs.pair_origins import Online
from pagap_jax.jobs.preference_model import PURPOSES as preference_purposes
from pagap_jax.jobs.preference_model import preference_training_loss
from pagap_jax.jobs.reference_scores import compile_scorer
from pagap_jax.jobs.sft import PURPOSES as sft_purposes
from pagap_jax.jobs.sft import fine_tuning_loss
from pagap_jax.mapping.batching import compile_sampler
from pagap_jax.mapping.judging import compile_judge
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import (
    batch_sharding,
    check_batch_size,
    num_batch_shards,
    partition_spec,
    replicated,
)
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.streams import Purpose
from pagap_jax.train.state import abstract_params, abstract_state
from pagap_jax.train.supervised import compile_supervised_step

SPECIAL = SpecialIds(*range(2, 10))  # which ids they are doesn't change a program


@dataclasses.dataclass(frozen=True)
class Program:
    """One jitted function.

    Attributes:
        held: abstract arrays that lie in HBM while it runs, by kind.
        caches: bytes a chip that a sampler keeps of keys and values.
    """

    name: str
    function: Any  # of `jax.jit`
    arguments: tuple[Any, ...]
    held: dict[str, Any]
    caches: float = 0.0


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What all programs of a job have in common.

    Attributes:
        prompt_length: P, in tokens; response_length: R.
    """

    mesh: Mesh
    prompt_length: int
    response_length: int

    def policy(self, model: T5Config) -> Policy:
        return Policy(Transformer(model), model.vocab_size, self.response_length)

    def judge(self, model: T5Config, input_length: int) -> PreferenceModel:
        return PreferenceModel(Transformer(model), SPECIAL, input_length)

    def trained(self, judge: TrainedJudge) -> PreferenceModel:
        return self.judge(judge.model, judge.input_length)

    def params(self, model: T5Config, dtype: str = "float32") -> Any:
        return abstract_params(Transformer(model), self.mesh, dtype)

    def state(self, model: T5Config, optimizer: Any) -> TrainState:
        return abstract_state(self.params(model), optimizer, self.mesh)

    def tokens(self, batch_size: int, *names: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Columns of a batch: prompts, and responses as wide as they get."""
        lengths = dict.fromkeys(names, self.response_length) | {"prompt": self.prompt_length}
        return {
            name: self.spread((batch_size, length), jnp.int32) for name, length in lengths.items()
        }

    def pairs(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """All columns of labelled pairs."""
        labels = {k: self.spread((batch_size,), dtype) for k, dtype in SCALAR_COLUMNS.items()}
        return self.tokens(batch_size, "response_a", "response_b") | labels

    def rows(self, batch_size: int) -> jax.ShapeDtypeStruct:
        return self.spread((batch_size,), jnp.int32)

    def spread(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(self.mesh))

    def key(self) -> jax.ShapeDtypeStruct:
        key = jax.eval_shape(lambda: jax.random.key(0))
        return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=replicated(self.mesh))

    def number(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(self.mesh))

    def caches(self, model: T5Config, batch_size: int, dtype: str | None) -> float:
        """Bytes a chip: keys and values of the prompts and of two responses to each."""
        shape = (model.num_heads,)
        cut = partition_spec(("heads",), shape, self.mesh.shape)[0]
        heads = model.num_heads / (self.mesh.shape["model"] if cut else 1)
        tokens = batch_size / num_batch_shards(self.mesh)
        tokens *= self.prompt_length + 2 * self.response_length
        width = 2 * heads * model.head_dim * np.dtype(jnp.dtype(dtype or model.dtype)).itemsize
        return model.num_decoder_layers * tokens * width


def sft(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """The update."""
    policy = shapes.policy(job["model"])
    yield _update(shapes, job, functools.partial(fine_tuning_loss, policy), sft_purposes)


def preference_model(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """The update, and the judgement of the validation split."""
    judge = shapes.judge(job["model"], job["input_length"])
    loss_function = functools.partial(preference_training_loss, judge)
    yield _update(shapes, job, loss_function, preference_purposes)
    yield _judgement(shapes, "judge", judge, job["batch_size"])


def relabel(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """The judgement."""
    yield _judgement(shapes, "judge", shapes.trained(job["judge"]), job["batch_size"])


def reference_scores(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """The reference's log-probs of both responses."""
    params = shapes.params(job["model"])
    batch = shapes.tokens(job["batch_size"], "response_a", "response_b")
    scorer = compile_scorer(shapes.policy(job["model"]), shapes.mesh)
    yield Program("score", scorer, (params, batch), {"frozen models": params, "batch": batch})


def align(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """The align step, online or offline."""
    policy, origin = shapes.policy(job["model"]), job["pair_origin"]
    number = job.get("num_microbatches", 1)
    check_parts(job["batch_size"], shapes.mesh, number, origin)
    dtype = job.get("frozen_dtype", "float32")
    source: Any = offline_pairs
    judge_params, caches = None, 0.0
    batch: dict[str, Any] = shapes.pairs(job["batch_size"])
    reference = shapes.params(job["model"], dtype)
    if isinstance(origin, Online):
        parts = origin.num_sampling_parts
        source = OnlinePairs(policy, shapes.trained(origin.judge), origin.sampling, parts)
        judge_params = shapes.params(origin.judge.model, dtype)
        caches = shapes.caches(job["model"], job["batch_size"] // parts, origin.sampling.dtype)
    elif origin.reference_scores_dir:
        reference = None
        batch["reference"] = shapes.spread((job["batch_size"], 2), jnp.float32)
    loss, reduction = job["objective"].parts
    step = AlignStep(policy, source, loss, reduction, job["optimizer"], number)
    state = shapes.state(job["model"], job["optimizer"])
    frozen = FrozenModels(reference, judge_params)
    function = compile_align_step(step, shapes.mesh, origin.records)
    rates = (shapes.number(), shapes.number())
    yield Program(
        "online step" if origin.records else "offline step",
        function,
        (state, batch, *rates, shapes.key(), frozen),
        {**_of_state(state), "frozen models": frozen, "batch": batch},
        caches,
    )


def sample_pairs(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """Sampling from one policy, and the judgement."""
    yield _sampler(shapes, job, compile_sampler)
    yield _judgement(shapes, "judge", shapes.trained(job["judge"]), job["batch_size"])


def evaluate(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """All that one checkpoint is asked. Both preference models and both policies are held."""
    functions = Functions.compiled(
        shapes.policy(job["model"]), job["sampling"], seed=0, mesh=shapes.mesh
    )
    policy = shapes.params(job["model"])
    held = {
        "parameters": policy,
        # The reference, the next checkpoint on its way, and both preference models.
        "frozen models": (
            policy,
            policy,
            shapes.params(job["golden"].model),
            shapes.params(job["proxy"].model),
        ),
    }
    sampler = _sampler(shapes, job, lambda *_: functions.sample)
    yield dataclasses.replace(sampler, held=sampler.held | held)
    both, size = (policy, policy), job["batch_size"]
    responses = {
        **shapes.tokens(size),
        "responses": shapes.spread((size, 1, shapes.response_length), jnp.int32),
    }
    yield Program("KL", functions.kl, (*both, responses), held)
    pairs = shapes.tokens(size, "response_a", "response_b")
    yield Program("log-probs", functions.scores, (*both, pairs), held)
    for name in ("golden", "proxy"):
        program = _judgement(shapes, f"judge ({name})", shapes.trained(job[name]), size)
        yield dataclasses.replace(program, held=program.held | held)


def classify_stream(shapes: Shapes, job: Mapping[str, Any]) -> Iterator[Program]:
    """Log-probs under one policy at a time, and the judgement."""
    yield from reference_scores(shapes, job)
    yield _judgement(shapes, "judge", shapes.trained(job["golden"]), job["batch_size"])


PROGRAMS = {
    f.__name__: f
    for f in (
        *(sft, preference_model, relabel, reference_scores),
        *(align, sample_pairs, evaluate, classify_stream),
    )
}


def programs_of(name: str, shapes: Shapes, job: Mapping[str, Any]) -> list[Program]:
    """The programs of a job.

    Args:
        job: its function's arguments as configured, without the vocabulary.

    Raises:
        ConfigError: it has none that this knows of, or its batches don't fit the mesh.
    """
    if name not in PROGRAMS:
        raise ConfigError(f"{name} compiles nothing to look at; try one of {', '.join(PROGRAMS)}")
    check_batch_size(job["batch_size"], shapes.mesh, job.get("num_microbatches", 1))
    return list(PROGRAMS[name](shapes, job))


def _of_state(state: TrainState) -> dict[str, Any]:
    return {"parameters": state.params, "optimizer": state.opt_state}


def _update(
    shapes: Shapes,
    job: Mapping[str, Any],
    loss_function: Callable,
    purposes: Sequence[Purpose],
) -> Program:
    state, batch = shapes.state(job["model"], job["optimizer"]), shapes.pairs(job["batch_size"])
    number = job.get("num_microbatches", 1)
    function = compile_supervised_step(loss_function, job["optimizer"], number, state, shapes.mesh)
    keys = {purpose: shapes.key() for purpose in purposes}
    arguments = (state, batch, shapes.number(), keys)
    return Program("train step", function, arguments, {**_of_state(state), "batch": batch})


def _judgement(shapes: Shapes, name: str, judge: PreferenceModel, batch_size: int) -> Program:
    function, params = compile_judge(judge, shapes.mesh), shapes.params(judge.transformer.config)
    batch = shapes.tokens(batch_size, "response_a", "response_b")
    return Program(name, function, (params, batch), {"frozen models": params, "batch": batch})


def _sampler(shapes: Shapes, job: Mapping[str, Any], compile_it: Callable) -> Program:
    policy, size = shapes.policy(job["model"]), job["batch_size"]
    function = compile_it(policy, job["sampling"], jax.random.key(0), shapes.mesh)
    params = shapes.params(job["model"])
    batch = {**shapes.tokens(size), "row": shapes.rows(size)}
    caches = shapes.caches(job["model"], size, job["sampling"].dtype)
    held = {"parameters": params, "batch": batch}
    return Program("sample", function, (params, batch), held, caches)
