"""Checkpoints: saved is restored, on other devices too; killed saves; other models; the study's."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from pagap_jax.checkpoints.converting import save_params
from pagap_jax.checkpoints.opening import open_checkpoint, saved_steps
from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.checkpoints.saving import MAX_FAILED_SAVES, Checkpoints
from pagap_jax.errors import ConfigError, NoRoomError
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.run_directory import RunDirectory
from pagap_jax.train.optimizer import adafactor, adam
from pagap_jax.train.state import abstract_params, abstract_state, init_params, init_state
from tests.fixtures import toy

TINY = T5Config(
    vocab_size=16, dtype="float32", emb_dim=8, num_heads=8, num_encoder_layers=1,
    num_decoder_layers=1, head_dim=2, mlp_dim=8, mlp_activations=("gelu", "linear"),
    dropout_rate=0.0,
)  # fmt: skip
TRANSFORMER, MESH = Transformer(TINY), make_mesh(num_partitions=8)


@pytest.fixture(scope="module")
def params():
    return init_params(TRANSFORMER, jax.random.key(3), MESH)


def assert_same(one, other):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True
    ):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("make_optimizer", [adam, adafactor])
def test_restored_is_what_was_saved(make_optimizer, params, tmp_path):
    optimizer = make_optimizer()
    state = init_state(params, optimizer, MESH)
    donating = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    expected, saver = {}, Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        state = donating(state)
        expected[step] = jax.tree.map(np.array, state)
        saver.save(state, step)  # the next step takes its memory while it's being written
    saver.close()
    abstract = abstract_state(abstract_params(TRANSFORMER, MESH), optimizer, MESH)
    reader = Checkpoints(tmp_path / "checkpoints")
    assert reader.latest() == 3
    for step in (1, 2, 3):
        restored = reader.restore(step, abstract)
        assert_same(restored, expected[step])
        for x, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(abstract), strict=True):
            assert x.sharding == wanted.sharding
    reader.close()


@pytest.fixture
def full_disk(monkeypatch):
    """As Orbax ends on one: in its threads, whose own errors pytest would report beside it."""
    started = []

    def save(manager, step, args):
        started.append(manager.directory / f"{step}.orbax-checkpoint-tmp")
        started[-1].mkdir()

    def wait(_):
        if started:
            raise ValueError(f"RESOURCE_EXHAUSTED: {started.pop()}: No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", wait)


def test_training_goes_on_past_some_saves_that_find_no_room(params, tmp_path, capsys, full_disk):
    state, folder = init_state(params, adam(), MESH), tmp_path / "checkpoints"
    saver = Checkpoints(folder, is_planned=lambda step: False)
    for step in range(1, MAX_FAILED_SAVES + 2):
        saver.save(state, step)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == MAX_FAILED_SAVES
    place = f"{folder}/1: No space left on device: {size:,} bytes were needed"
    assert said[0].startswith(f"step 1 isn't saved, training goes on: {place}")
    with pytest.raises(NoRoomError, match=f"/{MAX_FAILED_SAVES + 1}: No space left"):
        saver.save(state, 9)
    assert not [*folder.iterdir()]  # what was half-written takes no room


def test_a_planned_save_that_finds_no_room_ends_the_run(params, tmp_path, full_disk):
    """Others read it: without it they would measure less."""
    saver = Checkpoints(tmp_path / "checkpoints", is_planned=lambda step: step == 4)
    state = init_state(params, adam(), MESH)
    saver.save(state, 4)
    with pytest.raises(NoRoomError, match="/4: No space left"):
        saver.save(state, 5)
    assert saver.latest() is None


def test_a_killed_save_does_not_count(params, tmp_path):
    optimizer = adam()
    state = init_state(params, optimizer, MESH)
    saver = Checkpoints(tmp_path / "checkpoints")
    saver.save(state, 4)
    saver.close()
    # As a kill leaves it: Orbax writes aside and renames.
    unfinished = tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "4", unfinished)
    assert saved_steps(str(tmp_path)) == [4]
    assert open_checkpoint(str(tmp_path)).step == 4
    saver = Checkpoints(tmp_path / "checkpoints")
    assert saver.latest() == 4
    saver.save(state, 8)
    saver.close()
    assert saved_steps(str(tmp_path)) == [4, 8]
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"4", "8"}


@pytest.mark.parametrize(
    ("max_to_keep", "kept"), [(None, [1, 3, 4, 5]), (2, [4, 5]), (1, [5])], ids=str
)
def test_only_the_newest_planned_are_kept(max_to_keep, kept, params, tmp_path):
    state = init_state(params, adam(), MESH)
    saver = Checkpoints(tmp_path / "checkpoints", lambda step: step != 2, max_to_keep)
    for step in (1, 2, 3, 4, 5):
        saver.save(state, step)
    saver.close()
    assert saved_steps(str(tmp_path)) == kept


def test_the_newest_stays_until_a_later_one_is_there(params, tmp_path):
    """A run that was stopped goes on from where it was."""
    saver = Checkpoints(tmp_path / "checkpoints", lambda step: step != 2, max_to_keep=1)
    for step in (1, 2):
        saver.save(init_state(params, adam(), MESH), step)
    saver.close()
    assert saved_steps(str(tmp_path)) == [1, 2]


def test_the_newest_and_the_best_alone_keep_an_optimizer_state(params, tmp_path):
    optimizer = adam()
    state = init_state(params, optimizer, MESH)
    abstract = abstract_state(abstract_params(TRANSFORMER, MESH), optimizer, MESH)

    def opened():
        return Checkpoints(
            tmp_path / "checkpoints",
            best_of=lambda steps: 2 if 2 in steps else None,
            keep_optimizer_states=False,
        )

    def with_state():
        return sorted(int(p.parent.name) for p in tmp_path.glob("checkpoints/*/optimizer"))

    saver = opened()
    for step in (1, 2, 3, 4):
        saver.save(state, step)
    saver.close()
    assert saved_steps(str(tmp_path)) == [1, 2, 3, 4] and with_state() == [2, 4]
    thin = tmp_path / "checkpoints" / "3"
    assert_same(restore_params(str(thin), abstract_params(TRANSFORMER, MESH)), params)
    assert open_checkpoint(str(thin)).step == 3
    saver = opened()
    for step in (2, 4):
        assert_same(saver.restore(step, abstract).opt_state, state.opt_state)
    with pytest.raises(ConfigError, match="/3: found no optimizer in it, expected the optimizer's"):
        saver.restore(3, abstract)
    saver.save(state, 5)
    saver.close()
    assert with_state() == [2, 5]


def test_a_deletion_that_was_cut_short_is_taken_for_none(params, tmp_path):
    optimizer = adam()
    saver = Checkpoints(tmp_path / "checkpoints", keep_optimizer_states=False)
    for step in (1, 2):
        saver.save(init_state(params, optimizer, MESH), step)
    (tmp_path / "checkpoints" / "1" / "optimizer" / "_METADATA").unlink()
    with pytest.raises(ConfigError, match="/1: found no optimizer in it"):
        saver.restore(1, abstract_state(abstract_params(TRANSFORMER, MESH), optimizer, MESH))
    saver.close()
    assert not (tmp_path / "checkpoints" / "1" / "optimizer").exists()


def test_a_run_under_way_is_nothing_to_start_from(params, tmp_path):
    """Its latest checkpoint changes, so it isn't a stable start."""
    with RunDirectory(str(tmp_path), "sft", "f") as run:
        saver = Checkpoints(run.checkpoints)
        saver.save(init_state(params, adam(), MESH), 1)
        saver.close()
        with pytest.raises(ConfigError, match="isn't finished: run its job to the end, or name"):
            open_checkpoint(str(tmp_path))
        assert open_checkpoint(str(tmp_path / "checkpoints" / "1")).step == 1
        run.finish({})
    assert open_checkpoint(str(tmp_path)).step == 1


