"""Checkpoints of T5X and of Hugging Face: what they hold, what comes of it, and the ways back."""

import dataclasses
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util

from pagap_jax.checkpoints.architecture import infer_config
from pagap_jax.checkpoints.converting import convert, save_params
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.checkpoints.stored import StoredArray
from pagap_jax.checkpoints.t5x import write_t5x
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.policies import Policy
from pagap_jax.sampling.methods import SamplingMethod
from pagap_jax.train.state import abstract_params
from tests.fixtures import t5x
from tests.fixtures.tiny import logits_of

HF = t5x.DIRECTORY.parent / "hf"


def t5x_path(name):
    return str(t5x.DIRECTORY / name / "checkpoint_10")


def config_of(name):
    return dataclasses.replace(t5x.t5x_example(name).config, dtype="float32")


def read_all(path):
    return {key: array.read() for key, array in open_checkpoint(str(path)).params.items()}


def convert_to(source, destination, to, **options):
    checkpoint = open_checkpoint(str(source))
    convert(checkpoint, infer_config(checkpoint), str(destination), to, **options)
    return destination


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for key, array in one.items():
        assert array.dtype == other[key].dtype
        np.testing.assert_array_equal(
            np.ascontiguousarray(array).view(np.uint8),
            np.ascontiguousarray(other[key]).view(np.uint8),
            err_msg=key,
        )


@pytest.mark.parametrize("name", t5x.NAMES)
def test_t5x_s_own_checkpoint(name):
    checkpoint = open_checkpoint(t5x_path(name))
    assert (checkpoint.format, checkpoint.step, checkpoint.scanned) == ("t5x", 10, False)
    expected = traverse_util.flatten_dict(t5x.t5x_example(name).params, sep="/")
    assert_same_bits(read_all(t5x_path(name)), expected)
    found = infer_config(checkpoint, dropout_rate=0.0, dtype="float32")
    assert found == config_of(name)
    assert {key.rsplit("/", 1)[0] for key in checkpoint.optimizer} == set(expected)


@pytest.mark.parametrize("name", t5x.NAMES)
def test_hugging_face_s_logits(name):
    """What transformers computed from its own file, from our reading of the file."""
    checkpoint = open_checkpoint(str(HF / name))
    config = infer_config(checkpoint, dropout_rate=0.0, dtype="float32")
    assert config == config_of(name)
    transformer = Transformer(config)
    params = restore_params(str(HF / name), abstract_params(transformer, make_mesh(8)))
    golden = t5x.read_arrays(HF / name / "golden.npz")
    targets = golden["decoder_target_tokens"]
    inputs = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    logits = transformer.apply(
        {"params": params}, golden["encoder_input_tokens"], inputs, np.ones_like(targets)
    )
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", t5x.NAMES)
def test_a_converted_t5_says_what_t5x_says(name, tmp_path):
    """Logits of its targets, and what it writes greedily, after `convert --to orbax`."""
    folder = str(convert_to(t5x_path(name), tmp_path / "orbax", "orbax"))
    policy = Policy(Transformer(config_of(name)), sampleable_size=384, response_length=12)
    params = restore_params(folder, abstract_params(policy.transformer, make_mesh(8)))
    golden = t5x.t5x_example(name).golden
    encoded = policy.encode(params, golden["encoder_input_tokens"])
    targets = golden["decoder_target_tokens"]
    logits = logits_of(policy, params, encoded, targets[:, None])[:, 0]
    np.testing.assert_allclose(
        logits[targets > 0], golden["logits"][targets > 0], atol=2e-5, rtol=0
    )
    greedy = policy.sample(params, encoded, jax.random.key(0), 1, SamplingMethod(temperature=0.0))
    rows = [0, 1, 3]  # in row 2 T5X samples the padding id, which we never do
    np.testing.assert_array_equal(greedy.tokens[rows, 0], golden["greedy_tokens"][rows])


@pytest.mark.parametrize("name", t5x.NAMES)
def test_round_trip_keeps_every_bit(name, tmp_path):
    """T5X to Hugging Face to Orbax to T5X."""
    start = read_all(t5x_path(name))
    hf = convert_to(t5x_path(name), tmp_path / "hf", "hf")
    orbax = convert_to(hf, tmp_path / "orbax", "orbax")
    back = convert_to(orbax, tmp_path / "t5x", "t5x")
    for folder in (hf, orbax, back):
        assert_same_bits(read_all(folder), start)


@pytest.mark.parametrize("name", t5x.NAMES)
def test_what_we_write_for_hugging_face_is_what_it_writes(name, tmp_path):
    """From its file to T5X's format and back: tensors to the bit, and the settings."""
    back = convert_to(convert_to(HF / name, tmp_path / "t5x", "t5x"), tmp_path / "hf", "hf")
    tensors = [safetensors_of(folder) for folder in (back, HF / name)]
    assert_same_bits(*tensors)
    ours, theirs = (json.loads((f / "config.json").read_text()) for f in (back, HF / name))
    irrelevant = {"transformers_version", "classifier_dropout", "initializer_factor", "is_decoder"}
    irrelevant |= {"dropout_rate"}
    assert {k: v for k, v in theirs.items() if k not in irrelevant}.items() <= ours.items()


def safetensors_of(folder):
    import safetensors.numpy

    return safetensors.numpy.load_file(folder / "model.safetensors")


