"""A toy job is given what its gin files say, and its configuration as a text."""

import jaxtyping
import pytest

from pagap_jax import configuration
from pagap_jax.configuration import load_job
from pagap_jax.errors import DataError
from pagap_jax.streams import Purpose, key_for
from tests.fixtures.toy_job import BASE, CALLS, DIR, ToySource, refusal, run, toy, toy_job

__all__ = ["toy"]


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


@pytest.mark.parametrize("name", ["some/folder", "gs://b/x", "it's", "a, b", "x=y # z", "01"])
def test_a_value_that_is_not_gin_is_text_where_a_string_is_wanted(name, capsys):
    assert run(f"--gin.MODEL_DIR={name}")["model_dir"] == name
    assert run(f"--gin.MODEL_DIR={name}", f"--gin.ToySource.name={name}")["source"].name == name
    said = capsys.readouterr().out
    assert (f"--gin.MODEL_DIR={name}: read as the text '01'" in said) == (name == "01")


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


def test_a_default_that_is_configurable_is_reached():
    loss_fn = run(DIR, "--gin.toy_loss.margin=0.25")["loss_fn"]
    assert loss_fn() == 0.25


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
        key_for("0", Purpose.DROPOUT)  # pyproject.toml asks for it


def test_on_which_devices_a_run_is_computed_or_where_shown_is_no_part_of_its_identity():
    files = [
        "jobs/sft.gin",
        "sizes/t5_1_1.gin",
        "data/t5_vocabulary.gin",
        "studies/paper/models_and_data.gin",
    ]
    places = ["MODEL_DIR='a'", "PAIRS_DIR='b'", "INITIAL_CHECKPOINT_PATH='c'", "SEED=0"]

    def identity(*bindings):
        return configuration.parse(load_job("sft"), files, [*places, *bindings]).identity()

    plain = identity()
    assert "sft.batch_size" in plain
    assert identity("NUM_PARTITIONS=4", "PARAMETER_PARTITIONING_DIMS=1") == plain
    assert "metrics_period" in plain and "TrainLoop.metrics " not in plain
    assert identity("METRICS=('jsonl', 'tensorboard')") == plain
    assert identity("NUM_MICROBATCHES=2") != plain  # an online run then draws other samples
    assert identity("REMAT_POLICY='full'") != plain  # unscanned layers then drop others
    assert identity("BATCH_SIZE=2") != plain
