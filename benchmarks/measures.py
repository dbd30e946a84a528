"""What is measured: each a fast program and the plain reference, on the same model and sizes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import plain
from benchmarks.counts import Counts, Machine
from pagap_jax.align.offline import offline_pairs
from pagap_jax.align.online import OnlinePairs
from pagap_jax.align.step import AlignStep, FrozenModels, Reduction
from pagap_jax.data.reading import StoredPairs
from pagap_jax.data.vocabulary import SpecialIds
from pagap_jax.evaluation.classification import score_responses
from pagap_jax.evaluation.examine import Examination
from pagap_jax.losses.alignment import AlignmentLoss
from pagap_jax.mapping.judging import Judge
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.train.optimizer import adafactor
from pagap_jax.train.state import init_params, init_state

BETA, RATE = 0.1, np.float32(1e-5)
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A model and a batch."""

    config: T5Config
    batch: int
    prompt: int
    response: int


T5_1_1_SMALL = T5Config(
    vocab_size=32128, dtype="float32", emb_dim=512, num_heads=6, num_encoder_layers=8,
    num_decoder_layers=8, head_dim=64, mlp_dim=1024, mlp_activations=("gelu", "linear"),
    dropout_rate=0.0,
)  # fmt: skip
TINY = dataclasses.replace(
    T5_1_1_SMALL, vocab_size=256, emb_dim=32, num_heads=2, num_encoder_layers=1,
    num_decoder_layers=1, head_dim=16, mlp_dim=32,
)  # fmt: skip
SIZES = {"small": Sizes(T5_1_1_SMALL, 8, 512, 64), "tiny": Sizes(TINY, 2, 256, 4)}


@dataclasses.dataclass(frozen=True)
class Measure:
    """Programs that do the same, by name; the first is the one that is judged.

    Attributes:
        per: what a rate counts, and how many of them one call makes.
        limit: the seconds that the machine would need for what must be done.
        limits: of programs that must do less.
    """

    name: str
    per: tuple[str, int]
    programs: dict[str, Callable[[], Any]]
    limit: float
    limits: dict[str, float] = dataclasses.field(default_factory=dict)


