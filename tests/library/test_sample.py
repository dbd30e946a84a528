"""`pagap sample`: what it prints, and how it refuses."""

import json

import pytest

from pagap_jax.main import main
from tests.fixtures import t5x, toy

T5X = str(t5x.DIRECTORY / "t5_1_1_tiny" / "checkpoint_10")


def rows_of(capsys, *arguments):
    assert main(["sample", *map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_two_policies_beside_each_other_with_a_judge(study, capsys):
    online, sft, golden = (str(study / name) for name in (toy.ONLINE, "sft", "golden"))
    options = ("--beside", sft, "--judge", golden, "--n", 4, "--limit", 2)
    rows = rows_of(capsys, online, *options)
    order = [(row["prompt_number"], row["policy"], row["sample"]) for row in rows]
    assert order == [(i, path, k) for i in (0, 1) for path in (online, sft) for k in range(4)]
    by_place = dict(zip(order, rows, strict=True))
    for i, path, k in order:
        said, beside = by_place[i, path, k]["judge"], by_place[i, sft, k]["judge"]
        assert said["against"] == (sft if path == online else online)
        if path == online:
            assert said["probability"] == pytest.approx(1 - beside["probability"])
            assert said["shown_first"] == pytest.approx(1 - beside["shown_second"])
    assert len({row["prompt"] for row in rows}) == 2


def test_samples_of_one_policy_meet_each_other(study, capsys):
    """The mean probability of a prompt's samples is a half: what one wins another loses."""
    options = ("--judge", study / "golden", "--n", 4, "--limit", 1)
    rows = rows_of(capsys, study / "sft", *options)
    assert {row["judge"]["against"] for row in rows} == {"the other samples"}
    assert sum(row["judge"]["probability"] for row in rows) == pytest.approx(2)
    assert len({row["judge"]["probability"] for row in rows}) > 1


def test_for_people(study, tmp_path, capsys, monkeypatch):
    """A prompt that is wider than the console is wrapped, brackets stay as they are."""
    monkeypatch.setenv("COLUMNS", "60")
    words = ["[bold]", *["late"] * 19]
    (tmp_path / "prompts.txt").write_text(" ".join(words) + "\n\n")
    argv = ["sample", str(study / "sft"), "--prompts", str(tmp_path / "prompts.txt")]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("prompt 1 of 1 ──") and max(map(len, lines)) <= 60
    assert " ".join(lines[1:3]).split() == words
    assert len([line for line in lines if " nats, " in line]) == 4


def test_text_that_the_vocabulary_does_not_know(study, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("late\nlate quantum late\n")
    rows_of_run = ["sample", str(study / "sft"), "--prompts", str(tmp_path / "prompts.txt")]
    assert main(rows_of_run) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "doesn't know" in line]
    assert said.startswith("pagap sample: 1 of 2 prompts hold text that ")
    assert "it reads prompt 2 as 'late " in said


def test_a_checkpoint_of_another_program(tmp_path, capsys):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "say 1"}\n{"prompt": "say 2"}\n')
    options = ["--vocabulary", "bytes", "--prompt_length", 12, "--response_length", 4]
    options += ["--prompts", tmp_path / "prompts.jsonl", "--temperature", 0, "--n", 2]
    rows = rows_of(capsys, T5X, *options)
    assert [row["prompt"] for row in rows] == ["say 1", "say 1", "say 2", "say 2"]
    for row in rows:
        assert row["tokens"] <= 4 and row["log_prob"] < 0
    assert rows[0]["response"] == rows[1]["response"]  # both are the most probable one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: RUN_OR_CHECKPOINT"),
        (["RUN", "--n=0"], "--n: found 0, expected 1 or more"),
        (["RUN", "--judge=X", "--n=1"], "--judge compares responses: expected --beside"),
        (["RUN", "--beside=RUN"], "--beside: found RUN again"),
        (["RUN", "--temperature=-1"], "SamplingMethod.temperature: found -1.0, expected 0, or"),
        (["RUN", "--prompts=nowhere.txt"], "nowhere.txt: found No such file or directory"),
        (["/nowhere"], "no checkpoint at /nowhere: expected a run's folder"),
        ([T5X], "so vocabulary, prompt_length, response_length can't be known"),
        ([T5X, "--vocabulary=bytes", "--prompt_length=9", "--response_length=4"],
         "so it has no validation data; or give --prompts=FILE"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, message, study, capsys):
    run = str(study / "sft")
    assert main(["sample", *(a.replace("RUN", run) for a in arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("pagap sample: ")
    assert message.replace("RUN again", f"{run} again") in printed.err
    assert not printed.out
