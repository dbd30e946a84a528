"""A checkpoint of ours that is not what was written: named, and the way back to an earlier one."""

import random
import shutil

import jax
import numpy as np
import pytest

from pagap_jax.checkpoints.digests import DIGESTS
from pagap_jax.checkpoints.restoring import restore_params
from pagap_jax.checkpoints.saving import Checkpoints
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.train.optimizer import adafactor
from pagap_jax.train.state import abstract_params, abstract_state, init_params, init_state
from tests.checkpoints.test_saving import MESH, TRANSFORMER, assert_same
from tests.fixtures.damages import Damager, files_of

DAMAGES = 24
# Orbax leaves a loop behind where a read fails; it is collected when it likes.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two saved steps, 1 and 2; and their states."""
    folder = tmp_path_factory.mktemp("digests") / "checkpoints"
    state = init_state(init_params(TRANSFORMER, jax.random.key(3), MESH), adafactor(), MESH)
    saver, states = Checkpoints(folder), {}
    for step in (1, 2):
        state = jax.tree.map(lambda x: x + 1, state)
        saver.save(state, step)
        states[step] = state
    saver.close()
    return folder, states


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "checkpoints")


def restored(folder, step):
    abstract = abstract_state(abstract_params(TRANSFORMER, MESH), adafactor(), MESH)
    reader = Checkpoints(folder)
    try:
        return reader.restore(step, abstract)
    finally:
        reader.close()


def test_each_step_has_its_digests(copied, saved):
    assert all((copied / str(step) / DIGESTS).exists() for step in (1, 2))
    assert_same(restored(copied, 2), saved[1][2])


def test_damages_are_refused_or_change_nothing(copied, saved):
    damager = Damager(files_of(copied / "2"), random.Random(0), files_of(copied / "1"))
    refused = 0
    for number in range(DAMAGES):
        what, undo = damager.damage()
        try:
            found = restored(copied, 2)
        except (DataError, ConfigError) as error:
            assert str(copied / "2") in str(error), (number, what)
            refused += 1
        else:
            assert_same(found, saved[1][2])
        undo()
    assert refused > DAMAGES * 3 // 4


def test_a_flipped_bit_names_file_and_way_back(copied):
    file = max((copied / "2" / "params").rglob("*"), key=lambda f: f.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    expected = rf"{file.name}: found .*CRC32C.*--gin.RESTORE_STEP=1 goes back to the one before it"
    with pytest.raises(DataError, match=expected):
        restored(copied, 2)
    with pytest.raises(DataError, match=file.name):
        restore_params(str(copied / "2"), abstract_params(TRANSFORMER, MESH))
    restored(copied, 1)


def test_without_digests_what_orbax_sees_is_named(copied):
    (copied / "2" / DIGESTS).unlink()
    shutil.rmtree(copied / "2" / "params" / "d", ignore_errors=True)
    for file in (copied / "2" / "params").rglob("manifest.ocdbt"):
        file.write_bytes(b"")
    # A step without digests gets some as it is: of a run that was killed before they were written.
    with pytest.raises(DataError, match=r"checkpoints/2: params.*can't be read: .*RESTORE_STEP=1"):
        restored(copied, 2)


def test_rows_that_orbax_reads_first_are_named(copied, saved):
    saver = Checkpoints(copied)
    saver.save(saved[1][2], 3, {"loss": {"values": [1.0]}})
    saver.close()
    (copied / "3" / "metrics" / "metrics").write_bytes(b'{"lo')
    with pytest.raises(DataError, match=r"3/metrics/metrics: found .*Delete .*checkpoints/3, and"):
        Checkpoints(copied)
    shutil.rmtree(copied / "3")
    assert_same(restored(copied, 2), saved[1][2])


def test_the_step_to_go_back_to(copied):
    reader = Checkpoints(copied)
    assert [reader.chosen(wanted) for wanted in (None, "previous", 1, 2)] == [2, 1, 1, 2]
    with pytest.raises(ConfigError, match=r"RESTORE_STEP: found 3, expected .* steps, 1, 2"):
        reader.chosen(3)
    reader.close()


def test_no_digests_are_read_twice_where_it_is_switched_off(copied, monkeypatch, capsys):
    monkeypatch.setenv("PAGAP_VERIFY", "0")
    assert np.isfinite(jax.tree.leaves(restored(copied, 2))[0]).all()
    assert "not compared with its digests" in capsys.readouterr().out
