"""What a configuration gets wrong: each refusal's message, before the job starts."""

import sys

import pytest

from pagap_jax import configuration
from pagap_jax.errors import ConfigError
from tests.fixtures.toy_job import BASE, CALLS, DIR, refusal, run, toy

__all__ = ["toy"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [DIR, "--gin.STEP=5"],
            "--gin.STEP=5: STEP has no effect: nothing that toy_job reads uses %STEP; "
            "did you mean 'STEPS'?",
        ),
        (
            [DIR, "--gin.toyjob.steps=5"],
            "--gin.toyjob.steps=5: no configurable named 'toyjob'; did you mean 'toy_job'?",
        ),
        (
            [DIR, "--gin.toy_job.step=5"],
            "--gin.toy_job.step=5: toy_job has no parameter 'step'; did you mean 'steps'?",
        ),
        (
            [DIR, "--gin.toy_job.config_text='x'"],
            "--gin.toy_job.config_text='x': toy_job has no parameter 'config_text'",
        ),
        (
            [DIR, "--gin.ToyUnused.width=5"],
            "--gin.ToyUnused.width=5: ToyUnused.width has no effect: "
            "toy_job is never given @ToyUnused",
        ),
        (
            [DIR, "--gin.toy_job.steps='5'"],
            "--gin.toy_job.steps='5': toy_job.steps is the string '5', expected int",
        ),
        (
            [DIR, "--gin.LEARNING_RATE='0.1'"],
            "--gin.LEARNING_RATE='0.1': LEARNING_RATE is the string '0.1', "
            "but toy_job.learning_rate (base.gin:6) is of type float",
        ),
        (
            [DIR, "--gin.STEPS=1e4"],
            "--gin.STEPS=1e4: STEPS is the float 10000.0, "
            "but toy_job.steps (base.gin:7) is of type int",
        ),
        (
            [DIR, "--gin.toy_job.source=@ToyUnused()"],
            "--gin.toy_job.source=@ToyUnused(): toy_job.source is @ToyUnused(), expected ToySource",
        ),
        (
            [DIR, "--gin.toy_job.steps=%STEPZ"],
            "--gin.toy_job.steps=%STEPZ: %STEPZ is not defined: give --gin.STEPZ=VALUE; "
            "did you mean 'STEPS'?",
        ),
        (
            [DIR, "--gin.STEPS=gs://b/x"],
            "--gin.STEPS=gs://b/x: can't read the value gs://b/x of STEPS: expected a "
            "number, True, False, None, a 'string', a list, %MACRO or @reference; a string keeps "
            "its own quotes: --gin.STEPS=\"'gs://b/x'\"",
        ),
        (
            [DIR, "--gin.toy_job.lengths=abc"],
            "--gin.toy_job.lengths=abc: can't read the value abc of toy_job.lengths: expected a "
            "number, True, False, None, a 'string', a list, %MACRO or @reference; a string keeps "
            "its own quotes: --gin.toy_job.lengths=\"'abc'\"",
        ),
        (
            ["--gin.MODEL_DIR=12"],
            "--gin.MODEL_DIR=12: MODEL_DIR is the int 12, but toy_job.model_dir (base.gin:5) is of "
            "type str; the text keeps its own quotes: --gin.MODEL_DIR=\"'12'\"",
        ),
        (["--gin.MODEL_DIR=none"], "--gin.MODEL_DIR=none: MODEL_DIR = none; did you mean None?"),
        (
            ["--gin.MODEL_DIR='here"],
            "--gin.MODEL_DIR='here: not gin (Unable to parse value)",
        ),
        (
            [DIR, "--gin.STEPS=true"],
            "--gin.STEPS=true: STEPS = true; did you mean True?",
        ),
        (
            [DIR, "--gin.toy_job.rates=[1.0"],
            "--gin.toy_job.rates=[1.0: not gin (EOF in multi-line statement)",
        ),
        (
            [DIR, "--gin.STEPS=%LEARNING_RATE", "--gin.LEARNING_RATE=%STEPS"],
            "--gin.STEPS=%LEARNING_RATE: %LEARNING_RATE is defined by itself",
        ),
        (
            ["--gin.MODEL_DR='here'"],
            "base.gin:2: MODEL_DIR is required: give --gin.MODEL_DIR=VALUE; "
            "did you mean 'MODEL_DR'?",
        ),
        ([], "base.gin:2: MODEL_DIR is required: give --gin.MODEL_DIR=VALUE"),
        (["--gin_fil=x"], "unknown option '--gin_fil=x'; did you mean '--gin_file'?"),
        (["--gin_file"], "--gin_file needs a value: --gin_file=PATH"),
    ],
)
def test_what_the_command_line_gets_wrong_is_refused(options, message):
    assert refusal(*options) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("LRR = 0.5", "toy.gin:10: LRR has no effect: nothing that toy_job reads uses %LRR"),
        ("ToyUnused.width = 5", "toy.gin:10: ToyUnused.width has no effect: toy_job is never"),
        ("toy_job.model_dir = gs://b/x", "toy.gin:10: can't read the value gs://b/x of "),
        ("toy_job.model_dir =", "toy.gin:10: not gin (Unable to parse value): toy_job.model_dir ="),
        ("toy_job.steps = 5 6", "toy.gin:10: can't read the value 5 6 of toy_job.steps"),
        ("import pagap_jax.nowhere", "toy.gin:10: can't import pagap_jax.nowhere: No module"),
        (
            "import antigravity",
            "toy.gin:10: found an import of antigravity, expected a module of pag",
        ),
        ("toy_job.rates = " + "[" * 2000 + "]" * 2000, "toy.gin: found brackets over 100 deep"),
        ("toy_job.loss_fn = @toy_los", "toy.gin:10: no configurable named 'toy_los'; did you mean"),
        ("toy_job.loss_fn = 3", "toy.gin:10: toy_job.loss_fn is the int 3, expected Callable"),
        ("toy_job.lengths = {'a': 'b'}", "toy.gin:10: toy_job.lengths is the dict {'a': 'b'}, "),
        ("toy_job:\n  steps = 'a'", "toy.gin:11: toy_job.steps is the string 'a', expected int"),
        ("from __gin__ import dynamic_registration", "toy.gin:10: gin's dynamic registration"),
    ],
)
def test_what_a_file_gets_wrong_is_refused_with_its_line(line, message):
    assert refusal(DIR, text=f"{BASE}{line}\n").startswith(message)


