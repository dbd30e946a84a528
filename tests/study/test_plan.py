"""What a study consists of: order, names, command lines, and what waits for what."""

import dataclasses
from pathlib import PurePosixPath

import pytest

from pagap_jax.errors import ConfigError
from pagap_jax.study.plan import ControlledStudy, Stage, in_order, run_name


def stage(name, *needs):
    return Stage(name, "sft", "sft.gin", {f"DIR_{i}": need for i, need in enumerate(needs)})


def names(stages):
    return [stage.name for stage in stages]


def test_each_comes_after_what_it_needs():
    given = [stage("d", "b", "c"), stage("c", "a"), stage("b", "a"), stage("a"), stage("e")]
    assert names(in_order(given)) == ["a", "b", "c", "d", "e"]


def test_what_is_in_order_stays_as_it_is():
    given = [stage("a"), stage("z"), stage("b", "a"), stage("c", "a", "z")]
    assert names(in_order(given)) == ["a", "z", "b", "c"]


def test_a_stage_that_nothing_makes():
    with pytest.raises(ValueError, match="stage a needs b, which no stage makes"):
        in_order([stage("a", "b")])


def test_a_run_is_named_by_what_a_sweep_varies():
    settings = {"BETA": 0.1, "LEARNING_RATE": 3e-4, "CHECKPOINT_STEPS": (1, 2)}
    assert run_name("online", settings) == "online_lr0.0003_beta0.1"
    longer = {**settings, "TRAIN_STEPS": 2400, "LOSS": "dpo"}
    assert run_name("offline", longer) == "offline_lr0.0003_beta0.1_steps2400_lossdpo"


def test_a_stage_is_a_command_line():
    a_stage = Stage(
        "seed_0/sft", "sft", "x/sft.gin", {"PAIRS_DIR": "seed_0/pairs"}, {"SEED": 0, "LOSS": "ipo"}
    )
    assert a_stage.needs == ("seed_0/pairs",)
    assert a_stage.argv("studies/toy") == [
        "sft",
        "--gin_file=x/sft.gin",
        "--gin.MODEL_DIR='studies/toy/seed_0/sft'",
        "--gin.PAIRS_DIR='studies/toy/seed_0/pairs'",
        "--gin.SEED=0",
        "--gin.LOSS='ipo'",
    ]


@pytest.fixture
def study():
    return ControlledStudy("studies/tiny", "tiny", "here", 3, {"DATA_FILE": "a.jsonl"})


@pytest.fixture
def stages(study):
    settings = {"LEARNING_RATE": 1e-3, "BETA": 0.1}
    whole = [*study.shared_stages(), *study.online(settings), *study.offline(settings)]
    return {stage.name.removeprefix("seed_3/"): stage for stage in in_order(whole)}


def test_what_another_study_made_is_read_there_and_not_made_again():
    """An XL policy meets the Large study's golden policy and proxy model (Fig. 10)."""
    given = {"golden": "/l/golden", "golden_policy": "/l/gp", "golden_responses": "/l/gr"}
    study = ControlledStudy("x", "xl", "here", 0, {}, {}, {"POLICY_SIZE": "xl"}, given)
    stages = {stage.name.removeprefix("seed_0/"): stage for stage in study.stages([{}], [])}
    assert set(stages) == {"pairs", "sft", "d_golden", "proxy", "rows/sft", "online", "rows/online"}
    everything = {**given, "d_golden": "/l/d", "proxy": "/l/proxy", "sft": "/l/sft"}
    study_ = dataclasses.replace(study, given=everything)
    left = [stage.name.removeprefix("seed_0/") for stage in study_.stages([{}], [])]
    assert left == ["rows/sft", "online", "rows/online"]
    with pytest.raises(ConfigError, match="study.given: found golden_polic, expected of d_golden"):
        dataclasses.replace(study, given={"golden_polic": "/x"}).shared_stages()
    assert "--gin.GOLDEN_DIR='/l/golden'" in stages["d_golden"].argv("here")
    assert stages["d_golden"].needs == ("seed_0/pairs",)
    rows = stages["rows/online"]
    assert "--gin.GOLDEN_RESPONSES_DIR='/l/gr'" in rows.argv("here")
    assert "--gin.PROXY_DIR='here/seed_0/proxy'" in rows.argv("here")
    sized = {name for name, stage in stages.items() if "POLICY_SIZE" in stage.settings}
    assert sized == {"sft", "rows/sft", "online", "rows/online"}
    assert len(in_order(list(stages.values()))) == len(stages)


