"""Damaged and hostile files: a typed error or the right arrays, and no memory for lies."""

import json
import random
import resource
import shutil

import msgpack
import numpy as np
import pytest

from pagap_jax.checkpoints.architecture import infer_config
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.checkpoints.t5x_index import pack_index, read_index
from pagap_jax.errors import ConfigError, DataError, PagapError
from tests.fixtures import damages, t5x

T5X = t5x.DIRECTORY / "t5_1_0_tiny" / "checkpoint_10"
HF = t5x.DIRECTORY.parent / "hf" / "t5_1_0_tiny"
DAMAGES = {"t5x": 150, "hugging_face": 75, "data_set": 40, "stream": 40}
MEMORY = 512 * 2**20  # bytes above what the process had; the checkpoints have 0.4 MB


@pytest.mark.parametrize("kind", DAMAGES)
def test_damages_are_refused_or_change_nothing(kind, tmp_path):
    """gzip's sums, the index, headers and shapes tell of them; two thousand by tests.fixtures."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read, damager = damages.KINDS[kind](tmp_path, random.Random(0))
    counts, wrong = damages.campaign(read, damager, DAMAGES[kind], PagapError)
    assert not wrong
    refused = sum(n for what, n in counts.items() if what.endswith("refused"))
    assert refused > DAMAGES[kind] / 2, counts
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


def edited(tmp_path, edit):
    """A copy of the T5X checkpoint whose index was edited as a map."""
    folder = tmp_path / "checkpoint_10"
    shutil.copytree(T5X, folder)

    def decode(code, data):
        shape, name, content = msgpack.unpackb(data)
        return np.frombuffer(content, name).reshape(shape)

    tree = msgpack.unpackb((folder / "checkpoint").read_bytes(), ext_hook=decode)
    edit(folder, tree["optimizer"]["target"])
    (folder / "checkpoint").write_bytes(pack_index(tree))
    return folder


@pytest.mark.parametrize("path", ["../outside/", "/etc/", "a/../../b/", ""])
def test_paths_out_of_the_checkpoint(path, tmp_path):
    def edit(folder, target):
        target["token_embedder"]["embedding"]["kvstore"]["path"] = path

    with pytest.raises(DataError, match="token_embedder/embedding: found the path"):
        open_checkpoint(str(edited(tmp_path, edit)))


def test_a_shape_that_nobody_stored(tmp_path):
    """Petabytes, said twice in agreement: by the index and by the array's own metadata."""
    shape = [2**30, 2**20]

    def edit(folder, target):
        array = folder / "target.token_embedder.embedding"
        metadata = json.loads((array / ".zarray").read_text())
        (array / ".zarray").write_text(json.dumps(metadata | {"shape": shape, "chunks": shape}))
        target["token_embedder"]["embedding"]["metadata"] |= {"shape": shape, "chunks": shape}

    folder = edited(tmp_path, edit)
    with pytest.raises(DataError, match=r"token_embedder/embedding: found a shape of .*expected"):
        open_checkpoint(str(folder))


def test_a_missing_chunk_is_not_zeros(tmp_path):
    shutil.copytree(T5X, tmp_path / "checkpoint_10")
    (tmp_path / "checkpoint_10" / "target.encoder.encoder_norm.scale" / "0").unlink()
    checkpoint = open_checkpoint(str(tmp_path))
    with pytest.raises(DataError, match="encoder/encoder_norm/scale: "):
        checkpoint.params["encoder/encoder_norm/scale"].read()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda target: target["encoder"].pop("encoder_norm"), "encoder_norm/scale: missing"),
        (lambda target: target["encoder"].update(more=np.zeros(3)), "encoder/more: in the checkp"),
        (lambda target: target["encoder"].update(encoder_norm={"scale": np.zeros(5)}), r"has \(5,"),
    ],
)
def test_keys_that_make_no_t5(edit, message, tmp_path):
    folder = edited(tmp_path, lambda folder, target: edit(target))
    with pytest.raises(DataError, match=f"(?s)found no T5 that holds together:.*{message}"):
        infer_config(open_checkpoint(str(folder)))


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n.", b"\xc1" * 9, b"\x91" * 3000])
def test_what_is_no_index(content):
    with pytest.raises(DataError, match="checkpoint: found"):
        read_index("checkpoint", content)


def test_an_array_in_the_index_that_claims_more_than_it_has():
    lying = msgpack.ExtType(1, msgpack.packb(([2**40], "float32", b"1234")))
    with pytest.raises(DataError, match="4 bytes for float32"):
        read_index("checkpoint", msgpack.packb({"x": lying}))


def test_shards_are_files_of_the_folder(tmp_path):
    shutil.copytree(HF, tmp_path / "hf")
    index = {"weight_map": {"shared.weight": "../../secret.safetensors"}}
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="expected a file's name"):
        open_checkpoint(str(tmp_path / "hf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "found model_type 'bert', not T5"),
        ({"feed_forward_proj": "tanh"}, "feed_forward_proj 'tanh' isn't one of relu"),
        ({"tie_word_embeddings": False}, "and there is no lm_head.weight"),
    ],
)
def test_what_is_no_t5(change, message, tmp_path):
    shutil.copytree(HF, tmp_path / "hf")
    config = json.loads((HF / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(DataError, match=message):
        open_checkpoint(str(tmp_path / "hf"))


def test_where_there_is_no_checkpoint(tmp_path):
    for path in (str(tmp_path), str(tmp_path / "nowhere"), "package:no_such"):
        with pytest.raises(ConfigError, match=f"no checkpoint at {path}: expected"):
            open_checkpoint(path)
