"""D_online's recorder: row for row what was made, whenever it was killed."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from pagap_jax.align.pairs import PairBatch
from pagap_jax.align.recorder import StreamRecorder
from pagap_jax.data.reading import read_token_pairs
from pagap_jax.data.stored import TOKEN_COLUMNS
from pagap_jax.data.stored_metadata import read_metadata
from pagap_jax.errors import DataError
from tests.fixtures.stored_pairs import LetterVocabulary

BATCH, STEPS, PROMPT_LENGTH, REPORT = 3, 6, 4, {"method": "online"}


def made_at(step):
    """What a step hands to the recorder: a function of the step, as in a job."""
    rng = np.random.default_rng(step)
    tokens = rng.integers(2, 30, (3, BATCH, 4)).astype(np.int32)
    pairs = PairBatch(
        response_a=tokens[0],
        response_b=tokens[1],
        choice=np.array([0, 1, -1], np.int32),
        probability=rng.uniform(size=BATCH).astype(np.float32),
        prompt_truncated=np.zeros(BATCH, bool),
    )
    trimmed = tokens[2][:, : PROMPT_LENGTH - step % 2]  # batches of two length buckets
    return jnp.asarray(trimmed), jax.tree.map(jnp.asarray, pairs)


@pytest.fixture
def recorder(tmp_path):
    folder = epath.Path(tmp_path)
    return StreamRecorder(folder, PROMPT_LENGTH)


def record(recorder, start, stop, flush_at):
    """Steps from `start` on; flushes after the given numbers of steps, as the loop does."""
    recorder.resume(start)
    for step in range(start, stop):
        recorder.add(step, made_at(step))
        if step + 1 in flush_at:
            recorder.flush()


def test_devices_keep_the_last_step_alone(recorder):
    record(recorder, 0, 4, flush_at=())
    kept = [jax.tree.leaves(made) for _, made in recorder._pending]
    on_devices = [any(isinstance(x, jax.Array) for x in leaves) for leaves in kept]
    assert on_devices == [False, False, False, True]


def assert_complete(recorder):
    recorder.finish(LetterVocabulary(), REPORT)
    stored = read_token_pairs(recorder._dataset, "train")
    made = [made_at(step) for step in range(STEPS)]
    prompts = [np.pad(p, ((0, 0), (0, PROMPT_LENGTH - p.shape[1]))) for p, _ in made]
    np.testing.assert_array_equal(stored.prompt, np.concatenate(prompts))
    for name in ("response_a", "response_b", "choice", "probability"):
        expected = np.concatenate([getattr(pairs, name) for _, pairs in made])
        np.testing.assert_array_equal(getattr(stored, name), expected, err_msg=name)
    assert stored.step.tolist() == [step for step in range(STEPS) for _ in range(BATCH)]
    assert (stored.true_choice == -1).all()
    assert read_metadata(recorder._dataset)["report"] == REPORT
    assert not recorder._stream.exists()


def test_every_row_in_order(recorder):
    record(recorder, 0, STEPS, flush_at=(1, 4, STEPS))
    assert_complete(recorder)


# (steps made, flushes among them, step of the last committed checkpoint)
@pytest.mark.parametrize(
    ("made", "flushed", "checkpoint"),
    [
        (3, (2,), 2),  # killed some steps after a checkpoint
        (4, (2, 4), 2),  # between the flush and the checkpoint that counts on it
        (2, (2,), 0),  # the same at the first
        (3, (2, 3), 2),  # the same where a stop was to save: no later flush takes this name
        (1, (), 0),  # before any
        (STEPS, (2, 4, STEPS), STEPS),  # all but finished
        (5, (2, 5), 5),  # stopped where no checkpoint was planned
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(made, flushed, checkpoint, recorder):
    record(recorder, 0, made, flushed)
    again = StreamRecorder(recorder._stream.parent, PROMPT_LENGTH)
    record(again, checkpoint, STEPS, flush_at=(2, 4, STEPS))
    assert_complete(again)


@pytest.mark.parametrize("step", [0, 2])
def test_a_run_goes_back_whose_d_online_is_made(step, recorder):
    record(recorder, 0, STEPS, flush_at=(2, STEPS))
    recorder.finish(LetterVocabulary(), REPORT)
    again = StreamRecorder(recorder._stream.parent, PROMPT_LENGTH)
    record(again, step, STEPS, flush_at=(4, STEPS))
    assert_complete(again)


def test_an_unfinished_file_is_dropped(recorder):
    record(recorder, 0, 2, flush_at=(2,))
    (recorder._stream / "00000004.tmp").write_bytes(b"half")
    recorder.resume(2)
    assert [file.name for file in recorder._stream.iterdir()] == ["00000002.npz"]


def test_killed_while_it_finishes(recorder, tmp_path):
    record(recorder, 0, STEPS, flush_at=(STEPS,))
    shutil.copytree(recorder._stream, tmp_path / "kept")
    assert_complete(recorder)
    shutil.copytree(tmp_path / "kept", recorder._stream)  # killed before the stream was removed
    again = StreamRecorder(recorder._stream.parent, PROMPT_LENGTH)
    again.resume(STEPS)
    assert_complete(again)
    again.resume(STEPS)  # killed after it, before result.json
    assert_complete(again)


@pytest.mark.parametrize("left", [(), (2, 4), (4,)], ids=["finished", "killed", "half removed"])
def test_a_finished_run_that_is_extended(left, recorder, tmp_path):
    """D_online becomes a stream again, whatever is left of the stream that made it."""
    record(recorder, 0, 4, flush_at=(2, 4))
    shutil.copytree(recorder._stream, tmp_path / "kept")
    recorder.finish(LetterVocabulary(), REPORT)
    for step in left:
        recorder._stream.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "kept" / f"{step:08d}.npz", recorder._stream)
    again = StreamRecorder(recorder._stream.parent, PROMPT_LENGTH)
    record(again, 4, STEPS, flush_at=(STEPS,))
    assert_complete(again)


def test_a_gap_is_an_error(recorder):
    record(recorder, 0, STEPS, flush_at=(2, 4, STEPS))
    (recorder._stream / "00000004.npz").unlink()
    with pytest.raises(DataError, match="nothing recorded of step 2"):
        recorder.finish(LetterVocabulary(), REPORT)
    assert not recorder._dataset.exists()


def test_rows_are_stored_without_a_cast(recorder):
    record(recorder, 0, STEPS, flush_at=(STEPS,))
    recorder.finish(LetterVocabulary(), REPORT)
    stored = read_token_pairs(recorder._dataset, "train")
    for field in dataclasses.fields(stored):
        wanted = np.int32 if field.name in (*TOKEN_COLUMNS, "step") else np.int8
        wanted = np.float32 if field.name == "probability" else wanted
        assert getattr(stored, field.name).dtype == wanted
