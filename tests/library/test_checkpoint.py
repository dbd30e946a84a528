"""`pagap checkpoint`: what it prints, what it writes, and how it refuses."""

import json

import pytest

import pagap_jax
from pagap_jax.checkpoints.opening import open_checkpoint
from pagap_jax.data.vocabulary import TICKETS_MODEL
from pagap_jax.main import main
from pagap_jax.sampling.methods import SamplingMethod
from tests.fixtures import t5x, toy

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
    ("source", "options", "printed"),
    [
        (T5X, [], "optimizer state: the source's, of Adafactor"),
        (HF, [], "optimizer state: Adafactor's at its start, all zeros"),
        (HF, ["--optimizer_state=none"], "optimizer state: none"),
    ],
)
def test_convert_to_t5x_says_which_optimizer_state_it_wrote(
    source, options, printed, tmp_path, capsys
):
    argv = ["checkpoint", "convert", source, str(tmp_path / "t5x"), "--to", "t5x", *options]
    assert main(argv) == 0
    assert printed in capsys.readouterr().out
    written = open_checkpoint(str(tmp_path / "t5x"))
    assert len(written.optimizer) == (0 if options else 4 * len(written.params))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["inspect", "nowhere"], "no checkpoint at nowhere"),
        (["convert", T5X, "out", "--to", "onnx"], "invalid choice: 'onnx'"),
        (
            ["convert", T5X, "out", "--to", "hf", "--optimizer_state=none"],
            "only T5X's format holds",
        ),
        (["inspect", T5X, "--gin.T5Config.num_heads=four"], "num_heads=four: expected"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    assert main(["checkpoint", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("pagap checkpoint: ") and message in printed.err
    assert not printed.out


def test_inspect_of_a_run_says_what_the_run_says(study, capsys):
    path = study / toy.ONLINE / "checkpoints" / "4"
    assert main(["checkpoint", "inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["step"], found["not_told"]) == ("orbax", 4, [])
    assert (found["config"]["dtype"], found["config"]["dropout_rate"]) == ("float32", 0.0)
    # Adam: a count and two moments of each parameter.
    assert found["optimizer_state"] >= 2 * len(found["arrays"])
    assert found["run"] == json.loads((study / toy.ONLINE / "run.json").read_text())
    assert main(["checkpoint", "inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    for line in ("run: align, fingerprint ", "Objective.beta = 0.1", "dropout_rate=0.0"):
        assert line in printed
    assert f"optimizer state: {found['optimizer_state']} arrays" in printed


def test_what_shapes_do_not_tell_is_no_fact(capsys):
    assert main(["checkpoint", "inspect", T5X]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "dropout_rate=" not in printed and "mlp_activations=" not in printed
    assert "not told by the checkpoint: dtype, mlp_activations, dropout_rate, " in printed


def exported(tmp_path, capsys, *arguments):
    """The files of a checkpoint that was converted to Hugging Face's format; JSON is parsed."""
    folder = tmp_path / "hf"
    argv = ["checkpoint", "convert", *map(str, arguments), str(folder), "--to", "hf"]
    assert main([*argv, "--drop_segments"]) == 0
    files = {file.name: file for file in folder.iterdir()}
    parsed = {n: json.loads(f.read_text()) for n, f in files.items() if n.endswith(".json")}
    return files | parsed, capsys.readouterr().out


def test_an_exported_policy_has_all_that_transformers_need(study, tmp_path, capsys):
    """Names and meanings as transformers document them for T5Tokenizer and GenerationConfig."""
    files, printed = exported(tmp_path, capsys, study / toy.ONLINE)
    assert {*files} == {
        "config.json", "digests.json", "generation_config.json", "model.safetensors",
        "spiece.model", "tokenizer_config.json",
    }  # fmt: skip
    assert files["spiece.model"].read_bytes() == TICKETS_MODEL.read_bytes()
    assert files["tokenizer_config.json"] == {
        "tokenizer_class": "T5Tokenizer", "extra_ids": 8, "model_max_length": 21,
        "truncation_side": "left", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
    }  # fmt: skip
    assert files["generation_config.json"] == {
        "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "do_sample": True,
        "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 20,
        "suppress_tokens": [0, *range(62, 72)],
    }  # fmt: skip
    assert files["config.json"]["dropout_rate"] == 0.0  # the run's, not a default
    modes = {name: (tmp_path / "hf" / name).stat().st_mode & 0o777 for name in files}
    assert modes["model.safetensors"] == modes["config.json"] and "no tokenizer" not in printed


def test_transformers_write_what_we_write(study, tmp_path, capsys):
    """The most probable responses, where transformers and torch are installed."""
    transformers, torch = (pytest.importorskip(name) for name in ("transformers", "torch"))
    exported(tmp_path, capsys, study / "sft")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf")
    prompts = ["blue kettle broken . urgent .", "red table fine . paid ten ."]
    with torch.no_grad():
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        written = model.generate(**inputs, do_sample=False)
    greedy = pagap_jax.load_policy(str(study / "sft"), sampling=SamplingMethod(temperature=0.0))
    ours = [str(response) for (response,) in greedy.sample(prompts)]
    assert tokenizer.batch_decode(written, skip_special_tokens=True) == ours


@pytest.mark.parametrize(
    ("options", "tokenizer"),
    [
        ([], None),
        (["--vocabulary", "bytes"], {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}),
        (["--vocabulary", TICKETS_MODEL, "--extra_ids", 8],
         {"tokenizer_class": "T5Tokenizer", "extra_ids": 8}),
    ],
)  # fmt: skip
def test_an_exported_checkpoint_of_another_program(options, tokenizer, tmp_path, capsys):
    files, printed = exported(tmp_path, capsys, T5X, *options, "--response_length", 9)
    assert files["generation_config.json"]["max_new_tokens"] == 9
    assert "do_sample" not in files["generation_config.json"]
    found = files.get("tokenizer_config.json")
    assert (tokenizer or {}).items() <= (found or {}).items() and bool(found) == bool(tokenizer)
    assert ("no tokenizer was written" in printed) == (tokenizer is None)
