"""A T5 that others trained, from its checkpoint to fine-tuning and alignment, by the command line.

T5X's fixture has 384 ids, those of ByT5: bytes need no vocabulary file.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pagap_jax.checkpoints.opening import open_checkpoint
from tests.fixtures import t5x, toy

T5X = t5x.DIRECTORY / "t5_1_1_tiny" / "checkpoint_10"
HF = t5x.DIRECTORY.parent / "hf" / "t5_1_1_tiny"
STEPS = 3
PREPARE = ("prepare", "jobs/prepare.gin", "data/byt5_vocabulary.gin")
LARGER = "--gin.byte_vocabulary.extra_ids=126"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Comparisons as ByT5's bytes."""
    folder = tmp_path_factory.mktemp("own")
    lines = [
        {"prompt": f"say {i}", "response_a": f"{i}", "response_b": f"no {i}", "choice": i % 2}
        for i in range(40)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(*PREPARE, **prepare_macros(folder / "pairs", folder))
    return folder / "pairs"


def prepare_macros(model_dir, folder):
    """Macros of `prepare` on the lines in a folder."""
    return {
        "MODEL_DIR": model_dir, "DATA_FILE": folder / "pairs.jsonl", "SEED": 0, "NUM_TRAIN": None,
        "MIXTURE_OR_TASK_NAME": "json_lines", "NUM_VALIDATION": None,
        "TASK_FEATURE_LENGTHS": {"inputs": 12, "targets": 6},
    }  # fmt: skip


def argv(job, *gin_files, **macros):
    values = {k: str(v) if isinstance(v, Path) else v for k, v in macros.items()}
    return [job, *(f"--gin_file={file}" for file in gin_files), *toy.bindings(values)]


def run(*arguments, larger=False, **macros):
    exit_code, said = toy.job_runner().run([*argv(*arguments, **macros), *[LARGER] * larger])
    assert exit_code == 0, said


def training(folder, pairs, start, **macros):
    """Macros of a job that trains `start` for a few steps."""
    return {
        "MODEL_DIR": folder, "PAIRS_DIR": pairs, "SEED": 0, "MODEL_CHECKPOINT_PATH": start,
        "BATCH_SIZE": 8, "TRAIN_STEPS": STEPS, "METRICS_PERIOD": 1, "LEARNING_RATE": 1e-3, **macros,
    }  # fmt: skip


GIN = ("data/byt5_vocabulary.gin", "sizes/of_checkpoint.gin")


@pytest.mark.parametrize("start", [T5X, HF], ids=["t5x", "hf"])
def test_fine_tuning_starts_from_either(start, pairs, tmp_path):
    macros = training(tmp_path / "sft", pairs, start, INITIAL_CHECKPOINT_PATH=start)
    run("sft", "jobs/sft.gin", *GIN, **macros)
    assert [row["step"] for row in toy.metrics(tmp_path / "sft")] == [1, 2, 3]


def test_a_t5x_run_continues(pairs, tmp_path):
    """From step 10 to 13, with its second moments: they are zero, and the count is not."""
    macros = training(tmp_path / "on", pairs, T5X, INITIAL_CHECKPOINT_PATH=T5X, TRAIN_STEPS=13)
    run("sft", "jobs/sft.gin", *GIN, **macros, CONTINUE_TRAINING=True)
    assert [row["step"] for row in toy.metrics(tmp_path / "on")] == [11, 12, 13]
    saved = toy.saved_arrays(tmp_path / "on" / "checkpoints" / "13")
    (count,) = [array for name, array in saved.items() if "count" in name]
    assert count == 13


def test_a_vocabulary_that_does_not_fit_is_refused(pairs, tmp_path):
    """It has one id more than the checkpoint has embeddings."""
    run(*PREPARE, **prepare_macros(tmp_path / "pairs", pairs.parent), larger=True)
    macros = training(tmp_path / "sft", tmp_path / "pairs", T5X, INITIAL_CHECKPOINT_PATH=T5X)
    exit_code, said = toy.job_runner().run([*argv("sft", "jobs/sft.gin", *GIN, **macros), LARGER])
    assert exit_code == 2
    assert "the vocabulary has 385 ids, the model's vocab_size is 384" in said


def start_alignment(folder, pairs, processes, devices, **macros):
    """An offline run from the converted checkpoint, on so many processes and devices in all."""
    converted = folder.parent / "orbax"
    if not converted.exists():
        argv_ = ["checkpoint", "convert", str(HF), str(converted), "--to", "orbax"]
        assert toy.job_runner().run(argv_)[0] == 0
    macros = training(folder, pairs, HF, SFT_DIR=converted, BETA=0.1, NUM_PARTITIONS=2, **macros)
    command = argv("align", "jobs/align_offline.gin", *GIN, **macros)
    return toy.launch(["-m", "pagap_jax.main", *command], processes, devices)


def aligned(folder, pairs, processes, devices):
    """Losses and parameters of a run to its end."""
    toy.end(start_alignment(folder, pairs, processes, devices), 0)
    rows = toy.metrics(folder)
    assert [row["step"] for row in rows] == [1, 2, 3]  # one process writes
    saved = open_checkpoint(str(folder)).params
    return [row["loss"] for row in rows], {key: array.read() for key, array in saved.items()}


def test_alignment_of_a_converted_t5_on_eight_devices_and_on_two_processes(pairs, tmp_path):
    losses, saved = aligned(tmp_path / "one", pairs, processes=1, devices=8)
    losses_of_two, saved_by_two = aligned(tmp_path / "two", pairs, processes=2, devices=8)
    np.testing.assert_allclose(losses_of_two, losses, rtol=1e-5)
    assert saved.keys() == saved_by_two.keys()
    for name, array in saved.items():
        np.testing.assert_allclose(saved_by_two[name], array, rtol=1e-4, atol=1e-6, err_msg=name)
    assert os.listdir(tmp_path / "one" / "checkpoints") == [str(STEPS)]


def test_sigterm_to_one_of_two_processes_stops_both_at_the_same_step(pairs, tmp_path):
    """And saves it; JAX carries the signal over."""
    folder = tmp_path / "two"
    running = start_alignment(folder, pairs, processes=2, devices=2, TRAIN_STEPS=100_000)
    deadline = time.monotonic() + toy.TIME_LIMIT
    while not (folder / "metrics.jsonl").exists() or len(toy.metrics(folder)) < 3:
        assert time.monotonic() < deadline and running[0].poll() is None
        time.sleep(0.1)
    running[1].terminate()
    said = toy.end(running, 42)
    (step,) = [int(path.name) for path in (folder / "checkpoints").iterdir()]
    for text in said:
        assert f"asked to stop; saved step {step}, from which the same command" in text
