"""A checkpoint's settings come from its run, wherever the run's folder lies."""

import dataclasses
import json
import shutil

import pytest

from pagap_jax.checkpoints.opening import config_of
from pagap_jax.configuration.recorded import RecordedConfiguration
from pagap_jax.data.texts import kept_texts
from pagap_jax.data.vocabulary import byte_vocabulary, describe_vocabulary
from pagap_jax.errors import ConfigError
from pagap_jax.library.settings import Given, RecordedRun, complete
from pagap_jax.model.config import T5Config
from pagap_jax.sampling.methods import SamplingMethod
from tests.fixtures import t5x, toy

T5X = str(t5x.DIRECTORY / "t5_1_1_tiny" / "checkpoint_10")
NEEDS = ("prompt_length", "response_length", "sampling")


def settings_of(path):
    """Complete settings of a policy, the vocabulary by what tells it from others."""
    found = complete(str(path), Given(), NEEDS)
    return dataclasses.replace(found, vocabulary=describe_vocabulary(found.vocabulary))


def moved(run, folder, *left_out):
    """A run's folder without its checkpoints, elsewhere."""
    ignored = shutil.ignore_patterns("checkpoints", "d_online", *left_out)
    shutil.copytree(run, folder, ignore=ignored)
    return folder


def change_run(folder, changed):
    """Edits run.json: 'line of before' to 'line of now'."""
    run = json.loads((folder / "run.json").read_text())
    run["configuration"] = [changed.get(line, line) for line in run["configuration"]]
    (folder / "run.json").write_text(json.dumps(run))


def test_a_run_says_all_of_itself(study):
    found = settings_of(study / toy.ONLINE / "checkpoints" / "4")
    assert (found.prompt_length, found.response_length) == (21, 20)
    assert found.model == T5Config(
        vocab_size=72, dtype="float32", emb_dim=16, num_heads=1, head_dim=16, mlp_dim=32,
        num_encoder_layers=1, num_decoder_layers=1, mlp_activations=("gelu", "linear"),
        dropout_rate=0.0, num_segments=3,
    )  # fmt: skip
    assert found.vocabulary["size"] == 70 and found.sampling == SamplingMethod()


def test_a_run_that_kept_no_texts_says_the_same(study, tmp_path):
    """As runs of earlier versions: from run.json and the data set it was trained on."""
    bare = moved(study / toy.ONLINE, tmp_path / "bare", "texts.json", "vocabulary.model")
    assert kept_texts(bare) is None
    assert settings_of(bare) == settings_of(study / toy.ONLINE)


def test_a_run_without_its_data(study, tmp_path):
    """It knows lengths and vocabulary by itself, and finds data that were moved with it."""
    alone = moved(study / toy.ONLINE, tmp_path / "alone" / "online")
    run = json.loads((alone / "run.json").read_text())
    run["parents"]["pairs"]["path"] = "/nowhere/d_golden"
    (alone / "run.json").write_text(json.dumps(run))
    assert settings_of(alone) == settings_of(study / toy.ONLINE)
    with pytest.raises(ConfigError, match="found its data neither at /nowhere/d_golden nor at"):
        RecordedRun.of(str(alone)).pairs_dir()
    (alone / "texts.json").unlink()
    with pytest.raises(ConfigError, match="of fingerprint '.*'; or give prompt_length"):
        settings_of(alone)
    (alone.parent / "d_golden").symlink_to(study / "d_golden")
    assert settings_of(alone) == settings_of(study / toy.ONLINE)


def test_arguments_go_before_what_a_run_says(study):
    given = Given(sampling=SamplingMethod(temperature=0.0), response_length=5)
    found = complete(str(study / "sft"), given, NEEDS)
    assert (found.sampling.temperature, found.response_length, found.prompt_length) == (0.0, 5, 21)


def test_online_s_own_sampling(study, tmp_path):
    run = moved(study / toy.ONLINE, tmp_path / "run")
    change_run(run, {"SamplingMethod.temperature = 1.0": "SamplingMethod.temperature = 0.7"})
    assert settings_of(run).sampling == SamplingMethod(temperature=0.7)


def test_sizes_that_were_read_off_a_checkpoint_are_read_off_the_run_s_own(study, tmp_path):
    configuration = [
        "sft.model = @POLICY_MODEL/config_of()",
        "POLICY_MODEL/config_of.path = %MODEL_CHECKPOINT_PATH",
        "POLICY_MODEL/config_of.dtype = 'float32'",
    ]
    identity = {"job": "sft", "fingerprint": "", "configuration": configuration, "parents": {}}
    run = RecordedRun(study / "sft", identity, T5X)
    assert run.model() == config_of(T5X, dtype="float32")


def test_a_vocabulary_at_a_place_is_asked_for(study, tmp_path):
    bare = moved(study / "sft", tmp_path / "bare", "texts.json")
    before = "sft.vocabulary = @VOCABULARY/tickets_vocabulary()"
    change_run(bare, {before: "sft.vocabulary = %VOCABULARY_DIR"})
    with pytest.raises(ConfigError, match="run.json: sft.vocabulary = .*; or give vocabulary"):
        settings_of(bare)
    given = Given(vocabulary=byte_vocabulary())
    assert complete(str(bare), given, NEEDS).prompt_length == 21


def test_damaged_texts_are_refused(study, tmp_path):
    run = moved(study / "sft", tmp_path / "run")
    (run / "vocabulary.model").write_bytes(b"none")
    with pytest.raises(ConfigError, match="vocabulary.model: not a sentencepiece model"):
        settings_of(run)
    (run / "texts.json").write_text('{"prompt_length": 21')
    with pytest.raises(ConfigError, match="texts.json: found .*, expected what a run wrote"):
        settings_of(run)


def test_what_can_t_be_built_again_is_named():
    lines = ["job.a = builtins.object", "job.b = @no_such()", "job.c = %PLACE_DIR", "job.d = [1]"]
    recorded = RecordedConfiguration(lines, "run.json")
    assert recorded.build("job.d") == [1]
    assert recorded.build("job.c", lambda name: name.lower()) == "place_dir"
    for key, message in {
        "job.a": "run.json: job.a = builtins.object can't be built again",
        "job.b": "no configurable named 'no_such'",
        "job.c": "%PLACE_DIR says where something lies",
        "job.e": "run.json: found no job.e",
    }.items():
        with pytest.raises(ConfigError, match=message):
            recorded.build(key)
