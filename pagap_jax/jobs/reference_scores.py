"""Log-probs of a data set's responses under the reference, once instead of in every offline step.

In: pairs, π_sft. Out: scores.npz, which `align` takes where it was made of the same. The reference
never changes, so a sweep of offline runs from one π_sft needs its log-probs but once.
"""

import dataclasses
import functools
import io
import json
from collections.abc import Callable
from typing import Any

import gin
import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.compilation import FEW
from pagap_jax.data.reading import StoredPairs
from pagap_jax.data.vocabulary import describe_vocabulary
from pagap_jax.errors import ConfigError
from pagap_jax.evaluation.classification import score_responses
from pagap_jax.files import read_arrays, write_atomically
from pagap_jax.jobs.inputs import build_policy, open_pairs
from pagap_jax.lineage import fingerprint_of, require_job
from pagap_jax.mapping.batching import compile_for, map_batches
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import check_batch_size, make_mesh
from pagap_jax.policies import Policy
from pagap_jax.processes import is_first
from pagap_jax.ranges import Count, Place, Vocabulary
from pagap_jax.run_directory import RunDirectory
from pagap_jax.train.state import abstract_params

SCORES_FILE = "scores.npz"


@gin.configurable
def reference_scores(
    model_dir: Place,
    pairs_dir: Place,
    vocabulary: Vocabulary,
    model: T5Config,
    initial_checkpoint_path: Place,
    batch_size: Count,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Scores both responses of every training pair under the policy that will be the reference."""
    require_job(initial_checkpoint_path, "a policy", "sft", "align", "pretrain")
    parents = {"pairs": pairs_dir, "initial": initial_checkpoint_path}
    with RunDirectory(model_dir, "reference_scores", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        mesh = mesh_maker()
        check_batch_size(batch_size, mesh)
        pairs = open_pairs(pairs_dir, "train", vocabulary)
        policy = build_policy(model, vocabulary, pairs.response_a.width)
        params = restore_params(initial_checkpoint_path, abstract_params(policy.transformer, mesh))
        names = ("prompt", "response_a", "response_b")
        tokens = {name: getattr(pairs, name) for name in names}

        scores = map_batches(compile_scorer(policy, mesh), (params,), tokens, mesh, batch_size)
        made_of = origin(pairs_dir, initial_checkpoint_path, vocabulary, model, pairs)
        content = io.BytesIO()
        np.savez(content, scores=scores, origin=np.array(json.dumps(made_of)))
        if is_first():
            write_atomically(run.path / SCORES_FILE, content.getvalue())
        return run.finish({"pairs": len(pairs), "mean_log_prob": float(np.mean(scores))})


@functools.lru_cache(maxsize=FEW)
def compile_scorer(policy: Policy, mesh: Mesh) -> Callable:
    """Jits `(params, batch)`: summed log-probs of both responses."""

    def score(params: Any, batch: dict) -> jax.Array:
        return score_responses(policy, params, **batch)

    return compile_for(score, 1, mesh)


def origin(
    pairs_dir: str, checkpoint: str, vocabulary: Any, model: T5Config, pairs: StoredPairs
) -> dict[str, Any]:
    """All that the scores depend on, as JSON values."""
    config = dataclasses.asdict(model)
    for name in ("remat_policy", "scan_layers", "kernels"):  # how it is computed, not what
        del config[name]
    facts = {
        "pairs": fingerprint_of(pairs_dir),
        "checkpoint": fingerprint_of(checkpoint),
        "vocabulary": describe_vocabulary(vocabulary),
        "prompt_length": pairs.prompt.width,
        "response_length": pairs.response_a.width,
        "model": config,
    }
    return json.loads(json.dumps(facts))


def read_reference_scores(path: str, expected: dict[str, Any]) -> np.ndarray:
    """float32[E, 2] of a finished run of this job.

    Raises:
        ConfigError: there is none, or it was made of something else; names what.
    """
    file = epath.Path(path) / SCORES_FILE
    if not file.exists():
        raise ConfigError(f"{path} holds no finished run of `reference_scores`")
    arrays = read_arrays(file, "scores", "origin")
    scores, found = arrays["scores"], json.loads(str(arrays["origin"]))
    for name, value in expected.items():
        if found.get(name) != value:
            raise ConfigError(
                f"{path}: the reference's log-probs were made with another {name}: found"
                f" {found.get(name)}, this run's is {value}"
            )
    return scores
