"""Hugging Face checkpoints whose parts contradict each other, and tables under other names."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from pagap_jax.checkpoints.architecture import infer_config
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.main import main
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.train.state import abstract_params
from tests.fixtures import t5x

HF = t5x.DIRECTORY.parent / "hf"
TIED, UNTIED = "t5_1_0_tiny", "t5_1_1_tiny"
SHARED, HEAD = "shared.weight", "lm_head.weight"
DECODER, ENCODER = "decoder.embed_tokens.weight", "encoder.embed_tokens.weight"


@pytest.fixture
def edited(tmp_path):
    """Writes a fixture with its settings and tensors changed; None takes one out."""

    def edit(name, settings=None, tensors=None):
        config = json.loads((HF / name / "config.json").read_text()) | (settings or {})
        found = safetensors.numpy.load_file(HF / name / "model.safetensors") | (tensors or {})
        kept = {key: array for key, array in found.items() if array is not None}
        (tmp_path / "config.json").write_text(json.dumps(config))
        safetensors.numpy.save_file(kept, tmp_path / "model.safetensors")
        return str(tmp_path)

    return edit


def table_of(name):
    return safetensors.numpy.load_file(HF / name / "model.safetensors")[SHARED]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("vocab_size", 400, "vocab_size 400, shared.weight has 384"),
        ("d_model", 64, "d_model 64, shared.weight has 32"),
        ("num_heads", 8, r"num_heads 8, .*relative_attention_bias.weight has 4"),
        ("d_kv", 16, r"d_kv 16, .*SelfAttention.q.weight with 4 heads has 8"),
        ("d_ff", 128, r"d_ff 128, .*DenseReluDense.wi_0.weight has 64"),
        ("num_layers", 3, "num_layers 3, encoder.block has 2"),
        ("num_decoder_layers", 1, "num_decoder_layers 1, decoder.block has 2"),
        ("relative_attention_max_distance", 64, "relative_attention_max_distance: found 64, exp"),
        ("feed_forward_proj", ["relu"], r"feed_forward_proj \['relu'\] isn't one of relu"),
        ("tie_word_embeddings", "false", "tie_word_embeddings 'false' isn't true or false"),
    ],
)
def test_settings_that_the_tensors_contradict(setting, value, message, edited, capsys):
    path = edited(UNTIED, {setting: value})
    with pytest.raises(DataError, match=f"config.json.*{message}"):
        open_checkpoint(path)
    assert main(["checkpoint", "inspect", path]) == 2
    assert setting in capsys.readouterr().err


def test_a_setting_that_is_not_there_contradicts_nothing(edited):
    path = edited(UNTIED, {"num_decoder_layers": None, "d_kv": None})
    assert infer_config(open_checkpoint(path)).num_decoder_layers == 2


@pytest.mark.parametrize(
    ("name", "copy"), [(TIED, HEAD), (TIED, DECODER), (TIED, ENCODER), (UNTIED, DECODER)]
)
def test_copies_of_the_table(name, copy, edited, monkeypatch):
    """One that is the same is left out; one that differs, wherever it does, is refused."""
    monkeypatch.setattr("pagap_jax.checkpoints.hugging_face_checks._CHUNK_BYTES", 10_000)
    table = table_of(name)
    assert open_checkpoint(edited(name, tensors={copy: table})).num_parameters > 0
    other = table.copy()
    other[-1, -1] += 1
    for different in (other, table[:-1], table.astype(ml_dtypes.bfloat16)):
        with pytest.raises(DataError, match=f"({copy} and {SHARED} differ|has 383)"):
            open_checkpoint(edited(name, tensors={copy: different}))


@pytest.mark.parametrize("name", [DECODER, ENCODER])
def test_the_table_by_the_name_of_its_copy(name, edited):
    table = table_of(UNTIED)
    checkpoint = open_checkpoint(edited(UNTIED, tensors={SHARED: None, name: table}))
    np.testing.assert_array_equal(checkpoint.params["token_embedder/embedding"].read(), table)
    with pytest.raises(DataError, match=f"found no {SHARED}, and no {DECODER} in its place"):
        open_checkpoint(edited(UNTIED, tensors={SHARED: None}))


def test_a_single_file_beside_an_index(edited, tmp_path):
    path = edited(UNTIED)
    names = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert open_checkpoint(path).num_parameters > 0  # it is the index's own file
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "part.safetensors")}))
    with pytest.raises(DataError, match=r"model.safetensors beside model.safetensors.index.json"):
        open_checkpoint(path)


def test_messages_have_hugging_face_s_names(edited):
    """And its order of axes: torch keeps matrices transposed."""
    output = "decoder.block.1.layer.2.DenseReluDense.wo.weight"
    path = edited(UNTIED, tensors={output: np.zeros((32, 65), np.float32)})
    expected = rf"{output}: the checkpoint has \(32, 65\), the model \(32, 64\)"
    with pytest.raises(DataError, match=expected):
        infer_config(open_checkpoint(path))
    config = t5x.t5x_example(UNTIED).config
    with pytest.raises(ConfigError, match=expected):
        restore_params(path, abstract_params(Transformer(config), make_mesh(8)))
    norm = "decoder.final_layer_norm.weight"
    with pytest.raises(DataError, match=f"{norm}: missing from the checkpoint"):
        infer_config(open_checkpoint(edited(UNTIED, tensors={norm: None})))
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    with pytest.raises(DataError, match=f"{bias}: found none, expected 2 axes"):
        infer_config(open_checkpoint(edited(UNTIED, tensors={bias: None})))
