"""Beside T5X itself: checkpoints go both ways, and both compute the same from them.

T5X is on no package index. These tests run where T5X_PATH names checkouts of t5x, airio and
jestimator, as PYTHONPATH would, in an environment that has what those import.
"""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from pagap_jax.checkpoints.architecture import infer_config
from pagap_jax.checkpoints.converting import convert
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.checkpoints.restoring import restore_t5x_state
from pagap_jax.checkpoints.saving import Checkpoints
from pagap_jax.losses.log_probs import token_log_probs
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.streams import Purpose
from pagap_jax.train.optimizer import adafactor
from pagap_jax.train.state import abstract_params, abstract_state, init_params, init_state
from pagap_jax.train.step import supervised_step
from tests.fixtures import t5x, t5x_index

CHECKOUTS = os.environ.get("T5X_PATH")
PROGRAM = Path(__file__).parents[1] / "fixtures" / "t5x_itself.py"
STEPS, RATE = 3, np.float32(1e-3)  # of the program too

pytestmark = pytest.mark.skipif(
    not CHECKOUTS, reason="T5X is on no package index: T5X_PATH names no checkout of it"
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """What we computed and what T5X did, from the checkpoints in `folder`."""

    folder: Path
    config: T5Config
    batch: tuple[np.ndarray, ...]  # encoder input, decoder input, decoder target
    trained: object  # TrainState at step STEPS
    after: object  # STEPS steps later
    losses: np.ndarray  # before each of those steps and after the last
    t5x: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=t5x.NAMES)
def pair(request, tmp_path_factory):
    """Three of our steps, then three of both from there. Wide enough for factored moments."""
    example, folder = t5x.t5x_example(request.param), tmp_path_factory.mktemp("beside")
    config = dataclasses.replace(example.config, emb_dim=128, mlp_dim=160, dtype="float32")
    transformer, mesh, optimizer = Transformer(config), make_mesh(8), adafactor()

    def loss_function(params, batch, key):
        logits = transformer.apply({"params": params}, *batch)
        return -jnp.sum(token_log_probs(logits, batch[2])) / jnp.sum(batch[2] > 0), (1.0, {})

    step = jax.jit(
        functools.partial(supervised_step, loss_function=loss_function, optimizer=optimizer)
    )
    params = init_params(transformer, jax.random.key(0), mesh)
    # With a shared random table T5X would answer its start, the padding id, with itself for ever.
    table = params["token_embedder"]["embedding"]
    params["token_embedder"]["embedding"] = table.at[0].set(0.0)
    states, losses = [init_state(params, optimizer, mesh)], []
    for _ in range(2 * STEPS + 1):
        keys = {Purpose.DROPOUT: jax.random.key(0)}
        state, metrics = step(states[-1], example.batch, RATE, keys)
        states.append(state)
        losses.append(metrics["loss"])
    checkpoints = Checkpoints(folder / "ours")
    checkpoints.save(states[STEPS], STEPS)
    checkpoints.close()
    write_for_t5x(folder, config, example.batch)
    return Pair(
        folder,
        config,
        example.batch,
        states[STEPS],
        states[2 * STEPS],
        np.stack(losses[STEPS:]),
        run_t5x(folder),
    )


def write_for_t5x(folder, config, batch):
    """The program's input: ours with its state, without one, and with a new one."""
    ours = open_checkpoint(str(folder / "ours" / str(STEPS)))
    convert(ours, config, str(folder / "trained"), "t5x")
    convert(ours, config, str(folder / "bare"), "t5x", optimizer_state=False)
    convert(ours, config, str(folder / "hf"), "hf")
    convert(open_checkpoint(str(folder / "hf")), config, str(folder / "fresh"), "t5x")
    theirs = json.loads((t5x.DIRECTORY / t5x.NAMES[0] / "config.json").read_text())
    fields = dataclasses.asdict(config)
    (folder / "config.json").write_text(json.dumps({name: fields[name] for name in theirs}))
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    arrays = dict(zip(names, batch, strict=True))
    weights = (batch[2] > 0).astype(np.float32)
    np.savez(folder / "batch.npz", **arrays, decoder_loss_weights=weights)