def test_a_golden_policy_is_of_the_size_of_what_it_starts_from():
    def sized(**given):
        study = ControlledStudy("x", "xl", "here", 0, {}, {}, {"POLICY_SIZE": "xl"}, given)
        stages = study.stages([{}], [])
        return {PurePosixPath(s.gin_file).stem for s in stages if "POLICY_SIZE" in s.settings}

    assert sized() == {"sft", "golden_policy", "golden_responses", "online", "evaluate"}
    assert sized(golden_policy="/large") == {"sft", "online", "evaluate"}


def test_the_policy_may_be_fine_tuned_on_data_of_its_own():
    """The paper pools its four tasks for that (App. C)."""
    study = ControlledStudy("x", "s", "here", 0, {"DATA_FILE": "a"}, {"DATA_FILE": "pooled"})
    stages = {stage.name.removeprefix("seed_0/"): stage for stage in study.shared_stages()}
    assert stages["sft_pairs"].settings["DATA_FILE"] == "pooled"
    assert stages["sft"].needs == ("seed_0/sft_pairs",)
    assert stages["golden"].needs == ("seed_0/pairs",)


def test_settings_of_a_kind_reach_its_stages_alone():
    wide = {"offline": {"NUM_PARTITIONS": 4}}
    study = ControlledStudy("x", "s", "here", 0, {}, settings=wide)
    stages = {stage.name: stage for stage in study.stages([{}], [{"BETA": 0.1}, {"BETA": 0.5}])}
    of_kind = {name for name, stage in stages.items() if "NUM_PARTITIONS" in stage.settings}
    assert of_kind == {"seed_0/offline_beta0.1", "seed_0/offline_beta0.5"}
    with pytest.raises(ConfigError, match="study.settings: found ofline"):
        dataclasses.replace(study, settings={"ofline": {}}).shared_stages()


def test_folders_in_a_bucket_keep_their_slashes():
    a_stage = Stage("seed_0/sft", "sft", "x.gin")
    assert a_stage.argv("gs://b/s/")[2] == "--gin.MODEL_DIR='gs://b/s/seed_0/sft'"


def test_the_way_the_data_take(stages):
    """Fig. 2 of the paper."""
    needs = {
        name: {need.removeprefix("seed_3/") for need in stage.needs}
        for name, stage in stages.items()
        if not name.startswith("rows/")
    }
    run = "lr0.001_beta0.1"
    assert needs == {
        "pairs": set(),
        "sft": {"pairs"},
        "golden": {"pairs"},
        "d_golden": {"pairs", "golden"},
        "proxy": {"d_golden"},
        "golden_policy": {"d_golden", "sft", "golden"},
        "golden_responses": {"d_golden", "golden_policy", "golden"},
        f"online_{run}": {"d_golden", "sft", "proxy"},
        f"offline_{run}": {"d_golden", "sft"},
    }


def test_online_is_judged_by_the_proxy_and_the_golden_policy_by_golden(stages):
    assert stages["online_lr0.001_beta0.1"].folders["JUDGE_DIR"] == "seed_3/proxy"
    assert stages["golden_policy"].folders["JUDGE_DIR"] == "seed_3/golden"
    assert stages["proxy"].folders["PAIRS_DIR"] == "seed_3/d_golden"
    assert stages["golden"].folders["PAIRS_DIR"] == "seed_3/pairs"


def test_every_policy_is_evaluated(stages):
    evaluated = {name.removeprefix("rows/") for name in stages if name.startswith("rows/")}
    policies = {"sft", "golden_policy", "online_lr0.001_beta0.1", "offline_lr0.001_beta0.1"}
    assert evaluated == policies
    for name in policies:
        rows = stages[f"rows/{name}"]
        assert rows.folders["POLICY_DIR"] == f"seed_3/{name}"
        assert rows.settings["LAST_CHECKPOINT_ONLY"] == (name in ("sft", "golden_policy"))


def test_the_seed_reaches_everything_that_is_random(stages):
    random = {name for name, stage in stages.items() if stage.settings.get("SEED") == 3}
    assert set(stages) - random == {"d_golden"}
    assert stages["pairs"].settings["DATA_FILE"] == "a.jsonl"
    assert "DATA_FILE" not in stages["sft"].settings
