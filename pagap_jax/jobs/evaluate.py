"""Measures every checkpoint of a run: KL, win rate, classification, log-prob shift (§4.1, §5).

In: a policy's run, π_sft, golden responses, D_golden, both preference models. Out: rows.jsonl.
"""

import json
from collections.abc import Callable
from typing import Any

import gin
from etils import epath
from jax.sharding import Mesh

from pagap_jax.errors import ConfigError
from pagap_jax.evaluation.examine import Examination
from pagap_jax.evaluation.judging import Judge
from pagap_jax.files import write_atomically
from pagap_jax.interop.opening import saved_steps
from pagap_jax.interop.restoring import restore_params
from pagap_jax.jobs.inputs import build_policy, choose_prompts, open_judge, open_pairs
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import check_batch_size, make_mesh
from pagap_jax.processes import are_several, is_first
from pagap_jax.records import EvalRow, row_to_dict
from pagap_jax.run_directory import RunDirectory, fingerprint_of, read_result, require_job
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.train.prefetch import Prefetch
from pagap_jax.train.state import abstract_params

RUN_FACTS = ("method", "loss", "reduction", "beta", "learning_rate", "train_steps", "seed")


@gin.configurable
def evaluate(
    model_dir: str,
    policy_dir: str,
    reference_checkpoint_path: str,
    golden_responses_dir: str,
    golden_pairs_dir: str,
    vocabulary: Any,
    model: T5Config,
    golden: T5Config,
    golden_checkpoint_path: str,
    proxy: T5Config,
    proxy_checkpoint_path: str,
    golden_input_length: int,
    proxy_input_length: int,
    sampling: SamplingMethod,
    kl_prompts: int,
    classification_pairs: int,
    batch_size: int,
    seed: int,
    study: str = "",
    study_dir: str = "",
    last_checkpoint_only: bool = False,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Writes a row for each checkpoint of the policy's run.

    Args:
        golden_responses_dir: of `sample_pairs` with the golden policy; its prompts are the win-rate
            prompts, its responses a the fixed baseline.
        golden_pairs_dir: D_golden.
        kl_prompts: of those prompts, how many KL and self-classification take.
        study_dir: checkpoints are named relative to it.
    """
    parents = {"policy": policy_dir, "reference": reference_checkpoint_path,
               "golden_responses": golden_responses_dir, "golden_pairs": golden_pairs_dir,
               "golden": golden_checkpoint_path, "proxy": proxy_checkpoint_path}  # fmt: skip
    with RunDirectory(model_dir, "evaluate", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        require_job(policy_dir, "a policy", "sft", "align")
        facts = read_result(policy_dir)
        if facts is None:
            raise ConfigError(f"{policy_dir} holds no finished run of a policy")
        mesh = mesh_maker()
        check_batch_size(batch_size, mesh)
        responses = open_pairs(golden_responses_dir, "train", vocabulary)
        policy = build_policy(model, vocabulary, responses.response_a.width)
        abstract = abstract_params(policy.transformer, mesh)

        def judge(config: T5Config, checkpoint: str, input_length: int) -> Judge:
            return open_judge(config, checkpoint, input_length, vocabulary, mesh, batch_size)

        examine = Examination(
            policy=policy,
            reference=restore_params(reference_checkpoint_path, abstract),
            golden=judge(golden, golden_checkpoint_path, golden_input_length),
            proxy=judge(proxy, proxy_checkpoint_path, proxy_input_length),
            golden_responses=responses,
            golden_pairs=choose_prompts(
                open_pairs(golden_pairs_dir, "train", vocabulary), classification_pairs, seed
            ),
            kl_prompts=kl_prompts,
            sampling=sampling,
            mesh=mesh,
            batch_size=batch_size,
            seed=seed,
        ).compiled()
        steps = saved_steps(policy_dir)
        steps = steps[-1:] if last_checkpoint_only else steps
        paths = [epath.Path(policy_dir) / "checkpoints" / str(step) for step in steps]

        def read(i: int) -> Any:
            return restore_params(str(paths[i]), abstract)

        # The next checkpoint is read while this one is measured. Not by several processes: reading
        # together they wait for each other, and so would the measuring thread.
        checkpoints = read if are_several() else Prefetch(read, len(steps))
        rows = []
        for i, step in enumerate(steps):
            rows.append(
                EvalRow(
                    study=study,
                    run=epath.Path(policy_dir).name,
                    step=step,
                    checkpoint=_relative(paths[i], study_dir),
                    fingerprint=fingerprint_of(policy_dir),
                    **{name: facts[name] for name in RUN_FACTS},
                    **examine(checkpoints(i)),
                )
            )
        write_rows(run, rows)
        return run.finish({"rows": len(rows), "peak_win_rate": max(r.win_rate for r in rows)})


def write_rows(run: RunDirectory, rows: list[EvalRow]) -> None:
    """One line a checkpoint, by the one process that writes."""
    text = "".join(json.dumps(row_to_dict(row)) + "\n" for row in rows)
    if is_first():
        write_atomically(run.path / "rows.jsonl", text.encode())


def _relative(path: epath.Path, folder: str) -> str:
    return path.relative_to(folder).as_posix() if folder else path.as_posix()
