"""One's own comparisons and one's own T5 through a whole study, by studies/own.gin alone."""

import json

import numpy as np
import pytest
from etils import epath
from flax import traverse_util

from pagap_jax.checkpoints.hugging_face import write_hugging_face
from pagap_jax.checkpoints.stored import StoredArray
from pagap_jax.checkpoints.vocabulary import T5_EXTRA_IDS, vocabulary_of
from pagap_jax.data.vocabulary import TICKETS_MODEL, describe_vocabulary
from pagap_jax.errors import ConfigError
from pagap_jax.model.config import T5Config
from tests.fixtures import tiny, toy

PAIRS = 300
CONFIG = T5Config(
    vocab_size=384, dtype="float32", emb_dim=16, num_heads=1, num_encoder_layers=1,
    num_decoder_layers=1, head_dim=16, mlp_dim=32, mlp_activations=("gelu", "linear"),
)  # fmt: skip
SHORT = {
    "TASK_FEATURE_LENGTHS": {"inputs": 12, "targets": 6}, "INPUT_LENGTH": 28,
    "SFT_STEPS": 4, "SFT_BATCH_SIZE": 8, "PREFERENCE_STEPS": 4, "PREFERENCE_BATCH_SIZE": 8,
    "PREFERENCE_WARMUP_STEPS": 2, "VALIDATION_PERIOD": 2, "ALIGN_STEPS": 4, "ALIGN_BATCH_SIZE": 8,
    "CHECKPOINT_STEPS": (2,), "EARLY_STEP": 2, "KL_PROMPTS": 16, "CLASSIFICATION_PAIRS": 16,
    "NUM_PROMPTS": 32, "BARS": {"sft_kl": (0.0, 0.0)}, "GIN_FILES": ("mine.gin",),
    "OFFLINE_SWEEP": ({"LEARNING_RATE": 1e-3, "BETA": 0.1},),
}  # fmt: skip
MINE = "config_of.dtype = 'float32'\nOPTIMIZER = @adam()\n"


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A T5 with ByT5's number of embeddings, as Hugging Face's `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("t5")
    params = traverse_util.flatten_dict(tiny.random_params(CONFIG), sep="/")
    arrays = {name: StoredArray.of(array) for name, array in params.items()}
    write_hugging_face(epath.Path(folder), arrays, CONFIG)
    return folder


def test_three_settings_are_all_that_a_study_of_ones_own_needs(t5, tmp_path):
    lines = [
        {"prompt": f"say {i}", "response_a": f"{i}", "response_b": f"no {i}", "choice": i % 2}
        for i in range(PAIRS)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "mine.gin").write_text(MINE)
    study = tmp_path / "study"
    command = [
        *("-m", "pagap_jax.main", "study", "--gin_file=studies/own.gin"),
        *(f"--gin_search_paths={tmp_path}", "--gin.study.workers=1"),
        *(f"--gin.STUDY_DIR={study}", f"--gin.DATA_FILE={data}"),
        *(f"--gin.MODEL_CHECKPOINT_PATH={t5}", *toy.bindings(SHORT)),
    ]
    toy.end(toy.launch(command, 1, 1), 0)
    rows = (study / "rows.csv").read_text()
    assert "of_checkpoint" in rows and (study / "report.html").exists()
    sft = json.loads((study / "seed_0" / "sft" / "run.json").read_text())
    assert sft["parents"]["initial"]["path"] == str(t5)
    assert "config_of.dtype = 'float32'" in "\n".join(sft["configuration"])
    told = describe_vocabulary(vocabulary_of(str(t5), None, {384: lambda: BYTES}))
    metadata = json.loads((study / "seed_0" / "pairs" / "pairs.json").read_text())
    assert metadata["vocabulary"]["size"] == told["size"] == 384


class BYTES:
    """What `describe_vocabulary` asks of a vocabulary."""

    vocab_size = 384


def test_a_sentencepiece_model_beside_a_checkpoint_is_its_vocabulary(t5, tmp_path):
    (tmp_path / "spiece.model").write_bytes(TICKETS_MODEL.read_bytes())
    beside = vocabulary_of(str(tmp_path), None, {})
    assert beside.extra_ids == T5_EXTRA_IDS
    assert vocabulary_of(str(t5), str(TICKETS_MODEL), {}).vocab_size == beside.vocab_size
    with pytest.raises(ConfigError, match="no spiece.model and 384 embeddings.*VOCABULARY_PATH"):
        vocabulary_of(str(t5), None, {32128: np.zeros})
