"""Tests of pagap_jax/configuration on a toy job: what is accepted, and each refusal's message."""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gin
import jaxtyping
import pytest

from pagap_jax import configuration
from pagap_jax.configuration.annotations import fits
from pagap_jax.configuration.suggestions import did_you_mean
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.jobs import JOBS, Job

CALLS: list[dict[str, Any]] = []


@gin.configurable
class ToySource:
    """Something a job is given."""

    def __init__(self, size: int, name: str = "plain") -> None:
        self.size = size
        self.name = name


@gin.configurable
class ToyUnused:
    """Something that only other jobs are given."""

    def __init__(self, width: int = 1) -> None:
        self.width = width


@gin.configurable
def toy_loss(margin: float = 1.0) -> float:
    """A default that gin may bind."""
    return margin


@gin.configurable
def toy_job(
    model_dir: str,
    learning_rate: float,
    source: ToySource,
    steps: int = 10,
    lengths: Mapping[str, int] | None = None,
    rates: Sequence[float] = (),
    loss_fn: Callable[..., float] = toy_loss,
    config_text: str = "",
    run_job: Callable | None = None,
) -> None:
    """Records what it was given."""
    CALLS.append(dict(locals()))
    if steps == 13:
        raise DataError("data.jsonl:13: no field 'prompt'")


BASE = """\
# A header.
MODEL_DIR = %gin.REQUIRED
LEARNING_RATE = 0.1
STEPS = 10
toy_job.model_dir = %MODEL_DIR
toy_job.learning_rate = %LEARNING_RATE
toy_job.steps = %STEPS
toy_job.source = @ToySource()
ToySource.size = 3
"""
DIR = "--gin.MODEL_DIR='here'"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(JOBS, "toy", Job(f"{__name__}:toy_job", "a toy"))
    monkeypatch.chdir(tmp_path)
    CALLS.clear()
    (tmp_path / "base.gin").write_text(BASE)


def run(*options: str, text: str | None = None) -> dict[str, Any]:
    """Runs the toy job on base.gin, or on `text` as toy.gin, and returns what it was given."""
    name = "base.gin"
    if text is not None:
        name = "toy.gin"
        with open(name, "w") as file:
            file.write(text)
    configuration.run_job(["toy", f"--gin_file={name}", *options])
    return CALLS[-1]


def refusal(*options: str, text: str | None = None) -> str:
    """The message with which the same is refused; the job must not have started."""
    with pytest.raises(ConfigError) as caught:
        run(*options, text=text)
    assert not CALLS
    return str(caught.value)


def test_macros_references_and_overrides_reach_the_job():
    given = run(DIR, "--gin.LEARNING_RATE=0.5", "--gin.toy_job.lengths={'inputs': 4}")
    assert (given["model_dir"], given["learning_rate"], given["steps"]) == ("here", 0.5, 10)
    assert given["lengths"] == {"inputs": 4}
    assert isinstance(given["source"], ToySource) and given["source"].size == 3


def test_jobs_run_one_after_another_without_leftovers():
    run(DIR, "--gin.STEPS=20", "--gin.toy_job.rates=[1.0]")
    given = run(DIR)
    assert (given["steps"], given["rates"]) == (10, ())


def test_the_job_is_given_run_job_for_its_workers():
    assert run(DIR)["run_job"] is configuration.run_job


def test_scopes_are_followed_as_gin_does():
    text = BASE.replace("@ToySource()", "@big/ToySource()") + "big/ToySource.name = 'large'\n"
    source = run(DIR, text=text)["source"]
    assert (source.size, source.name) == (3, "large")
    CALLS.clear()
    wrong = text.replace("big/ToySource.name", "bigg/ToySource.name")
    assert "toy.gin:10: bigg/ToySource.name has no effect" in refusal(DIR, text=wrong)