@pytest.fixture
def stacked(tmp_path):
    """The T5X fixture as T5X stores it with `scan_layers`, in bfloat16, one table a layer."""
    params = read_all(t5x_path("t5_1_1_tiny"))
    layers = {}
    for key, array in params.items():
        parts = key.split("/")
        if parts[1].startswith("layers_"):
            name = "/".join([parts[0], "layers", *parts[2:]])
            layers.setdefault(name, []).append(array)
        elif parts[1] == "relpos_bias":
            layers[f"{parts[0]}/layers/relative_posemb/rel_embedding"] = [array, array]
    flat = {k: v for k, v in params.items() if k.split("/")[1] not in ("relpos_bias",)}
    flat = {k: v for k, v in flat.items() if not k.split("/")[1].startswith("layers_")}
    flat |= {key: np.stack(arrays, axis=1) for key, arrays in layers.items()}
    flat = {key: array.astype(ml_dtypes.bfloat16) for key, array in flat.items()}
    write(tmp_path / "checkpoint_7", flat)
    return tmp_path / "checkpoint_7", flat


def write(folder, arrays):
    folder.mkdir()
    write_t5x(folder, {key: StoredArray.of(array) for key, array in arrays.items()}, 7)


def test_stacked_layers_in_bfloat16(stacked, tmp_path):
    folder, _ = stacked
    checkpoint = open_checkpoint(str(folder.parent))  # a run's folder: its last checkpoint
    assert checkpoint.scanned and checkpoint.step == 7
    expected = read_all(t5x_path("t5_1_1_tiny"))
    found = read_all(folder)
    assert_same_bits(found, {k: expected[k].astype(ml_dtypes.bfloat16) for k in found})
    assert found.keys() == expected.keys()
    assert infer_config(checkpoint, dropout_rate=0.0, dtype="float32") == config_of("t5_1_1_tiny")
    hf = convert_to(folder, tmp_path / "hf", "hf")
    assert_same_bits(read_all(hf), found)
    assert json.loads((hf / "config.json").read_text())["dtype"] == "bfloat16"


def test_layers_with_position_tables_of_their_own_are_refused(stacked, tmp_path):
    _, flat = stacked
    key = "decoder/layers/relative_posemb/rel_embedding"
    tables = flat[key].copy()
    tables[0, 1, 0] += 1
    write(tmp_path / "other", flat | {key: tables})
    with pytest.raises(DataError, match=f"{key}: found position tables that differ"):
        open_checkpoint(str(tmp_path / "other"))


@pytest.mark.parametrize("ocdbt", [True, False])
def test_t5x_s_orbax_layout(ocdbt, tmp_path):
    """T5X saves through Orbax as checkpoint_STEP/state, a tree with 'target' and 'state'."""
    import orbax.checkpoint as ocp

    params = t5x.t5x_example("t5_1_0_tiny").params
    tree = {"target": params, "state": {"step": np.int32(12)}}
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_12" / "state", tree)
    checkpoint = open_checkpoint(str(tmp_path / "checkpoint_12"))
    assert (checkpoint.format, checkpoint.step) == ("t5x", 12)
    assert_same_bits(read_all(tmp_path), traverse_util.flatten_dict(params, sep="/"))


def test_hugging_face_s_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("pagap_jax.checkpoints.hugging_face.SHARD_BYTES", 100_000)
    folder = convert_to(t5x_path("t5_1_0_tiny"), tmp_path / "hf", "hf")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = {path.name for path in folder.glob("*.safetensors")}
    assert set(index["weight_map"].values()) == files and len(files) > 1
    assert_same_bits(read_all(folder), read_all(t5x_path("t5_1_0_tiny")))


def test_the_destination(tmp_path):
    source = t5x_path("t5_1_0_tiny")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(ConfigError, match="taken exists; --force replaces it"):
        convert_to(source, tmp_path / "taken", "hf")
    assert (tmp_path / "taken" / "file").read_text() == "mine"
    convert_to(source, tmp_path / "taken", "hf", force=True)
    assert_same_bits(read_all(tmp_path / "taken"), read_all(source))
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_damaged_source_leaves_nothing(tmp_path):
    shutil.copytree(t5x_path("t5_1_0_tiny"), tmp_path / "checkpoint_10")
    chunk = tmp_path / "checkpoint_10" / "target.token_embedder.embedding" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(DataError, match="token_embedder/embedding"):
        convert_to(tmp_path / "checkpoint_10", tmp_path / "hf", "hf")
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint_10"]


def test_a_segment_table_has_no_place_in_hugging_face_s_t5(tmp_path):
    params = t5x.t5x_example("t5_1_0_tiny").params
    table = np.ones((3, 32), np.float32)
    save_params(tmp_path / "ours", {**params, "segment_embedder": {"embedding": table}})
    assert infer_config(open_checkpoint(str(tmp_path / "ours"))).num_segments == 3
    with pytest.raises(ConfigError, match="--drop_segments leaves it out"):
        convert_to(tmp_path / "ours", tmp_path / "hf", "hf")
    convert_to(tmp_path / "ours", tmp_path / "hf", "hf", drop_segments=True)
    assert_same_bits(read_all(tmp_path / "hf"), traverse_util.flatten_dict(params, sep="/"))


def test_what_shapes_do_not_tell_can_be_said():
    checkpoint = open_checkpoint(t5x_path("t5_1_1_tiny"))
    config = infer_config(checkpoint, mlp_activations=("silu", "linear"))
    assert config.mlp_activations == ("silu", "linear")
    with pytest.raises(ConfigError, match="its fields are vocab_size"):
        infer_config(checkpoint, num_head=4)
    with pytest.raises(DataError, match="found no T5 that holds together"):
        infer_config(checkpoint, mlp_dim=65)
