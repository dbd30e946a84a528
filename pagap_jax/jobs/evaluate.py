"""Measures every checkpoint of a run: KL, win rate, classification, log-prob shift (§4.1, §5).

In: a policy's run, π_sft, golden responses, D_golden, both preference models. Out: rows.jsonl,
outcomes.npz with what their rates are made of, prompt by prompt, and samples.jsonl with a few of
the responses as text.
"""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import gin
import numpy as np
from etils import epath
from jax.sharding import Mesh

from pagap_jax.checkpoints.opening import saved_steps
from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.data.reading import StoredPairs
from pagap_jax.errors import ConfigError
from pagap_jax.evaluation.examine import Examination, Measured
from pagap_jax.evaluation.kept_measures import KeptMeasures
from pagap_jax.evaluation.shown import samples_as_rows, shown_texts
from pagap_jax.extension import CHECKPOINTS
from pagap_jax.files import write_atomically
from pagap_jax.jobs.inputs import TrainedJudge, build_policy, open_pairs
from pagap_jax.lineage import fingerprint_of, require_job
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import check_batch_size, make_mesh
from pagap_jax.processes import are_several, is_first
from pagap_jax.ranges import Count, Place, Seed, Vocabulary
from pagap_jax.records import CheckpointRow, RowIdentity, row_to_dict
from pagap_jax.run_directory import KEPT, RunDirectory, read_result
from pagap_jax.run_warnings import check_limits
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.streams import Purpose, choose_rows
from pagap_jax.train.prefetch import Prefetch
from pagap_jax.train.state import abstract_params


@gin.configurable
@dataclasses.dataclass(frozen=True)
class StudyLabels:
    """What rows say of the study; checkpoints are named relative to its folder."""

    study: str = ""
    task: str = ""
    study_dir: Place | Literal[""] = ""

    def named(self, path: epath.Path) -> str:
        """A place in the study's folder, without the folder; the whole place without a study.

        Raises:
            ConfigError: it isn't in there.
        """
        if not self.study_dir:
            return path.as_posix()
        try:
            return path.relative_to(self.study_dir).as_posix()
        except ValueError as error:
            raise ConfigError(
                f"POLICY_DIR: found {path}, expected it in {self.study_dir}"
            ) from error


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Sizes:
    """On how much is measured; the win rate is on all golden responses.

    Attributes:
        kl_prompts: of those prompts, how many KL and self-classification take.
        classification_pairs: of D_golden.
    """

    kl_prompts: Count
    classification_pairs: Count

    def classification_rows(self, number_of_pairs: int, seed: int) -> np.ndarray:
        """The rows of D_golden that policies classify, drawn at random."""
        number = self.classification_pairs
        return choose_rows(number_of_pairs, number, seed, Purpose.CLASSIFICATION_PAIRS)


