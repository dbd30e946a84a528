"""`pagap checkpoint`: what it prints, what it writes, and how it refuses."""

import json

import pytest

from pagap_jax.main import main
from tests.fixtures import t5x

T5X = str(t5x.DIRECTORY / "t5_1_1_tiny" / "checkpoint_10")
HF = str(t5x.DIRECTORY.parent / "hf" / "t5_1_0_tiny")


def test_inspect(capsys):
    assert main(["checkpoint", "inspect", T5X]) == 0
    printed = capsys.readouterr().out
    for line in ("format: t5x", "step: 10", "parameters: 74,368", "version: 1.1"):
        assert line in printed
    assert "decoder/logits_dense/kernel" in printed and "(32, 384)" in printed


def test_inspect_for_programs(capsys):
    assert main(["checkpoint", "inspect", HF, "--json", "--gin.T5Config.dropout_rate=0.5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["step"], found["version"]) == ("hf", None, "1.0")
    assert found["config"]["num_heads"] == 4 and found["config"]["dropout_rate"] == 0.5
    assert found["arrays"]["token_embedder/embedding"] == {"shape": [384, 32], "dtype": "float32"}


def test_convert(tmp_path, capsys):
    assert main(["checkpoint", "convert", T5X, str(tmp_path / "hf"), "--to", "hf"]) == 0
    printed = capsys.readouterr().out
    assert "parameters, hf" in printed and "the optimizer's state was left out" in printed
    assert (tmp_path / "hf" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["inspect", "nowhere"], "no checkpoint at nowhere"),
        (["convert", T5X, "out", "--to", "onnx"], "invalid choice: 'onnx'"),
        (["inspect", T5X, "--gin.T5Config.num_heads=four"], "num_heads=four: expected"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    assert main(["checkpoint", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("pagap checkpoint: ") and message in printed.err
    assert not printed.out
