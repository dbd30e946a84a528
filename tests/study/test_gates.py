"""Gates: what is measured where, what passes, and that a miss ends the study early."""

import json
import math

import pytest

from pagap_jax.errors import ConfigError, GateError
from pagap_jax.study import gates, run
from pagap_jax.study.context import Gate
from pagap_jax.study.gates import check_gates, describe, inside
from pagap_jax.study.plan import Plan
from pagap_jax.study.workers import Workers
from tests.fixtures import toy

RESULTS = {
    "golden": {
        "validation_accuracy_true": 0.8,
        "validation_accuracy": 0.7,
        "validation_accuracy_low": 0.6,
    },
    "proxy": {"validation_accuracy": 0.95, "validation_accuracy_low": 0.9},
    "golden_responses": {"win_rate_a": 0.49},
}
ROWS = {"rows/sft": [{"win_rate": 0.9, "kl": 9.0}, {"win_rate": 0.04, "kl": 0.0}]}


@pytest.fixture
def study_dir(tmp_path):
    """A study whose stages all have results."""
    for stage, result in RESULTS.items():
        (tmp_path / "seed_1" / stage).mkdir(parents=True)
        (tmp_path / "seed_1" / stage / "result.json").write_text(json.dumps(result))
    for stage, rows in ROWS.items():
        (tmp_path / "seed_1" / stage).mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "seed_1" / stage / "rows.jsonl").write_text(lines)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "stage", "measured"),
    [
        ("golden_accuracy", "golden", 0.8),  # against the hidden truth, not the drawn labels
        ("proxy_accuracy", "proxy", 0.95),
        ("golden_above_chance", "golden", 0.6),
        ("proxy_above_chance", "proxy", 0.9),
        ("golden_self_win_rate", "golden_responses", 0.49),
        ("sft_win_rate", "rows/sft", 0.04),  # of its last checkpoint
        ("sft_kl", "rows/sft", 0.0),
    ],
)
def test_each_measure_is_taken_when_its_stage_has_finished(name, stage, measured, study_dir):
    bars = {name: (None, 1.0)}
    (gate,) = check_gates(study_dir, 1, f"seed_1/{stage}", bars)
    assert (gate.measured, gate.bar, gate.passed) == (measured, "at most 1", True)
    assert gate.name.endswith("(seed 1)")
    assert check_gates(study_dir, 1, "seed_1/pairs", bars) == []
    with pytest.raises(GateError, match=rf"\(seed 1\): measured {measured:.4f}, needs at least 2"):
        check_gates(study_dir, 1, f"seed_1/{stage}", {name: (2.0, None)})


def test_every_measure_is_tested_above():
    assert len(gates.MEASURES) == 7


def test_a_bar_of_an_unknown_name(study_dir):
    with pytest.raises(ConfigError, match=r"study.bars: found \['golden_acuracy'\], expected"):
        check_gates(study_dir, 1, "seed_1/pairs", {"golden_acuracy": (0.5, None)})


def test_what_was_not_measured_never_passes(study_dir):
    (study_dir / "seed_1/golden/result.json").write_text('{"validation_accuracy_true": null}')
    with pytest.raises(GateError, match="measured nan"):
        check_gates(study_dir, 1, "seed_1/golden", {"golden_accuracy": (None, 1.0)})


@pytest.mark.parametrize(
    ("low", "high", "words", "good", "bad"),
    [
        (0.78, None, "at least 0.78", [0.78, 1.0], [0.7799]),
        (None, 0.1, "at most 0.1", [0.1, -1.0], [0.1001]),
        (0.45, 0.55, "between 0.45 and 0.55", [0.45, 0.5, 0.55], [0.44, 0.56]),
        (0.0, 0.0, "exactly 0", [0.0], [1e-9, -1e-9]),
    ],
)
def test_bars(low, high, words, good, bad):
    assert describe(low, high) == words
    assert all(inside(value, low, high) for value in good)
    assert not any(inside(value, low, high) for value in [*bad, math.nan])


class OneStageAtATime(Workers):
    """Workers that run nothing and report each stage as finished."""

    seen: list[str] = []

    def __init__(self, *_):
        self.number = 1

    def check(self, check_job, stages):
        """Nothing is wrong with them."""
        return [("", "")] * len(stages)

    def close(self):
        """Nothing to end."""

    def run(self, stages, on_finished):
        """Ends where `on_finished` raises, as the real ones do."""
        for stage in stages:
            self.seen.append(stage.name)
            on_finished(stage, 0.0)


def test_a_missed_gate_ends_the_study_there(study_dir, monkeypatch, capsys):
    monkeypatch.setattr(run, "Workers", OneStageAtATime)
    monkeypatch.setattr(OneStageAtATime, "seen", [])
    (study_dir / run.STUDY_FILE).write_text('{"study": "toy"}')
    written = []
    monkeypatch.setattr(run, "_write_results", lambda *arguments: written.append(arguments))

    def study(golden, proxy):
        plan = Plan(str(study_dir), "toy", "tickets", "test/toy", ("comparison",), (1,), {})
        bars = {"golden_accuracy": (golden, None), "proxy_accuracy": (proxy, None)}
        run.study(plan, "Toy", bars, run_job=list, check_job=lambda argv, folder: ("", ""))

    study(0.78, 0.92)
    out = capsys.readouterr().out
    assert (
        "golden model against the hidden truth (seed 1): 0.8000, needs at least 0.78: passed\n"
        in out
    )
    assert [type(gate) for gate in written.pop()[2].gates] == [Gate, Gate]
    OneStageAtATime.seen.clear()
    with pytest.raises(GateError, match="What comes after seed_1/proxy would be noise"):
        study(0.78, 0.97)
    assert OneStageAtATime.seen[-1] == "seed_1/proxy" and not written


def test_a_missed_gate_is_one_message_and_exit_2(study):
    """The toy study's golden model is no good; all that is asked for here is there already."""
    before = toy.results(study.directory)
    missed = toy.pagap(
        *toy.study_argv(study.directory),
        "--gin.study.workers=1",
        "--gin.study.bars={'golden_accuracy': (0.99, None)}",
    )
    assert missed.returncode == 2
    message = missed.stderr.splitlines()[-1]
    assert message.startswith(
        "pagap study: golden model against the hidden truth (seed 0): measured"
    )
    assert "needs at least 0.99. What comes after seed_0/golden would be noise" in message
    assert "Traceback" not in missed.stderr
    assert toy.results(study.directory) == before