@gin.configurable
def evaluate(
    model_dir: Place,
    policy_dir: Place,
    reference_checkpoint_path: Place,
    golden_responses_dir: Place,
    golden_pairs_dir: Place,
    vocabulary: Vocabulary,
    model: T5Config,
    golden: TrainedJudge,
    proxy: TrainedJudge,
    sampling: SamplingMethod,
    sizes: Sizes,
    batch_size: Count,
    seed: Seed,
    study: StudyLabels,
    last_checkpoint_only: bool = False,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Writes a row for each checkpoint of the policy's run.

    Args:
        golden_responses_dir: of `sample_pairs` with the golden policy; its prompts are the win-rate
            prompts, its responses a the fixed baseline.
        golden_pairs_dir: D_golden.
    """
    parents = {"policy": policy_dir, "reference": reference_checkpoint_path,
               "golden_responses": golden_responses_dir, "golden_pairs": golden_pairs_dir,
               "golden": golden.checkpoint_path, "proxy": proxy.checkpoint_path}  # fmt: skip
    with RunDirectory(model_dir, "evaluate", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        facts, _ = facts_of(policy_dir), study.named(epath.Path(policy_dir))
        mesh = mesh_maker()
        check_batch_size(batch_size, mesh)
        responses = open_pairs(golden_responses_dir, "train", vocabulary)
        policy = build_policy(model, vocabulary, responses.response_a.width)
        abstract = abstract_params(policy.transformer, mesh)
        data = open_pairs(golden_pairs_dir, "train", vocabulary)
        examination = Examination(
            policy=policy,
            reference=restore_params(reference_checkpoint_path, abstract),
            golden=golden.compiled(vocabulary, mesh, batch_size, policy.response_length),
            proxy=proxy.compiled(vocabulary, mesh, batch_size, policy.response_length),
            golden_responses=responses,
            golden_pairs=data.view(sizes.classification_rows(len(data), seed)),
            kl_prompts=sizes.kl_prompts,
            sampling=sampling,
            mesh=mesh,
            batch_size=batch_size,
            seed=seed,
        )
        steps = saved_steps(policy_dir)[-1 if last_checkpoint_only else 0 :]
        measured = measure_checkpoints(run, policy_dir, steps, abstract, examination)
        by_step = zip(steps, measured, strict=True)
        rows = [row_of(study, policy_dir, step, facts, one) for step, one in by_step]
        write_rows(run, rows, measured, examination.known())
        write_samples(run, rows, measured, responses, vocabulary)
        warn_of(run, rows, examination.known())
        return run.finish({"rows": len(rows), "peak_win_rate": max(r.win_rate for r in rows)})


def facts_of(policy_dir: str) -> dict[str, Any]:
    """What a finished run of a policy says of itself: the beginning of its rows.

    Raises:
        ConfigError: there is none, or one of a version that said less.
    """
    require_job(policy_dir, "a policy", "sft", "align")
    found = read_result(policy_dir)
    if found is None:
        raise ConfigError(f"{policy_dir} holds no finished run of a policy")
    own = {"study", "task", "run", "step", "fingerprint"}
    names = [field.name for field in dataclasses.fields(RowIdentity) if field.name not in own]
    if missing := [name for name in names if name not in found]:
        raise ConfigError(
            f"{policy_dir}/result.json: found no {', '.join(missing)}, expected them in a run of"
            " this version: train it again"
        )
    return {name: found[name] for name in names}


def checkpoint_of(policy_dir: str, step: int) -> epath.Path:
    """The folder of a step."""
    return epath.Path(policy_dir) / CHECKPOINTS / str(step)


def measure_checkpoints(
    run: RunDirectory,
    policy_dir: str,
    steps: Sequence[int],
    abstract: Any,
    examination: Examination,
) -> list[Measured]:
    """Every step measured; the next checkpoint is read while one is measured."""
    kept = KeptMeasures(run.path / KEPT)
    found = {step: kept.read(step) for step in steps}
    missing = [step for step, measured in found.items() if measured is None]
    if len(missing) < len(steps) and is_first():
        print(
            f"evaluate: goes on, {len(steps) - len(missing)} of {len(steps)} steps are measured",
            flush=True,
        )
    examine = examination.compiled()

    def read(i: int) -> Any:
        return restore_params(str(checkpoint_of(policy_dir, missing[i])), abstract)

    # Not read ahead by several processes: reading together they wait for each other, and so would
    # the measuring thread.
    checkpoints = read if are_several() else Prefetch(read, len(missing))
    for i, step in enumerate(missing):
        found[step] = measured = examine(checkpoints(i))
        kept.write(step, measured)
    return [measured for measured in found.values() if measured is not None]


def row_of(
    study: StudyLabels, policy_dir: str, step: int, facts: dict[str, Any], measured: Measured
) -> CheckpointRow:
    """The row of one checkpoint."""
    return CheckpointRow(
        study=study.study,
        task=study.task,
        run=epath.Path(policy_dir).name,
        step=step,
        checkpoint=study.named(checkpoint_of(policy_dir, step)),
        fingerprint=fingerprint_of(policy_dir),
        **facts,
        **measured.fields,
    )


def warn_of(run: RunDirectory, rows: Sequence[CheckpointRow], known: dict[str, np.ndarray]) -> None:
    """Warns of too few prompts (a prompt that fills up counts once) and of what rows show.

    Args:
        known: of `Examination.known`.
    """
    ids = {"kl_prompts": "kl_prompt_id", "win_rate_prompts": "prompt_id"}
    check_limits(run, {name: len(np.unique(known[of])) for name, of in ids.items()})
    for row in rows:
        gap = {"proxy_above_golden": row.proxy_win_rate - row.win_rate}
        check_limits(run, row_to_dict(row) | gap, row.step)


def write_rows(
    run: RunDirectory,
    rows: Sequence[CheckpointRow],
    measured: Sequence[Measured],
    known: dict[str, np.ndarray],
) -> None:
    """A line a checkpoint, and what they are made of, by the one process that writes."""
    if not is_first():
        return
    outcomes: dict[str, Any] = {
        name: np.stack([one.outcomes[name] for one in measured]) for name in measured[0].outcomes
    }
    steps = np.array([row.step for row in rows], np.int32)
    content = io.BytesIO()
    np.savez(content, **{"step": steps, **known, **outcomes})
    write_atomically(run.path / "outcomes.npz", content.getvalue())
    text = "".join(json.dumps(row_to_dict(row)) + "\n" for row in rows)
    write_atomically(run.path / "rows.jsonl", text.encode())


def write_samples(
    run: RunDirectory,
    rows: Sequence[CheckpointRow],
    measured: Sequence[Measured],
    golden_responses: StoredPairs,
    vocabulary: Any,
) -> None:
    """A line for each checkpoint and shown prompt, by the one process that writes."""
    if not is_first():
        return
    texts = shown_texts(golden_responses, vocabulary)
    lines = [
        json.dumps({"checkpoint": row.checkpoint, "step": row.step, **sample}, ensure_ascii=False)
        for row, one in zip(rows, measured, strict=True)
        for sample in samples_as_rows(texts, one.shown, vocabulary)
    ]
    write_atomically(run.path / "samples.jsonl", "".join(f"{line}\n" for line in lines).encode())
    (run.path / KEPT).rmtree(missing_ok=True)  # all that came of it is written
