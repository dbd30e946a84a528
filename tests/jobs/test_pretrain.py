"""The pretraining job at toy length, and the checkpoints of it that ship with the package."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.model.config import T5Config
from pagap_jax.model.sharding import make_mesh
from pagap_jax.model.transformer import Transformer
from pagap_jax.train.state import abstract_params
from tests.fixtures import toy


def tiny_params(path, width):
    """Parameters of a checkpoint of the built-in study's sizes."""
    config = T5Config(
        vocab_size=72,
        emb_dim=width,
        num_heads=width // 32,
        num_encoder_layers=2,
        num_decoder_layers=2,
        head_dim=32,
        mlp_dim=2 * width,
        mlp_activations=("gelu", "linear"),
        num_segments=3,
    )
    return restore_params(path, abstract_params(Transformer(config), make_mesh()))


@pytest.mark.parametrize("width", [64, 96])
def test_packaged_checkpoint_is_a_trained_model(width):
    params = tiny_params(f"package:tickets_t5_{width}", width)
    leaves = jax.tree.leaves(params)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    # Random parameters have a segment table of zeros: pretraining is what filled it.
    assert np.abs(params["segment_embedder"]["embedding"]).max() > 0.1


def test_pretrain_exports_what_a_job_can_start_from(study, tmp_path_factory):
    directory = tmp_path_factory.mktemp("pretrain") / "verdicts"
    macros = {
        "MODEL_DIR": str(directory),
        "PAIRS_DIR": str(study.seed / "pairs"),
        "INITIAL_CHECKPOINT_PATH": None,
        "TRAIN_STEPS": 2,
        "MAX_FINAL_LOSS": None,
        "METRICS_PERIOD": 1,
    }
    argv = ["pretrain", "--gin_file=studies/tiny_pretraining/verdicts.gin"]
    argv += [*toy.bindings(macros), "--gin.MODEL=%POLICY_MODEL"]
    assert toy.job_runner().run(argv) == (0, "")
    first, second = toy.metrics(directory)
    assert first["tag_loss"] == pytest.approx(np.log(4), abs=0.7)  # four tags, nothing learnt yet
    assert first["loss"] == pytest.approx(first["tag_loss"] + 0.3 * first["verdict_loss"])
    assert second["loss"] != first["loss"]
    exported = tiny_params(str(directory / "export"), 64)
    trained = tiny_params(str(directory), 64)
    # Exported in bfloat16, 8 bits of mantissa.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), exported, trained)