def test_a_module_that_the_command_line_allows(tmp_path, monkeypatch):
    (tmp_path / "my_settings.py").write_text("IMPORTED = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = f"{BASE}import my_settings\n"
    assert refusal(DIR, text=text).endswith("on the command line, --gin_imports=my_settings")
    assert "my_settings" not in sys.modules
    run(DIR, "--gin_imports=my_settings", text=text)
    CALLS.clear()
    assert refusal(DIR, "--gin_imports=no_such").startswith("--gin_imports=no_such: can't import")


def test_a_home_folder(monkeypatch):
    """A shell leaves ~ as it is behind '='."""
    monkeypatch.setenv("HOME", "/home/somebody")
    assert run("--gin.MODEL_DIR=~/runs")["model_dir"] == "/home/somebody/runs"
    assert run(DIR, "--gin.ToySource.name='~/x'")["source"].name == "~/x"


def test_all_that_is_missing_is_named_at_once():
    text = BASE.replace("ToySource.size = 3\n", "").replace("0.1", "%gin.REQUIRED")
    text = text.replace("STEPS = 10\n", "")
    assert refusal(text=text) == (
        "toy.gin:2: MODEL_DIR is required: give --gin.MODEL_DIR=VALUE\n"
        "toy.gin:3: LEARNING_RATE is required: give --gin.LEARNING_RATE=VALUE\n"
        "toy.gin:6: %STEPS is not defined: give --gin.STEPS=VALUE\n"
        "ToySource.size is required: give --gin.ToySource.size=VALUE"
    )


def test_a_macro_of_a_file_may_serve_other_jobs_but_not_an_override_of_it():
    with_other = BASE + "WIDTH = 3\nOTHER = %WIDTH\ntoy_job.rates = [1.0]\n"
    with_other += "ALL = [%OTHER, %ALL_TOO]\nALL_TOO = %ALL\n"  # mentioned, never reached
    run(DIR, text=with_other)
    CALLS.clear()
    assert "WIDTH has no effect" in refusal(DIR, "--gin.WIDTH=4", text=with_other)


def test_a_macro_that_some_job_uses_may_stand_in_any_file():
    """One of the package, or one beside the file; whatever a comment says."""
    run(DIR, text=f"{BASE}POLICY_MODEL = 3\n")
    with open("other.gin", "w") as other:
        other.write("toy_job.steps = %DEPTH  # and %WIDTH\n")
    run(DIR, text=f"{BASE}DEPTH = 3\n")
    CALLS.clear()
    header = "# Provides: WIDTH\n"
    assert "WIDTH has no effect" in refusal(DIR, text=f"{header}{BASE}WIDTH = 3\n")
    assert "--gin.DEPTH=4: DEPTH has no effect" in refusal(DIR, "--gin.DEPTH=4")


def test_a_binding_of_a_file_may_serve_another_model_of_the_file():
    text = BASE + "small/ToySource.size = 1\nOTHER = @small/ToySource()\nALL = [%OTHER, %ALL]\n"
    assert run(DIR, text=text)["source"].size == 3
    CALLS.clear()
    assert "small/ToySource.size has no effect: toy_job is never given @small/ToySource" in refusal(
        DIR, "--gin.small/ToySource.size=2", text=text
    )


def test_a_binding_of_what_a_later_file_replaces_may_stand():
    text = BASE + "toy_job.source = @big/ToySource()\nbig/ToySource.size = 9\n"
    assert run(DIR, text=text + "toy_job.source = @ToySource()\n")["source"].size == 3


def test_no_file_and_no_binding_is_refused():
    with pytest.raises(ConfigError, match="no --gin_file given"):
        configuration.run_job(["toy"])
    with pytest.raises(ConfigError, match="no job named 'tooy'; did you mean 'toy'"):
        configuration.run_job(["tooy"])
    with pytest.raises(ConfigError, match="--gin_file=nowhere.gin: no gin file 'nowhere.gin'"):
        configuration.run_job(["toy", "--gin_file=nowhere.gin"])
