"""What jobs open before they work: pairs that fit vocabulary and model, and their batches."""

import dataclasses
from typing import Any

import gin
import numpy as np
from jax.sharding import Mesh

from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.data.batches import SHUFFLED, Columns, DataOrder
from pagap_jax.data.reading import StoredPairs, columns, open_token_pairs, read_batch
from pagap_jax.data.stored_metadata import read_metadata
from pagap_jax.data.vocabulary import describe_vocabulary, sampleable_size, special_ids
from pagap_jax.errors import ConfigError
from pagap_jax.lineage import require_job
from pagap_jax.mapping.judging import Judge
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import rows_of_process
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Params, Policy
from pagap_jax.preference_models import PreferenceModel
from pagap_jax.ranges import InputLength, Place
from pagap_jax.streams import Purpose, generator_for
from pagap_jax.train.loop import TrainLoop
from pagap_jax.train.optimizer import LearningRate
from pagap_jax.train.state import abstract_params, number_of_parameters


@gin.configurable
@dataclasses.dataclass(frozen=True)
class RunLabels:
    """What rows and figures call a run.

    Attributes:
        arm: the curve that it belongs to: 'online', 'offline', 'golden', 'sft', 'shuffled', ...
        pairs: the data set that its pairs come from; 'policy' where the policy samples them.
        policy_size: name of the policy's size: 'tiny', 'large', ...
    """

    arm: str
    pairs: str
    policy_size: str

    def facts(
        self,
        params: Any,
        data_order: DataOrder,
        learning_rate: LearningRate,
        loop: TrainLoop,
        seed: int,
    ) -> dict[str, Any]:
        """What rows of a run begin with, its objective apart; `params` may be abstract."""
        return {
            "arm": self.arm,
            "pairs": self.pairs,
            "policy_size": self.policy_size,
            "policy_parameters": number_of_parameters(params),
            "data_order": data_order.text,
            "learning_rate": learning_rate.peak,
            "train_steps": loop.train_steps,
            "seed": seed,
        }


def open_pairs(pairs_dir: str, split: str, vocabulary: Any) -> StoredPairs:
    """A split of a data set that was made with this vocabulary.

    Raises:
        ConfigError: it was made with another; names both.
        DataError: it can't be read.
    """
    found, expected = read_metadata(pairs_dir)["vocabulary"], describe_vocabulary(vocabulary)
    if found != expected:
        raise ConfigError(
            f"{pairs_dir} was tokenised with {found}, this job's vocabulary is {expected}"
        )
    return open_token_pairs(pairs_dir, split)


def check_model_fits(model: T5Config, vocabulary: Any) -> None:
    """Raises ConfigError where the vocabulary has ids for which the model has no embedding."""
    if vocabulary.vocab_size > model.vocab_size:
        raise ConfigError(
            f"the vocabulary has {vocabulary.vocab_size} ids, the model's vocab_size is"
            f" {model.vocab_size}: it must be at least as large"
        )


def build_policy(model: T5Config, vocabulary: Any, response_length: int) -> Policy:
    """A policy around a T5, never to sample what the vocabulary has no text for."""
    check_model_fits(model, vocabulary)
    return Policy(Transformer(model), sampleable_size(vocabulary), response_length)


def build_judge(
    model: T5Config, input_length: int, vocabulary: Any, response_length: int
) -> PreferenceModel:
    """A preference model around a T5, for responses of so many tokens at most.

    Raises:
        ConfigError: its input has no room for two of them.
    """
    if input_length < (least := 2 * response_length + 3):
        raise ConfigError(
            f"INPUT_LENGTH: found {input_length}, expected {least} or more: two responses of"
            f" {response_length} tokens, their markers and a prompt"
        )
    check_model_fits(model, vocabulary)
    return PreferenceModel(Transformer(model), special_ids(vocabulary), input_length)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class TrainedJudge:
    """A preference model that a run of ours trained.

    Attributes:
        checkpoint_path: of the run, or of a checkpoint in it.
        input_length: tokens of prompt, two responses and two markers.
    """

    model: T5Config
    checkpoint_path: Place
    input_length: InputLength

    def restored(
        self, vocabulary: Any, mesh: Mesh, response_length: int, dtype: str = "float32"
    ) -> tuple[PreferenceModel, Params]:
        """The model and its parameters, where they belong on the mesh."""
        require_job(self.checkpoint_path, "a preference model", "preference_model")
        judge = build_judge(self.model, self.input_length, vocabulary, response_length)
        abstract = abstract_params(judge.transformer, mesh, dtype)
        return judge, restore_params(self.checkpoint_path, abstract)

    def compiled(self, vocabulary: Any, mesh: Mesh, batch_size: int, response_length: int) -> Judge:
        """Ready to judge whole data sets."""
        return Judge.compiled(*self.restored(vocabulary, mesh, response_length), mesh, batch_size)


def batch_at(
    pairs: StoredPairs,
    batch_size: int,
    step: int,
    seed: int,
    mesh: Mesh,
    order: DataOrder = SHUFFLED,
    **more: np.ndarray,
) -> Columns:
    """The columns of one training batch, a function of (seed, step), its prompts trimmed.

    Rows of other processes' devices aren't read (`read_batch`).

    Args:
        more: further columns, of as many rows as `pairs`.
    """
    rows = order.rows(len(pairs), batch_size, step, seed)
    return read_batch(columns(pairs) | more, rows, rows_of_process(batch_size, mesh))


def choose_prompts(pairs: StoredPairs, number: int | None, seed: int) -> StoredPairs:
    """Pairs with `number` different prompts, drawn at random (§4.1); all pairs for None.

    Each prompt is as likely as any other, however many pairs have it, and counts once; which of
    its pairs stands for it is drawn as well. Where there are too few prompts, further pairs of
    theirs fill up.
    """
    if number is None:
        return pairs
    order = generator_for(seed, Purpose.WIN_RATE_PROMPTS).permutation(len(pairs))
    # A prompt's turn is that of its first pair in the file, a function of no other pair of its.
    _, first_pair = np.unique(pairs.prompt_id, return_index=True)
    turn = np.argsort(np.argsort(order)[first_pair])
    # The pair that stands for it is the one of its pairs that was drawn first.
    _, drawn = np.unique(pairs.prompt_id[order], return_index=True)
    chosen = np.concatenate([order[drawn][turn], np.delete(order, drawn)])[:number]
    return pairs.view(np.sort(chosen))
