"""Relabelling of a data set by the golden preference model: D_initial to D_golden (§4.1, Fig. 2).

In: pairs, a preference model's run. Out: the same pairs with its choices and probabilities.
"""

from collections.abc import Callable

import gin
import numpy as np
from jax.sharding import Mesh

from pagap_jax.data.stored import write_token_pairs
from pagap_jax.data.stored_metadata import is_complete, read_metadata
from pagap_jax.jobs.inputs import TrainedJudge, open_pairs
from pagap_jax.mapping.judging import labelled
from pagap_jax.mapping.kept import Kept
from pagap_jax.model.sharding import check_batch_size, make_mesh
from pagap_jax.processes import is_first
from pagap_jax.ranges import Count, Place, Vocabulary
from pagap_jax.run_directory import KEPT, RunDirectory
from pagap_jax.run_warnings import check_limits


@gin.configurable
def relabel(
    model_dir: Place,
    pairs_dir: Place,
    vocabulary: Vocabulary,
    judge: TrainedJudge,
    batch_size: Count,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Labels every pair of every split by the sign of r(x, a, b) − r(x, b, a)."""
    parents = {"pairs": pairs_dir, "judge": judge.checkpoint_path}
    with RunDirectory(model_dir, "relabel", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        mesh = mesh_maker()
        check_batch_size(batch_size, mesh)
        metadata = read_metadata(pairs_dir)
        golden = judge.compiled(vocabulary, mesh, batch_size, int(metadata["response_length"]))
        relabelled, result, kept = {}, {}, Kept(run.path / KEPT)
        for split in metadata["splits"]:
            pairs = open_pairs(pairs_dir, split, vocabulary)
            columns = pairs.prompt, pairs.response_a, pairs.response_b
            judged = golden(*columns, kept=kept.of(split))
            if is_first():
                relabelled[split] = labelled(pairs.whole(), judged)
            result[split] = {
                "pairs": len(pairs),
                "agrees_with_label": _agreement(judged.choice, pairs.choice),
                "agrees_with_truth": _agreement(judged.choice, pairs.true_choice),
                "ties": int(np.sum(judged.choice < 0)),
                "prompt_truncated": float(np.mean(judged.prompt_truncated)),
            }
            check_limits(run, {"prompt_truncated": result[split]["prompt_truncated"]})
        if is_first() and not is_complete(run.path):
            write_token_pairs(run.path, relabelled, vocabulary, result)
        kept.delete()
        return run.finish(result)


def _agreement(choice: np.ndarray, truth: np.ndarray) -> float | None:
    known = (truth >= 0) & (choice >= 0)
    return float(np.mean(choice[known] == truth[known])) if known.any() else None