class Bench:
    """Models, a batch and all measures of them."""

    def __init__(self, sizes: Sizes, machine: Machine):
        """Makes random models and prompts; nothing is compiled yet."""
        self.sizes, self.machine = sizes, machine
        config, vocab = sizes.config, sizes.config.vocab_size
        self.mesh = make_mesh()
        self.policy = Policy(Transformer(config), vocab - 28, sizes.response)
        special = SpecialIds(*range(vocab - 1, vocab - 9, -1))
        length = sizes.prompt + 2 * sizes.response + 2
        self.judge = PreferenceModel(Transformer(config), special, length)
        self.params, self.reference, self.judging = (
            init_params(self.policy.transformer, jax.random.key(seed), self.mesh)
            for seed in range(3)
        )
        random = np.random.default_rng(0)
        high = vocab - 28

        def tokens(width: int) -> np.ndarray:
            return random.integers(2, high, (sizes.batch, width)).astype(np.int32)

        self.batch = {
            "prompt": tokens(sizes.prompt),
            "response_a": tokens(sizes.response),
            "response_b": tokens(sizes.response),
            "choice": random.integers(0, 2, sizes.batch).astype(np.int8),
            "probability": np.full(sizes.batch, np.nan, np.float32),
        }
        self.counts = Counts(config, sizes.batch, sizes.prompt, 2, sizes.response)
        self.judge_counts = Counts(config, 2 * sizes.batch, length, 1, 1)
        self.optimizer = adafactor()

    def measures(self) -> list[Measure]:
        """In the order of the table."""
        return [
            self.sampling(),
            self.offline(),
            self.scoring(),
            self.online(),
            self.evaluation(),
        ]

    def sampling(self) -> Measure:
        """Two samples a prompt, all of full length; with the encoder."""
        sizes, policy = self.sizes, self.policy

        def fast(method: SamplingMethod) -> Callable[[], Any]:
            @jax.jit
            def sample(params, prompt):
                return policy.sample(params, policy.encode(params, prompt), KEY, 2, method).tokens

            return lambda: sample(self.params, self.batch["prompt"])

        slow = jax.jit(self._plain_sample)
        return Measure(
            "sampling",
            ("tokens", sizes.batch * 2 * sizes.response),
            {
                "ours": fast(SamplingMethod()),
                "ours, bfloat16": fast(SamplingMethod(dtype="bfloat16")),
                "plain": lambda: slow(self.params, self.batch["prompt"]),
            },
            self.counts.sampling_seconds(self.machine),
        )

    def offline(self) -> Measure:
        """One step, the reference run in it, and with its log-probs known."""
        step, state = self._align_step(offline_pairs), self._state()
        scores = jax.jit(functools.partial(score_responses, self.policy))
        of_pairs = {k: self.batch[k] for k in ("prompt", "response_a", "response_b")}
        known = {**self.batch, "reference": np.asarray(scores(self.reference, **of_pairs))}
        forward = self.counts.forward()
        return Measure(
            "offline step",
            ("pairs", self.sizes.batch),
            {
                "ours": lambda: step(state, self.batch, FrozenModels(self.reference, None)),
                "ours, reference stored": lambda: step(state, known, FrozenModels(None, None)),
                "plain": lambda: self._plain_step(self.batch),
            },
            4 * forward / self.machine.flops,
            {"ours, reference stored": 3 * forward / self.machine.flops},
        )

    def scoring(self) -> Measure:
        """Both orders of each pair."""
        judge = jax.jit(self.judge.judge)
        arrays = [self.batch[k] for k in ("prompt", "response_a", "response_b")]
        return Measure(
            "preference model",
            ("pairs", self.sizes.batch),
            {
                "ours": lambda: judge(self.judging, *arrays),
                "plain": lambda: self._plain_judge(*arrays),
            },
            self.judge_counts.forward() / self.machine.flops,
        )

    def online(self) -> Measure:
        """One step: samples, judgement, update."""
        source = OnlinePairs(self.policy, self.judge, SamplingMethod())
        step, state = self._align_step(source), self._state()
        frozen = FrozenModels(self.reference, self.judging)
        counts, machine = self.counts, self.machine
        seconds = counts.sampling_seconds(machine)
        flops = 4 * counts.forward() - counts.encoder + self.judge_counts.forward()
        return Measure(
            "online step",
            ("prompts", self.sizes.batch),
            {
                "ours": lambda: step(state, self.batch, frozen),
                "plain": self._plain_online,
            },
            seconds + flops / machine.flops,
        )

    def evaluation(self) -> Measure:
        """One checkpoint on prompts of all lengths, in two batches; the KL of one of them."""
        number, rows = self.sizes.batch, self.sizes.batch // 2
        longest = self.sizes.prompt
        lengths = np.linspace(longest // 8, longest, number).astype(int)[:, None]
        columns = {**self.batch, "prompt": self.batch["prompt"] * (np.arange(longest) < lengths)}
        unknown = np.full(number, -1, np.int8)
        known = {"true_choice": unknown, "step": unknown.astype(np.int32)}
        pairs: Any = StoredPairs(**columns, **known, prompt_id=np.arange(number))
        judge = Judge.compiled(self.judge, self.judging, self.mesh, rows)
        examine = Examination(
            self.policy, self.reference, judge, judge, pairs, pairs, rows, SamplingMethod(),
            self.mesh, rows, 0,
        ).compiled()  # fmt: skip
        # As if all prompts were of the mean length: attention needs no less.
        mean, judged = int(lengths.mean()), longest + 2 * self.sizes.response + 2
        counts = dataclasses.replace(self.counts, batch=rows, prompt=mean)
        judgement = dataclasses.replace(
            self.judge_counts, batch=2 * rows, prompt=judged - longest + mean
        ).forward()
        # Of both batches: two judgements, log-probs of the data's pairs under both models; of one
        # also a judgement, KL and the log-probs of the policy's own pairs.
        flops = 2 * (2 * judgement + 2 * counts.forward()) + judgement + 4 * counts.forward()
        return Measure(
            "evaluation",
            ("prompts", number),
            {
                "ours": lambda: examine(self.params),
                "plain": lambda: self._plain_evaluation(pairs, rows),
            },
            2 * counts.sampling_seconds(self.machine) + flops / self.machine.flops,
        )

    def _align_step(self, source: Any) -> Callable:
        step = AlignStep(self.policy, source, AlignmentLoss.IPO, Reduction.SUM, self.optimizer)
        jitted = jax.jit(step)
        return lambda state, batch, frozen: jitted(state, batch, RATE, BETA, KEY, frozen)

    def _state(self) -> Any:
        return init_state(self.params, self.optimizer, self.mesh)

    def _plain_sample(self, params: Any, prompt: jax.Array) -> jax.Array:
        response = self.sizes.response
        size = self.policy.sampleable_size
        return plain.sample(params, self.sizes.config, prompt, KEY, 2, response, size)

    @functools.cached_property
    def _plain_jits(self) -> dict[str, Callable]:
        config = self.sizes.config
        return {
            "sample": jax.jit(self._plain_sample),
            "judge": jax.jit(functools.partial(plain.judge, self.judge)),
            "score": jax.jit(lambda *a: plain.score(a[0], config, *a[1:])),
            "kl": jax.jit(lambda *a: plain.next_token_kl(*a[:2], config, *a[2:])),
            "step": jax.jit(
                functools.partial(
                    plain.offline_step, config=config, optimizer=self.optimizer, beta=BETA
                )
            ),
        }

    @functools.cached_property
    def _plain_optimizer_state(self) -> Any:
        return self.optimizer.init(self.params)

    def _plain_step(self, batch: dict) -> Any:
        state = self._plain_optimizer_state
        return self._plain_jits["step"](self.params, state, self.reference, batch, RATE)

    def _plain_judge(self, prompt, a, b) -> jax.Array:
        judge = self._plain_jits["judge"]
        first, second = judge(self.judging, prompt, a, b), judge(self.judging, prompt, b, a)
        return 0.5 + 0.5 * (jax.nn.sigmoid(first) - jax.nn.sigmoid(second))

    def _plain_online(self) -> Any:
        prompt = self.batch["prompt"]
        samples = self._plain_jits["sample"](self.params, prompt)
        a, b = samples[:, 0], samples[:, 1]
        choice = jnp.where(self._plain_judge(prompt, a, b) > 0.5, 0, 1)
        return self._plain_step(
            {"prompt": prompt, "response_a": a, "response_b": b, "choice": choice}
        )

    def _plain_evaluation(self, pairs: StoredPairs, size: int) -> list[Any]:
        jits, results = self._plain_jits, []
        for i in range(0, len(pairs), size):
            rows = slice(i, i + size)
            prompt, data = pairs.prompt[rows], (pairs.response_a[rows], pairs.response_b[rows])
            samples = jits["sample"](self.params, prompt)
            first, second = samples[:, 0], samples[:, 1]
            results += [self._plain_judge(prompt, first, data[0]) for _ in ("golden", "proxy")]
            for of in (self.params, self.reference):
                results += [jits["score"](of, prompt, response) for response in data]
            if i < size:
                results += [self._plain_judge(prompt, first, second)]
                results += [jits["kl"](self.params, self.reference, prompt, first)]
                for of in (self.params, self.reference):
                    results += [jits["score"](of, prompt, x) for x in (first, second)]
        return results