def run_t5x(folder):
    """A process of T5X alone: none of our JAX settings, one device."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    environment |= {"PYTHONPATH": CHECKOUTS, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-P", PROGRAM, folder], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return t5x.read_arrays(folder / "results.npz")


def differ(what, found, expected):
    """The largest difference, which is printed."""
    difference = float(np.max(np.abs(np.asarray(found, np.float64) - expected)))
    print(f"{what}: at most {difference:.2g} apart")
    return difference


def test_inference(pair):
    """Logits, losses, and T5X's own sampler at top-k 1 beside ours at temperature 0."""
    targets = pair.batch[2]
    logits = Transformer(pair.config).apply({"params": pair.trained.params}, *pair.batch)
    real = targets > 0
    assert differ("logits", logits[real], pair.t5x["logits"][real]) < 2e-5
    assert differ("loss", pair.losses[0], pair.t5x["loss"]) < 1e-5
    policy = Policy(Transformer(pair.config), sampleable_size=384, response_length=targets.shape[1])
    encoded = policy.encode(pair.trained.params, pair.batch[0])
    greedy = policy.sample(
        pair.trained.params, encoded, jax.random.key(0), 1, SamplingMethod(temperature=0.0)
    )
    ours, theirs = np.asarray(greedy.tokens)[:, 0], pair.t5x["sampled"]
    # From T5X's first padding id on: behind the end, or where it sampled one, as we never do.
    compared = np.cumsum(theirs == 0, axis=1) == 0
    print(f"samples: {compared.sum()} tokens compared in {compared.any(axis=1).sum()} rows")
    assert compared.sum() >= len(theirs)
    np.testing.assert_array_equal(ours[compared], theirs[compared])


def test_t5x_goes_on_where_we_stopped(pair):
    """Its training restore has our state to the bit; three steps later it's where we are."""
    assert int(pair.t5x["restored/step"]) == STEPS
    factored = 0
    for moment in ("v", "v_row", "v_col"):
        tree = optax.tree.get(pair.trained.opt_state, moment)
        for key, array in traverse_util.flatten_dict(tree, sep="/").items():
            np.testing.assert_array_equal(pair.t5x[f"restored/param_states/{key}/{moment}"], array)
            factored += moment == "v_row" and array.shape != (1,)
    assert factored > 0
    assert differ("losses of three steps", pair.losses, pair.t5x["losses"]) < 1e-5
    differences = []
    for key, array in traverse_util.flatten_dict(pair.after.params, sep="/").items():
        expected = pair.t5x[f"after/target/{key}"]
        differences.append(np.max(np.abs(array - expected)))
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5 * scale, err_msg=key)
    differ("parameters after three steps", differences, 0)


@pytest.mark.parametrize("name", ["trained", "fresh", "bare"])
def test_t5x_loads_without_a_model(name, pair):
    """`load_t5x_checkpoint` takes all that the index names."""
    for key, array in open_checkpoint(str(pair.folder / name)).params.items():
        np.testing.assert_array_equal(pair.t5x[f"loaded/{name}/target/{key}"], array.read())
    moments = [key for key in pair.t5x if key.startswith(f"loaded/{name}/state/param_states/")]
    assert bool(moments) == (name != "bare")


def test_we_go_on_where_t5x_stopped(pair):
    """What T5X saved, to the bit; written by us again, the same index."""
    theirs = pair.folder / "theirs" / f"checkpoint_{2 * STEPS}"
    mesh = make_mesh(8)
    abstract = abstract_state(abstract_params(Transformer(pair.config), mesh), adafactor(), mesh)
    params, state, step = restore_t5x_state(str(theirs), abstract.params, abstract.opt_state)
    assert step == 2 * STEPS
    for key, array in traverse_util.flatten_dict(params, sep="/").items():
        np.testing.assert_array_equal(array, pair.t5x[f"after/target/{key}"])
    for moment in ("v", "v_row", "v_col"):
        tree = traverse_util.flatten_dict(optax.tree.get(state, moment), sep="/")
        for key, array in tree.items():
            expected = pair.t5x[f"after/state/param_states/{key}/{moment}"]
            np.testing.assert_array_equal(array, expected)
    source = open_checkpoint(str(theirs))
    convert(source, infer_config(source), str(pair.folder / "again"), "t5x")
    assert t5x_index.parsed(pair.folder / "again") == t5x_index.parsed(theirs)
