"""Any checkpoint by its path: a run of ours, T5X's, Hugging Face's."""

from collections.abc import Sequence

import gin
import orbax.checkpoint as ocp
from etils import epath

from pagap_jax.buckets import absolute
from pagap_jax.checkpoints.architecture import infer_config
from pagap_jax.checkpoints.digests import check_digests
from pagap_jax.checkpoints.hugging_face import is_hugging_face, open_hugging_face
from pagap_jax.checkpoints.orbax import (
    OPTIMIZER,
    PARAMS,
    has_orbax_metadata,
    open_orbax,
    read_orbax_arrays,
)
from pagap_jax.checkpoints.stored import StoredCheckpoint
from pagap_jax.checkpoints.t5x import find_t5x, open_t5x
from pagap_jax.errors import ConfigError
from pagap_jax.extension import CHECKPOINTS
from pagap_jax.files import PACKAGED, located, refuse_special
from pagap_jax.lineage import RUN_FILE
from pagap_jax.model.config import T5Config
from pagap_jax.ranges import Activation, Dtype, Place, ShareBelowOne
from pagap_jax.run_directory import read_result


def open_checkpoint(path: str) -> StoredCheckpoint:
    """Opens a checkpoint; its arrays are not read.

    Args:
        path: a run's folder (its last checkpoint), one of its checkpoints/STEP, 'package:NAME', a
            T5X checkpoint or run, or a folder as Hugging Face's `save_pretrained` leaves it.

    Raises:
        ConfigError: there is none, or the run isn't finished.
        DataError: it is damaged.
    """
    folder = checkpoint_folder(path)
    if (folder / PARAMS).is_dir():
        return open_orbax(path, folder)
    if (t5x_folder := find_t5x(folder)) is not None:
        return open_t5x(path, t5x_folder)
    if is_hugging_face(folder):
        return open_hugging_face(path, folder)
    raise ConfigError(
        f"no checkpoint at {path}: expected a run's folder, one of its checkpoints/STEP,"
        f" {PACKAGED}NAME, a T5X checkpoint, or config.json beside model.safetensors"
    )


def checkpoint_folder(path: str) -> epath.Path:
    """Where a checkpoint's files lie: of a run, those of its last step.

    Raises:
        ConfigError: the run isn't finished, or has no checkpoint.
    """
    folder = absolute(located(path))
    refuse_special(folder)
    if (folder / CHECKPOINTS).is_dir():
        folder = _last_step(path, folder)
        refuse_special(folder)
    refuse_special(folder / PARAMS)
    return folder


def check_params(path: str) -> None:
    """Compares the files of a checkpoint's parameters with its digests, if it has some.

    Raises:
        DataError: one is damaged.
    """
    folder = checkpoint_folder(path)
    if (folder / PARAMS).is_dir():
        check_digests(folder, (PARAMS,))
    else:
        check_digests(find_t5x(folder) or folder)


def optimizer_arrays(path: str) -> list[str]:
    """Names of the optimizer's arrays in a checkpoint of ours; none are read."""
    folder = checkpoint_folder(path) / OPTIMIZER
    if not has_orbax_metadata(folder):
        return []
    return [*read_orbax_arrays(path, folder, open_them=False)]


@gin.configurable
def config_of(
    path: Place,
    dtype: Dtype = "bfloat16",
    dropout_rate: ShareBelowOne = 0.1,
    mlp_activations: Sequence[Activation] | None = None,
) -> T5Config:
    """The T5Config of a checkpoint of any format.

    Args:
        dtype: of activations.
        mlp_activations: where the format doesn't tell them and they are not T5 1.1's gated gelu.
    """
    told = {"mlp_activations": tuple(mlp_activations)} if mlp_activations else {}
    checkpoint = open_checkpoint(path)
    return infer_config(checkpoint, dtype=dtype, dropout_rate=dropout_rate, **told)


def saved_steps(run: str) -> list[int]:
    """Committed steps of a run's folder, ascending."""
    folder = epath.Path(run) / CHECKPOINTS
    if not folder.exists():
        raise ConfigError(f"{run} holds no checkpoints")
    return sorted(ocp.utils.checkpoint_steps(folder))


def _last_step(path: str, run: epath.Path) -> epath.Path:
    # An unfinished run's latest checkpoint changes, so it isn't a stable start.
    if (run / RUN_FILE).exists() and read_result(run) is None:
        raise ConfigError(
            f"{path} isn't finished: run its job to the end, or name one of its checkpoints/STEP"
        )
    steps = saved_steps(str(run))
    if not steps:
        raise ConfigError(f"{path} holds no committed checkpoint yet")
    return run / CHECKPOINTS / str(steps[-1])
