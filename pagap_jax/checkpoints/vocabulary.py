"""The vocabulary that a checkpoint was trained with."""

from collections.abc import Callable, Mapping
from typing import Any

import gin

from pagap_jax.checkpoints.architecture import EMBEDDING
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.data.vocabulary import num_extra_ids, sentencepiece_vocabulary
from pagap_jax.errors import ConfigError
from pagap_jax.files import located, refuse_special
from pagap_jax.ranges import Place

MODEL_FILE = "spiece.model"  # as Hugging Face's tokenizers of T5 and mT5 are saved
T5_EXTRA_IDS = 100


@gin.configurable
def vocabulary_of(
    checkpoint_path: Place,
    vocabulary_path: Place | None,
    by_size: Mapping[int, Callable[[], Any]],
) -> Any:
    """A seqio vocabulary: a sentencepiece model, or what the number of embeddings tells.

    Args:
        checkpoint_path: of any format; `spiece.model` is looked for beside its files.
        vocabulary_path: a sentencepiece model that is known better.
        by_size: what makes the vocabulary of checkpoints with so many embeddings.

    Raises:
        ConfigError: the number of embeddings isn't known, or the file is no sentencepiece model.
    """
    refuse_special(located(checkpoint_path))
    beside = located(checkpoint_path) / MODEL_FILE
    path = vocabulary_path or (str(beside) if beside.exists() else None)
    if path is not None:
        # mT5's model has its extra ids in it, T5's needs them beside it.
        vocabulary = sentencepiece_vocabulary(path, extra_ids=0)
        has_extra_ids = num_extra_ids(vocabulary) > 0
        return vocabulary if has_extra_ids else sentencepiece_vocabulary(path, T5_EXTRA_IDS)
    size = open_checkpoint(checkpoint_path).params[EMBEDDING].shape[0]
    if size not in by_size:
        raise ConfigError(
            f"{checkpoint_path}: found no {MODEL_FILE} and {size} embeddings, expected one of"
            f" {sorted(by_size)}: give its sentencepiece model, --gin.VOCABULARY_PATH=FILE"
        )
    return by_size[size]()
