"""What we write for T5X: its files, its index, Adafactor's state, without which it won't train."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from pagap_jax.checkpoints.architecture import infer_config
from pagap_jax.checkpoints.converting import convert
from pagap_jax.checkpoints.digests import DIGESTS
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.checkpoints.saving import Checkpoints, TrainState
from pagap_jax.train.optimizer import adafactor
from tests.fixtures import t5x, t5x_index


def convert_to(source, destination, to):
    checkpoint = open_checkpoint(str(source))
    convert(checkpoint, infer_config(checkpoint), str(destination), to)
    return destination


@pytest.mark.parametrize("name", t5x.NAMES)
def test_what_we_write_for_t5x_is_what_it_writes(name, tmp_path):
    """From Hugging Face's file, which has no optimizer state: T5X's fresh one is made.

    The same files, the same index: T5X's training reads nothing that isn't in it.
    """
    theirs = t5x.DIRECTORY / name / "checkpoint_10"
    hf = convert_to(theirs, tmp_path / "hf", "hf")
    ours = convert_to(hf, tmp_path / "checkpoint_0", "t5x")
    files = [sorted(str(f.relative_to(o)) for f in o.rglob("*")) for o in (ours, theirs)]
    assert files[0] == sorted([*files[1], DIGESTS])
    for file in (f for f in files[1] if f.endswith(".zarray")):
        assert json.loads((ours / file).read_text()) == json.loads((theirs / file).read_text())
    found, expected = (t5x_index.parsed(folder) for folder in (ours, theirs))
    step = "optimizer/state/step"
    assert (found.pop(step), expected.pop(step)) == (0, 10)
    assert found == expected
    for key, moment in open_checkpoint(str(ours)).optimizer.items():
        assert moment.dtype == np.float32 and not moment.read().any(), key


def test_an_optimizer_state_goes_along_or_is_left_out(tmp_path):
    """Ours from Orbax, T5X's own, and none: without `param_states`, not with an empty one."""
    params = {
        "decoder/wide/kernel": jnp.ones((160, 130)),
        "decoder/narrow/kernel": jnp.ones((160, 8)),
        "decoder/norm/scale": jnp.ones((160,)),
    }
    optimizer = adafactor()
    nested = traverse_util.unflatten_dict(params, sep="/")
    gradient = jax.tree.map(lambda x: 0.5 * x, nested)
    state = optimizer.update(gradient, optimizer.init(nested), nested)[1]
    checkpoints = Checkpoints(tmp_path / "ours")
    checkpoints.save(TrainState(jnp.int32(3), nested, state), 3)
    checkpoints.close()
    source, config = (
        open_checkpoint(str(tmp_path / "ours" / "3")),
        t5x.t5x_example("t5_1_0_tiny").config,
    )
    convert(source, config, str(tmp_path / "checkpoint_3"), "t5x")
    index = t5x_index.parsed(tmp_path / "checkpoint_3")
    assert index["optimizer/state/step"] == 3
    at = "optimizer/state/param_states"
    # T5X's index holds factored moments itself: it reads no sharded array in their place.
    assert index[f"{at}/decoder/wide/kernel/v_row"][0] == (130,)
    assert index[f"{at}/decoder/wide/kernel/v_col"][0] == (160,)
    assert index[f"{at}/decoder/wide/kernel/v"][0] == (1,)
    assert index[f"{at}/decoder/narrow/kernel/v/driver"] == "zarr"
    again = open_checkpoint(str(tmp_path / "checkpoint_3"))
    convert(again, config, str(tmp_path / "checkpoint_4"), "t5x")
    for name in ("checkpoint_3", "checkpoint_4"):
        found = open_checkpoint(str(tmp_path / name)).optimizer
        assert len(found) == 4 * len(params)
        for moment in ("v", "v_row", "v_col"):
            expected = traverse_util.flatten_dict(optax.tree.get(state, moment), sep="/")
            for key, array in expected.items():
                np.testing.assert_array_equal(found[f"{key}/{moment}"].read(), array)
    convert(again, config, str(tmp_path / "bare"), "t5x", optimizer_state=False)
    assert not any(at in key for key in t5x_index.parsed(tmp_path / "bare"))
    assert not [*(tmp_path / "bare").glob("state.*")]
