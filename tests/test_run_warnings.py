"""Warnings of a run: each kind once, on the console and on disk, also in a run that goes on."""

import json

import pytest

from pagap_jax.run_directory import RunDirectory
from pagap_jax.run_warnings import LIMITS, check_limits, read_warnings

FINE = {
    "order_disagreement": 0.3, "validation_accuracy_low": 0.5, "prompt_truncated": 0.2,
    "share_prompts_truncated": 0.2, "share_responses_truncated": 0.2, "share_finished": 0.8,
    "kl_prompts": 200, "win_rate_prompts": 200, "share_unique": 0.5, "ties": 0.5,
    "proxy_above_golden": 0.2,
}  # fmt: skip
BROKEN = {
    "order_disagreement": 0.39, "validation_accuracy_low": 0.42, "prompt_truncated": 0.5,
    "share_prompts_truncated": 0.21, "share_responses_truncated": 1.0, "share_finished": 0.0,
    "kl_prompts": 32, "win_rate_prompts": 199, "share_unique": 0.02, "ties": 0.9,
    "proxy_above_golden": 0.79,
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    with RunDirectory(str(tmp_path / "run"), "align", "") as run:
        yield run


@pytest.mark.parametrize("kind", LIMITS)
def test_a_value_beyond_its_threshold_is_warned_of(kind, run, capsys):
    check_limits(run, FINE, 5)
    assert not read_warnings(run.path) and capsys.readouterr().out == ""
    check_limits(run, FINE | {kind: BROKEN[kind]}, 6)
    (warning,) = read_warnings(run.path)
    assert list(warning) == ["kind", "message", "value", "threshold", "step"]
    assert warning["kind"] == kind and warning["step"] == 6
    assert (warning["value"], warning["threshold"]) == (BROKEN[kind], FINE[kind])
    assert type(warning["value"]) is type(warning["threshold"]) is float
    assert capsys.readouterr().out == f"align: warning: {warning['message']} (step 6)\n"
    assert "{" not in warning["message"]


def test_each_kind_is_said_once_in_a_run_that_stops_and_goes_on(run, capsys):
    check_limits(run, {"ties": 0.6}, 20)
    check_limits(run, {"ties": 0.9}, 40)
    first = (run.path / "warnings.jsonl").read_text()
    run.__exit__()
    with RunDirectory(str(run.path), "align", "") as again:
        check_limits(again, {"ties": 0.6}, 20)
        assert (run.path / "warnings.jsonl").read_text() == first
        check_limits(again, {"ties": 0.6, "share_finished": 0.1})
    lines = [json.loads(line) for line in (run.path / "warnings.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("ties", 20),
        ("share_finished", None),
    ]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[1].startswith("align: warning: only 10% of the responses end")


def test_what_is_unknown_is_no_warning(run):
    """A validation split without labels has no accuracy; other values have no limit."""
    unknown = {"validation_accuracy_low": None, "ties": float("nan"), "loss": 1e9, "name": "x"}
    check_limits(run, unknown)
    assert not (run.path / "warnings.jsonl").exists()