def test_what_a_macro_holds_is_evaluated_in_a_scope_of_its_name_as_gin_does():
    text = BASE.replace("@ToySource()", "%SOURCE") + "SOURCE = @ToySource()\n"
    text += "SOURCE/ToySource.name = 'by macro'\n"
    given = run(DIR, text=text)
    assert given["source"].name == "by macro"
    assert "SOURCE/ToySource.name = 'by macro'" in given["config_text"].splitlines()


@pytest.mark.parametrize("name", ["it's", 'a "b"', "two\nlines", "back\\slash", "# %A @b"])
def test_strings_arrive_as_they_are(name):
    assert run(DIR, f"--gin.ToySource.name={name!r}")["source"].name == name


def test_includes_are_looked_up_in_search_paths(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/extra.gin").write_text("STEPS = 7\n")
    text = BASE + "include 'extra.gin'\n"
    assert run(DIR, "--gin_search_paths=none,more", text=text)["steps"] == 7
    CALLS.clear()
    message = refusal(DIR, text=text)
    assert message.startswith("toy.gin:10: no gin file 'extra.gin'; searched")


def test_a_file_that_includes_itself_is_refused():
    assert refusal(DIR, text="include 'toy.gin'\n") == "toy.gin:1: 'toy.gin' includes itself"


@pytest.mark.parametrize("name", ["gin_configs/probe/x.gin", "probe/x.gin"])
def test_packaged_files_are_found_by_both_names(name, tmp_path, monkeypatch):
    packaged = tmp_path / "package" / "gin_configs"
    (packaged / "probe").mkdir(parents=True)
    (packaged / "probe/x.gin").write_text(BASE)
    monkeypatch.setattr(configuration.gin_files, "packaged_directory", lambda: packaged)
    configuration.run_job(["toy", f"--gin_file={name}", DIR])
    assert CALLS[-1]["steps"] == 10


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
            ["--gin.MODEL_DIR=gs://b/x"],
            "--gin.MODEL_DIR=gs://b/x: can't read the value gs://b/x of MODEL_DIR: expected a "
            "number, True, False, None, a 'string', a list, %MACRO or @reference; a string keeps "
            "its own quotes: --gin.MODEL_DIR=\"'gs://b/x'\"",
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
        ("toy_job.loss_fn = @toy_los", "toy.gin:10: no configurable named 'toy_los'; did you mean"),
        ("toy_job.loss_fn = 3", "toy.gin:10: toy_job.loss_fn is the int 3, expected Callable"),
        ("toy_job.lengths = {'a': 'b'}", "toy.gin:10: toy_job.lengths is the dict {'a': 'b'}, "),
        ("toy_job:\n  steps = 'a'", "toy.gin:11: toy_job.steps is the string 'a', expected int"),
        ("from __gin__ import dynamic_registration", "toy.gin:10: gin's dynamic registration"),
    ],
)
def test_what_a_file_gets_wrong_is_refused_with_its_line(line, message):
    assert refusal(DIR, text=f"{BASE}{line}\n").startswith(message)


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


def test_a_macro_that_a_header_provides_may_go_unused():
    header = "# Sizes.\n#\n# Provides: WIDTH (of\n#   layers), DEPTH\n# Requires: HEIGHT\n"
    run(DIR, text=f"{header}\n{BASE}DEPTH = 3\nWIDTH = 4\n")
    CALLS.clear()
    assert "HEIGHT has no effect" in refusal(DIR, text=f"{header}\n{BASE}HEIGHT = 3\n")
    assert "--gin.DEPTH=4: DEPTH has no effect" in refusal(
        DIR, "--gin.DEPTH=4", text=f"{header}\n{BASE}DEPTH = 3\n"
    )


def test_a_binding_of_a_file_may_serve_another_model_of_the_file():
    text = BASE + "small/ToySource.size = 1\nOTHER = @small/ToySource()\nALL = [%OTHER, %ALL]\n"
    assert run(DIR, text=text)["source"].size == 3
    CALLS.clear()
    assert "small/ToySource.size has no effect: toy_job is never given @small/ToySource" in refusal(
        DIR, "--gin.small/ToySource.size=2", text=text
    )


