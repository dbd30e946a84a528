"""What a study consists of: order, names, command lines, and what waits for what."""

import pytest

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
