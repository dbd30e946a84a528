"""Accuracy of the proxy model and of policies along D_online, against golden labels (Fig. 6).

In: D_online, π_sft, an online and an offline policy, the golden model. Out: stream_rows.jsonl.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import gin
import numpy as np
from etils import epath
from jax.sharding import Mesh

from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.data.reading import StoredPairs
from pagap_jax.errors import ConfigError
from pagap_jax.evaluation.classification import PairScores, classify
from pagap_jax.evaluation.stream import even_steps, label_accuracy, rows_around
from pagap_jax.files import write_atomically
from pagap_jax.intervals import Rate
from pagap_jax.jobs.evaluate import StudyLabels, facts_of
from pagap_jax.jobs.inputs import TrainedJudge, build_policy, open_pairs
from pagap_jax.jobs.reference_scores import compile_scorer
from pagap_jax.lineage import fingerprint_of, folder_of_run, require_job
from pagap_jax.mapping.batching import map_batches
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import check_batch_size, make_mesh
from pagap_jax.processes import is_first
from pagap_jax.ranges import Count, Place, Seed, Vocabulary
from pagap_jax.records import StreamRow, row_to_dict
from pagap_jax.run_directory import RunDirectory
from pagap_jax.train.state import abstract_params

PROXY = "proxy"


@gin.configurable
def classify_stream(
    model_dir: Place,
    stream_dir: Place,
    reference_checkpoint_path: Place,
    policy_paths: tuple[Place, ...],
    vocabulary: Vocabulary,
    model: T5Config,
    golden: TrainedJudge,
    steps: Count,
    pairs_per_step: Count,
    batch_size: Count,
    seed: Seed,
    study: StudyLabels,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Writes a row for each classifier and each of some evenly spaced steps of the stream.

    Args:
        stream_dir: D_online; its labels are the proxy model's.
        policy_paths: checkpoints of policies that started from the reference.
        steps: how many.
        pairs_per_step: drawn from the batches next to a step.
    """
    require_job(stream_dir, "D_online of an online run", "align")
    for path in policy_paths:
        require_job(path, "a policy", "sft", "align")
    policies = {f"policy {i}": path for i, path in enumerate(policy_paths)}
    parents = {"stream": stream_dir, "reference": reference_checkpoint_path,
               "golden": golden.checkpoint_path, **policies}  # fmt: skip
    with RunDirectory(model_dir, "classify_stream", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        mesh = mesh_maker()
        check_batch_size(batch_size, mesh)
        sample = Sample.drawn(
            open_pairs(stream_dir, "train", vocabulary), steps, pairs_per_step, seed
        )
        columns = sample.columns
        judge = golden.compiled(vocabulary, mesh, batch_size, sample.pairs.response_a.width)
        truth = judge(*columns.values()).choice
        policy = build_policy(model, vocabulary, sample.pairs.response_a.width)
        abstract, scorer = abstract_params(policy.transformer, mesh), compile_scorer(policy, mesh)

        def scores(path: str) -> np.ndarray:
            params = restore_params(path, abstract)
            return map_batches(scorer, (params,), columns, mesh, batch_size)

        reference = scores(reference_checkpoint_path)
        found = {PROXY: ("", sample.label_rates(truth))}
        for path in policy_paths:
            rates = sample.policy_rates(PairScores(scores(path), reference), truth)
            found[facts_of(_run_of(path))["arm"]] = study.named(epath.Path(path)), rates
        rows = rows_of(_run_of(stream_dir), study, sample, found)
        if is_first():
            text = "".join(json.dumps(row_to_dict(row)) + "\n" for row in rows)
            write_atomically(run.path / "stream_rows.jsonl", text.encode())
        return run.finish({"rows": len(rows), "pairs": len(sample.pairs)})


@dataclasses.dataclass(frozen=True)
class Sample:
    """Pairs around some steps of a stream, those of one step behind those of another.

    Attributes:
        around: the steps; `first` and `last`: at which the pairs of each were sampled.
        parts: where the pairs of each step lie.
    """

    pairs: StoredPairs
    around: list[int]
    first: list[int]
    last: list[int]
    parts: list[slice]

    @classmethod
    def drawn(cls, stream: StoredPairs, steps: int, pairs: int, seed: int) -> "Sample":
        """`pairs` pairs around each of `steps` evenly spaced steps."""
        around = even_steps(int(stream.step.max()) + 1, steps)
        rows = [rows_around(stream.step, step, pairs, seed) for step in around]
        ends = np.cumsum([len(chosen) for chosen in rows]).tolist()
        parts = [slice(end - len(chosen), end) for end, chosen in zip(ends, rows, strict=True)]
        first, last = (
            [int(extreme(stream.step[chosen])) for chosen in rows] for extreme in (np.min, np.max)
        )
        return cls(stream.view(np.concatenate(rows)), around, first, last, parts)

    @property
    def columns(self) -> dict[str, Any]:
        """Prompts and both responses."""
        names = ("prompt", "response_a", "response_b")
        return {name: getattr(self.pairs, name) for name in names}

    def label_rates(self, truth: np.ndarray) -> list[Rate]:
        """Accuracy of the stream's own labels, by step."""
        choice, ids = self.pairs.choice, self.pairs.prompt_id
        return [label_accuracy(choice[part], truth[part], ids[part]) for part in self.parts]

    def policy_rates(self, scores: PairScores, truth: np.ndarray) -> list[Rate]:
        """Accuracy of the sign of h, by step; scores and truth are of all pairs."""
        parts = [(PairScores(scores.policy[p], scores.reference[p]), p) for p in self.parts]
        return [classify(of, truth[p], self.pairs.prompt_id[p]) for of, p in parts]


def rows_of(
    online: str, study: StudyLabels, sample: Sample, found: dict[str, tuple[str, list[Rate]]]
) -> list[StreamRow]:
    """A row a classifier and step.

    Args:
        online: folder of the run whose stream it is.
        found: each classifier's checkpoint, as rows name it, and its accuracy by step.
    """
    identity = facts_of(online) | {"run": epath.Path(online).name, "study": study.study}
    identity |= {"task": study.task, "fingerprint": fingerprint_of(online)}
    return [
        StreamRow(
            **identity,
            step=sample.around[i],
            classifier=classifier,
            classifier_checkpoint=checkpoint,
            pairs_first_step=sample.first[i],
            pairs_last_step=sample.last[i],
            accuracy=rate.rate,
            accuracy_low=rate.low,
            accuracy_high=rate.high,
            accuracy_pairs=rate.count,
        )
        for classifier, (checkpoint, rates) in found.items()
        for i, rate in enumerate(rates)
    ]


def _run_of(path: str) -> str:
    """The folder of the run that an artefact lies in.

    Raises:
        ConfigError: no run of ours made it.
    """
    found = folder_of_run(path)
    if found is None:
        raise ConfigError(f"{path}: found no run of `pagap align` there, expected one")
    return str(found)