def test_a_default_that_is_configurable_is_reached():
    loss_fn = run(DIR, "--gin.toy_loss.margin=0.25")["loss_fn"]
    assert loss_fn() == 0.25


def test_no_file_and_no_binding_is_refused():
    with pytest.raises(ConfigError, match="no --gin_file given"):
        configuration.run_job(["toy"])
    with pytest.raises(ConfigError, match="no job named 'tooy'; did you mean 'toy'"):
        configuration.run_job(["tooy"])
    with pytest.raises(ConfigError, match="--gin_file=nowhere.gin: no gin file 'nowhere.gin'"):
        configuration.run_job(["toy", "--gin_file=nowhere.gin"])


def test_the_text_is_of_the_meaning_and_not_of_the_places():
    given = run(DIR)
    same = run("--gin.MODEL_DIR='elsewhere'", "--gin.toy_job.steps=10", "--gin.ToySource.size=3")
    default = run(DIR, text=BASE.replace("toy_job.steps = %STEPS\n", "").replace("STEPS = 10", ""))
    assert given["config_text"] == same["config_text"] == default["config_text"]
    for change in ("--gin.STEPS=11", "--gin.toy_loss.margin=2.0", "--gin.ToySource.name='b'"):
        assert run(DIR, change)["config_text"] != given["config_text"]


def test_the_text_has_every_parameter_once():
    assert run(DIR)["config_text"].splitlines() == [
        "ToySource.name = 'plain'",
        "ToySource.size = 3",
        "toy_job.learning_rate = 0.1",
        "toy_job.lengths = None",
        "toy_job.loss_fn = @toy_loss",
        "toy_job.model_dir = %MODEL_DIR",
        "toy_job.rates = ()",
        "toy_job.source = @ToySource()",
        "toy_job.steps = 10",
        "toy_loss.margin = 1.0",
    ]


def test_exclude_keys_leave_out_parameters_too():
    settings = configuration.parse(toy_job, ["base.gin"], ["MODEL_DIR = 'a'"])
    text = settings.operative_config_text(exclude_keys=["toy_job.steps", "LEARNING_RATE"])
    assert "toy_job.steps" not in text
    assert "toy_job.learning_rate = %LEARNING_RATE" in text
    assert settings.operative_config_text() != settings.operative_config_text(
        exclude_keys=["toy_job.steps"]
    )


def test_an_error_of_the_job_comes_out_as_it_was_raised():
    with pytest.raises(DataError) as caught:
        run(DIR, "--gin.STEPS=13")
    assert type(caught.value) is DataError
    assert str(caught.value) == "data.jsonl:13: no field 'prompt'"


def test_types_are_checked_while_the_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        did_you_mean(3, ["a"])  # pyproject.toml asks for it


class Colour(enum.Enum):
    """For the test of annotations."""

    RED = 1


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (True, int, False),
        (1.0, int, False),
        ("1", int | None, False),
        (None, int | None, True),
        (None, int, False),
        ((1, 2), tuple[int, ...], True),
        ((1, "a"), tuple[int, ...], False),
        ((1, "a"), tuple[int, str], True),
        ((1,), tuple[int, str], False),
        ([1], tuple[int, ...], False),
        ([0.1, 1], Sequence[float], True),
        ("abc", Sequence[str], False),
        ({"a": [1]}, dict[str, list[int]], True),
        ({"a": [1]}, dict[str, list[str]], False),
        ("sum", Literal["sum", "mean"], True),
        ("avg", Literal["sum", "mean"], False),
        (Colour.RED, Colour, True),
        ("RED", Colour, False),
        (3, Any, True),
        (3, ToySource, False),
        (3, Callable[[int], int], False),
    ],
)
def test_fits(value, annotation, expected):
    assert fits(value, annotation) is expected
