"""Adafactor's state by T5X's names: PARAMETER/v, or /v_row and /v_col, and /m."""

import re
from collections.abc import Mapping

import jax
import numpy as np
import optax

from pagap_jax.checkpoints.opening import checkpoint_folder
from pagap_jax.checkpoints.orbax import OPTIMIZER, has_orbax_metadata, read_orbax_arrays
from pagap_jax.checkpoints.stored import StoredArray, StoredCheckpoint

# optax numbers a chain's transformations; T5X's moments have optax's names.
_MOMENT = re.compile(r"^opt_state/(?:\d+/)*(v|v_row|v_col)/(.+)$")


def stored_state(source: StoredCheckpoint) -> dict[str, StoredArray]:
    """The state that a checkpoint holds; {} where it holds none, or that of another optimizer.

    Raises:
        DataError: an array of it is damaged.
    """
    if source.format != "orbax":
        return dict(source.optimizer)
    folder = checkpoint_folder(source.path) / OPTIMIZER
    if not has_orbax_metadata(folder):
        return {}
    arrays = read_orbax_arrays(source.path, folder, wanted=_MOMENT.match)
    return {f"{m[2]}/{m[1]}": array for key, array in arrays.items() if (m := _MOMENT.match(key))}


def initial_state(params: Mapping[str, StoredArray]) -> dict[str, StoredArray]:
    """What T5X starts with: zeros, factored where two axes have 128 entries or more.

    T5X's rules by logical axis apply to stacked layers alone. optax factors the others as T5X does.
    """
    shapes = {key: jax.ShapeDtypeStruct(x.shape, np.float32) for key, x in params.items()}
    state = jax.eval_shape(optax.scale_by_factored_rms().init, shapes)
    return {
        f"{key}/{name}": StoredArray.of(np.broadcast_to(np.float32(0), moment.shape))
        for name in ("v", "v_row", "v_col")
        for key, moment in getattr(state, name).items()
    }
