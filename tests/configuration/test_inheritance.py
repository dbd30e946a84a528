"""Settings that a job takes from the runs that it reads: the toy study's, of which nothing runs.

Each stage's run.json is written as its job would write it. Then the same job is configured with
little more than folders, and has to come to the same configuration.
"""

import json
import re
import shutil

import pytest

from pagap_jax.configuration import load_job, parse, parse_command_line
from pagap_jax.errors import ConfigError
from pagap_jax.run_directory import RunDirectory
from tests.fixtures import toy

# Roles of parents, as the jobs name them.
ROLES = {
    "sft": {"pairs": "PAIRS_DIR"},
    "preference_model": {"pairs": "PAIRS_DIR", "initial": "INITIAL_CHECKPOINT_PATH"},
    "relabel": {"pairs": "PAIRS_DIR", "judge": "GOLDEN_DIR"},
    "sample_pairs": {"pairs": "PAIRS_DIR", "policy_a": "POLICY_A_DIR", "judge": "GOLDEN_DIR"},
    "align": {"pairs": "PAIRS_DIR", "initial": "SFT_DIR", "judge": "JUDGE_DIR"},
}
T5 = "tests/data/hf/t5_1_1_tiny"


@pytest.fixture(scope="module")
def seed(tmp_path_factory):
    """The folder of a seed, with every run.json of the toy study but those of measures."""
    study = tmp_path_factory.mktemp("study")
    for stage in toy.stages(study):
        argv = stage.argv(str(study))
        config = configured(argv)
        given = {macro: artefact.path(str(study)) for macro, artefact in stage.reads.items()}
        parents = {r: given.get(macro) for r, macro in ROLES.get(stage.job, {}).items()}
        with RunDirectory(str(study / stage.name), stage.job, config.identity(), parents):
            pass
    return study / "seed_0"


def configured(argv):
    command = parse_command_line(argv)
    return parse(load_job(command.job), command.gin_files, command.gin_bindings)


def identity(job, *gin_files, **macros):
    """The configuration of a job with a few settings, as a set of lines."""
    files = [f"--gin_file={file}" for file in (f"jobs/{job}.gin", *gin_files)]
    argv = [job.partition("_on")[0] if "align" in job else job, *files]
    argv += [f"--gin.{name}={value}" for name, value in {"MODEL_DIR": "/new", **macros}.items()]
    return set(configured(argv).identity().splitlines())


def of_run(folder):
    return set(json.loads((folder / "run.json").read_text())["configuration"])


def about(lines, *words):
    """The lines about model, vocabulary, lengths and seed."""
    return {line for line in lines if any(word in line for word in words)}


KNOWN = ("T5Config", ".vocabulary", "input_length", ".seed", ".model ", "policy_size")
ROAD = [
    ("preference_model", "proxy", {"PAIRS_DIR": "d_golden", "INITIAL_CHECKPOINT_PATH": "sft"}),
    ("relabel", "d_golden", {"GOLDEN_DIR": "golden"}),
    ("sample_pairs", "golden_responses",
     {"PAIRS_DIR": "d_golden", "POLICY_A_DIR": "golden_policy"}),
    ("align_online", toy.ONLINE, {"JUDGE_DIR": "proxy"}),
    ("evaluate", f"rows/{toy.ONLINE}",
     {"POLICY_DIR": toy.ONLINE, "GOLDEN_RESPONSES_DIR": "golden_responses"}),
]  # fmt: skip


@pytest.mark.parametrize(("job", "stage", "places"), ROAD, ids=[one[0] for one in ROAD])
def test_a_job_takes_what_its_parents_know(job, stage, places, seed):
    """The same as the study gives it by gin files of its own."""
    taken = identity(job, **{name: seed / place for name, place in places.items()})
    lines = about(of_run(seed / stage), *KNOWN)
    assert len(lines) >= 10
    # Two models that are one (the proxy model is of the policy's size) may differ in their scope.
    scopes = r"[\w/]+/(?=T5Config)"
    assert {re.sub(scopes, "", line) for line in about(taken, *KNOWN)} == {
        re.sub(scopes, "", line) for line in lines
    }


def test_the_first_two_jobs_read_the_checkpoint_and_the_data(seed):
    lines = identity("sft", PAIRS_DIR=seed / "pairs", INITIAL_CHECKPOINT_PATH=T5)
    assert "POLICY_MODEL/config_of.path = %INITIAL_CHECKPOINT_PATH" in lines
    assert {"sft.seed = 0", "RunLabels.policy_size = 'of_checkpoint'"} <= lines
    lines = identity("preference_model", PAIRS_DIR=seed / "pairs", INITIAL_CHECKPOINT_PATH=T5)
    assert "preference_model.input_length = 63" in lines  # 21 + 2 x 20 + 2
    lines = identity("preference_model", INITIAL_CHECKPOINT_PATH=seed / "sft")
    assert "preference_model.vocabulary = @VOCABULARY/tickets_vocabulary()" in lines


def test_what_is_given_may_change_a_part_of_what_is_taken(seed):
    lines = identity("align_online", JUDGE_DIR=seed / "proxy", SEED=7)
    assert "align.seed = 7" in lines


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"INPUT_LENGTH": 99}, "--gin.INPUT_LENGTH=99: INPUT_LENGTH is 99, and 64 in the run that"),
        ({"GOLDEN_MODEL": "@T5Config()", "T5Config.emb_dim": 8, "T5Config.vocab_size": 72},
         "GOLDEN_MODEL: T5Config.emb_dim is 8, and 16 in the run that GOLDEN_DIR names, "),
    ],
)  # fmt: skip
def test_what_contradicts_a_parent_is_refused_naming_both(given, message, seed):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")) as caught:
        identity("relabel", GOLDEN_DIR=seed / "golden", **given)
    assert str(seed / "golden") in str(caught.value)


def test_folders_are_taken_of_the_right_job_alone(seed, tmp_path):
    """Golden pairs aren't D_initial, and what a preference model starts from need not be π_sft."""
    with pytest.raises(ConfigError, match="%SFT_DIR is not defined"):
        identity("align_online", JUDGE_DIR=seed / "golden")
    with pytest.raises(ConfigError, match="%GOLDEN_DIR is not defined"):
        identity("sample_pairs", PAIRS_DIR=seed / "pairs", POLICY_A_DIR=seed / "sft")


def test_two_parents_of_the_same_names_keep_apart(seed, tmp_path):
    """Both models are called T5Config in their runs, and differ."""
    for name in ("golden", "proxy"):
        shutil.copytree(seed / name, tmp_path / name)
    file = tmp_path / "golden" / "run.json"
    file.write_text(file.read_text().replace("T5Config.emb_dim = 16", "T5Config.emb_dim = 48"))
    lines = identity(
        "evaluate", POLICY_DIR=seed / toy.ONLINE, GOLDEN_DIR=tmp_path / "golden",
        GOLDEN_RESPONSES_DIR=seed / "golden_responses", PROXY_DIR=tmp_path / "proxy",
    )  # fmt: skip
    widths = {line for line in lines if "emb_dim" in line}
    assert len(widths) == 3 and sum("48" in width for width in widths) == 1
