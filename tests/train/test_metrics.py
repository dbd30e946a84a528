"""Metrics on disk: means, rates, what a killed run leaves, and what isn't a number."""

import json
import time

import jax.numpy as jnp
import pytest
from etils import epath

from pagap_jax.errors import NotANumberError
from pagap_jax.train import metrics
from pagap_jax.train.metrics import MetricsLog


@pytest.fixture
def path(tmp_path):
    return epath.Path(tmp_path) / "metrics.jsonl"


def rows(path):
    """Rows without their wall time."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "wall_time"} for row in lines]


def test_a_row_holds_the_means_since_the_last(path):
    log = MetricsLog(path, 0)
    for loss in (1.0, 2.0, 6.0):
        log.add({"loss": jnp.float32(loss)})
    assert log.write(3) == {"loss": 3.0}
    log.add({"loss": jnp.float32(5.0)})
    log.write(4)
    assert rows(path) == [{"step": 3, "loss": 3.0}, {"step": 4, "loss": 5.0}]


@pytest.mark.parametrize("counted", ["tokens", "pairs"])
def test_counts_become_rates(counted, path, monkeypatch):
    clock = iter([100.0, 104.0, 105.0])
    monkeypatch.setattr(metrics.time, "monotonic", lambda: next(clock))
    log = MetricsLog(path, 0)
    for number in (10.0, 30.0):
        log.add({"loss": jnp.float32(0), counted: jnp.float32(number)})
    assert log.write(2) == {"loss": 0.0, f"{counted}_per_second": 10.0}  # 40 in 4 seconds
    log.add({"loss": jnp.float32(0), counted: jnp.float32(7)})
    assert log.write(3)[f"{counted}_per_second"] == 7.0


def test_a_row_on_disk_says_when_it_was_written(path):
    log = MetricsLog(path, 0)
    log.add({"loss": jnp.float32(1)})
    before = time.time()
    assert "wall_time" not in log.write(1)
    (line,) = path.read_text().splitlines()
    assert before <= json.loads(line)["wall_time"] <= time.time()


class Noted:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.rows, self.is_closed = [], False

    def write_scalars(self, step, scalars):
        self.rows.append((step, dict(scalars)))

    def close(self):
        self.is_closed = True


def test_writers_are_given_every_row_once_also_those_of_before(path):
    """A row that is forgotten, because its step is made again, doesn't reach them twice."""
    kept = '{"step": 1, "wall_time": 5.0, "loss": 0.5}\n'
    path.write_text(kept + '{"step": 2, "wall_time": 6.0, "loss": 0.4}\n')
    writer = Noted()
    log = MetricsLog(path, 1, writers=[writer])
    log.add({"loss": jnp.float32(0.25), "chosen_probability": jnp.float32("nan")})
    log.write(2)
    assert writer.rows == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]
    assert not writer.is_closed
    log.close()
    assert writer.is_closed


def test_rows_of_steps_to_come_again_are_forgotten(path):
    lines = [f'{{"step": {step}, "loss": 0.5}}\n' for step in (1, 2, 3)]
    path.write_text("".join(lines) + '{"step": 4, "lo')  # killed within a line
    MetricsLog(path, 2)
    assert path.read_text() == "".join(lines[:2])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["loss", "gradient_norm", "update_norm"])
def test_what_is_not_a_number_stops_after_its_row(name, value, path):
    log = MetricsLog(path, 6)
    fine = {"loss": jnp.float32(1), "gradient_norm": jnp.float32(1), "update_norm": jnp.float32(1)}
    log.add(fine)
    log.add({**fine, name: jnp.float32(value)})
    with pytest.raises(NotANumberError, match=f"{name} is .* at step 8: .*metrics.jsonl"):
        log.write(8)
    assert rows(path)[0][name] is None  # JSON has no such numbers


def test_other_metrics_may_be_undefined(path):
    """Offline, a data set may hold no probabilities."""
    log = MetricsLog(path, 0)
    log.add({"loss": jnp.float32(1), "chosen_probability": jnp.float32("nan")})
    log.write(1)
    assert rows(path) == [{"step": 1, "loss": 1.0, "chosen_probability": None}]
