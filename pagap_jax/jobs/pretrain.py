"""Pretraining of the tiny T5s that ship with the package (not from the paper).

In: a data set of token pairs (labels unused). Out: a checkpoint any job can start from.
Two runs: tags first, then tags and verdicts from that checkpoint.
"""

import functools
from collections.abc import Callable, Mapping

import gin
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from pagap_jax.array_types import Array
from pagap_jax.checkpoints.converting import save_params
from pagap_jax.data.batches import SHUFFLED
from pagap_jax.data.corruption import category_table, replace_words
from pagap_jax.data.reading import read_token_pairs
from pagap_jax.data.stored import TokenPairs
from pagap_jax.data.tickets import word_categories
from pagap_jax.data.vocabulary import END_ID, tickets_vocabulary
from pagap_jax.errors import GateError
from pagap_jax.files import read_json_lines
from pagap_jax.jobs.inputs import build_judge
from pagap_jax.losses.pretraining import tag_loss, verdict_loss
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.preference_models import Params, PreferenceModel
from pagap_jax.ranges import Count, InputLength, NotNegative, Optimizer, Place, Seed
from pagap_jax.run_directory import RunDirectory
from pagap_jax.streams import Purpose, generator_for
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.step import Keys, Metrics
from pagap_jax.train.supervised import train_supervised

REPLACED_SHARE = 0.2
BATCH_COLUMNS = ("prompt", "response_a", "response_b", "replaced_a", "replaced_b")


@gin.configurable
def pretrain(
    model_dir: Place,
    pairs_dir: Place,
    model: T5Config,
    input_length: InputLength,
    learning_rate: LearningRate,
    loop: TrainLoop,
    batch_size: Count,
    seed: Seed,
    optimizer: Optimizer,
    verdict_weight: NotNegative = 0.0,
    max_final_loss: NotNegative | None = None,
    initial_checkpoint_path: Place | None = None,
    mesh_maker: Callable[..., Mesh] = make_mesh,
    config_text: str = "",
) -> dict:
    """Teaches a tiny T5 to spot replaced words and, with a weight, to name the better response.

    Args:
        verdict_weight: of the verdict; above 0 the tags also tell the two responses apart.
        max_final_loss: mean of the last row of metrics must not be above (a plateau of the tags
            looks like convergence, and a model from before its end is worth nothing).

    Raises:
        GateError: the final loss is above `max_final_loss`.
    """
    parents = {"pairs": pairs_dir, "initial": initial_checkpoint_path}
    with RunDirectory(model_dir, "pretrain", config_text, parents) as run:
        if (done := run.result()) is not None:
            return done
        vocabulary = tickets_vocabulary()
        pairs = read_token_pairs(pairs_dir, "train")
        judge = build_judge(model, input_length, vocabulary, pairs.response_a.shape[1])
        table = category_table(
            word_categories(), lambda word: vocabulary.encode(word)[0], model.vocab_size
        )

        state = train_supervised(
            run,
            transformer=judge.transformer,
            mesh=mesh_maker(),
            loss_function=functools.partial(pretraining_loss, judge, verdict_weight),
            purposes=(Purpose.DROPOUT,),
            batch_at=lambda step: corrupted_batch(pairs, table, batch_size, step, seed),
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            loop=loop,
            seed=seed,
            initial_checkpoint_path=initial_checkpoint_path,
        )
        loss = last_logged(run, "tag_loss")
        check_off_the_plateau(loss, max_final_loss)
        # Half the size at no cost that could be measured: it is only a place to start from.
        half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params)
        save_params(run.path / "export", half)
        return run.finish({"tag_loss": loss})


def check_off_the_plateau(loss: float, max_final_loss: float | None) -> None:
    """Raises GateError where the tags have not been learnt."""
    if max_final_loss is not None and loss > max_final_loss:
        raise GateError(
            f"pretraining ended at a tag loss of {loss:.3f}, needs {max_final_loss}:"
            " still on its plateau; train longer or take another seed"
        )


def corrupted_batch(
    pairs: TokenPairs, table: list[np.ndarray], batch_size: int, step: int, seed: int
) -> dict[str, np.ndarray]:
    """A batch with words of both responses replaced, and where; a function of (seed, step)."""
    index = SHUFFLED.rows(len(pairs), batch_size, step, seed)
    rng = generator_for(seed, Purpose.REPLACED_WORDS, step)
    a, replaced_a = replace_words(pairs.response_a[index], table, REPLACED_SHARE, rng)
    b, replaced_b = replace_words(pairs.response_b[index], table, REPLACED_SHARE, rng)
    arrays = (pairs.prompt[index], a, b, replaced_a, replaced_b)
    return dict(zip(BATCH_COLUMNS, arrays, strict=True))


def pretraining_loss(
    judge: PreferenceModel,
    verdict_weight: float,
    params: Params,
    batch: Mapping[str, jax.Array],
    keys: Keys,
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Metrics]]:
    """Tags at the encoder's output, and the verdict of one decoder step.

    Args:
        batch: prompt [B, P], response_a, response_b, replaced_a and replaced_b [B, R].

    Returns:
        Mean nats a word plus the weighted nats a pair, the number of pairs, and metrics.
    """
    key = keys[Purpose.DROPOUT]
    special = judge.special
    composed = judge.compose(batch["prompt"], batch["response_a"], batch["response_b"])
    # The same composer lays the marks of replaced words where their words went: 1 kept, 2 replaced.
    marks = judge.compose(
        batch["prompt"],
        batch["replaced_a"] * 1 + (batch["response_a"] > 0),
        batch["replaced_b"] * 1 + (batch["response_b"] > 0),
    ).tokens
    is_word = (
        (composed.segments > 0)
        & (composed.tokens != special.marker_a)
        & (composed.tokens != special.marker_b)
        & (composed.tokens != END_ID)
    )
    encoded = judge.encode(params, composed.tokens, composed.segments, key)
    ids = [special.tag_ok_a, special.tag_bad_a]
    tags = (marks == 2) * 1
    if verdict_weight:
        ids += [special.tag_ok_b, special.tag_bad_b]
        tags = tags + 2 * (composed.segments == 2)
    logits = judge.transformer.apply({"params": params}, encoded, method=Transformer.logits)
    loss = tags_loss = tag_loss(logits[:, :, jnp.array(ids)], tags, is_word)
    metrics = {"tag_loss": tags_loss}
    if verdict_weight:
        verdict = judge.verdict_logits(params, encoded, composed.tokens, key)
        log_odds = verdict[:, special.verdict_a] - verdict[:, special.verdict_b]
        counts = [
            jnp.sum(batch[k], axis=1, dtype=jnp.float32) for k in ("replaced_a", "replaced_b")
        ]
        metrics["verdict_loss"] = verdict_loss(log_odds, *counts)
        loss = loss + verdict_weight * metrics["verdict_loss"]
    return loss, (jnp.float32(len(tags)), metrics)


def last_logged(run: RunDirectory, name: str) -> float:
    """A metric's last row."""
    return read_json_lines(run.metrics, name)[-1][name]