def test_parameters_by_themselves(params, tmp_path):
    save_params(tmp_path / "export", jax.tree.map(jnp.zeros_like, params))
    save_params(tmp_path / "export", params)  # a job that was killed after it does it again
    restored = restore_params(str(tmp_path / "export"), abstract_params(TRANSFORMER, MESH))
    assert_same(restored, params)


def test_a_plain_t5_starts_a_model_with_segments(params, tmp_path):
    save_params(tmp_path, params)
    with_segments = Transformer(T5Config(**{**vars(TINY), "num_segments": 3}))
    restored = restore_params(str(tmp_path), abstract_params(with_segments, MESH))
    flat = traverse_util.flatten_dict(restored, sep="/")
    table = flat.pop("segment_embedder/embedding")
    assert table.shape == (3, 8) and not table.any()
    assert_same(traverse_util.unflatten_dict(flat, sep="/"), params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emb_dim": 16}, r"the checkpoint has \(8, 16\), the model \(16, 16\)"),
        ({"num_encoder_layers": 2}, "encoder/layers_1/.*: missing from the checkpoint"),
        ({"logits_via_embedding": True}, "logits_dense/kernel: in the checkpoint, not in the mod"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(change, message, params, tmp_path):
    save_params(tmp_path, params)
    other = Transformer(T5Config(**{**vars(TINY), **change}))
    with pytest.raises(ConfigError, match=f"(?s)is a checkpoint of another model:.*{message}"):
        restore_params(str(tmp_path), abstract_params(other, MESH))


def test_where_there_is_no_checkpoint(tmp_path):
    for path in (str(tmp_path), "package:no_such"):
        with pytest.raises(ConfigError, match=f"no checkpoint at {path}"):
            open_checkpoint(path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="holds no committed checkpoint yet"):
        open_checkpoint(str(tmp_path))
    with pytest.raises(ConfigError, match="holds no checkpoints"):
        saved_steps(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("num_partitions", [1, 2, 8])
def test_eight_devices_restore_what_one_saved(num_partitions, study):
    """The toy study ran on one device; sixteen columns spread over eight."""
    run = study.seed / toy.ONLINE
    mesh = make_mesh(num_partitions)
    config = T5Config(
        vocab_size=72, dtype="float32", emb_dim=16, num_heads=1, head_dim=16, mlp_dim=32,
        num_encoder_layers=1, num_decoder_layers=1, mlp_activations=("gelu", "linear"),
        dropout_rate=0.0, num_segments=3,
    )  # fmt: skip
    params = abstract_params(Transformer(config), mesh)
    expected = toy.saved_arrays(run / "checkpoints" / "12")
    reader = Checkpoints(run / "checkpoints")
    state = reader.restore(12, abstract_state(params, adam(), mesh))
    reader.close()
    assert int(state.step) == 12
    for path, array in jax.tree_util.tree_leaves_with_path(state.params):
        assert len(array.sharding.device_set) == 8
        name = "params" + jax.tree_util.keystr(path)
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    moments = state.opt_state[0].nu["token_embedder"]["embedding"]
    (name,) = [n for n in expected if "nu" in n and "token_embedder" in n]
    np.testing.assert_array_equal(moments, expected[name])
    kernel = state.params["encoder"]["layers_0"]["mlp"]["wo"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (32 // num_partitions, 16)
