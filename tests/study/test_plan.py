"""What a study consists of: order, names, command lines, and what waits for what."""

import dataclasses

import gin
import pytest

from launch.placing import read_study
from pagap_jax.configuration import load_job, parse
from pagap_jax.errors import ConfigError
from pagap_jax.study.arms import OFFLINE, ONLINE, Arm, Place, SampledPairs, run_name
from pagap_jax.study.experiments import EXPERIMENTS
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.plan import Plan, kind_of
from pagap_jax.study.stages import Artefact, Stage, in_order


def stage(name, *needs):
    return Stage(name, "sft", "sft.gin", {f"DIR_{i}": Artefact(n) for i, n in enumerate(needs)})


def names(stages):
    return [stage.name for stage in stages]


def test_each_comes_after_what_it_needs():
    given = [stage("d", "b", "c"), stage("c", "a"), stage("b", "a"), stage("a"), stage("e")]
    assert names(in_order(given)) == ["a", "b", "c", "d", "e"]


def test_what_is_in_order_stays_as_it_is():
    given = [stage("a"), stage("z"), stage("b", "a"), stage("c", "a", "z")]
    assert names(in_order(given)) == ["a", "z", "b", "c"]


def test_a_stage_that_nothing_makes():
    with pytest.raises(ConfigError, match="stage a needs b, which no stage makes"):
        in_order([stage("a", "b")])


def test_a_stage_that_two_experiments_have_is_one():
    assert names(in_order([stage("a"), stage("b", "a"), stage("a")])) == ["a", "b"]


def test_two_stages_of_one_name_are_refused_with_both():
    """Three runs that differed in DATA_ORDER alone were one, silently."""
    recorded, shuffled = (
        Stage("run", "align", "x.gin", {}, {"DATA_ORDER": order})
        for order in ("recorded", "shuffled")
    )
    with pytest.raises(ConfigError, match="two stages are named run: .*'recorded'.*'shuffled'"):
        in_order([recorded, shuffled])


def test_a_run_is_named_by_all_that_its_settings_say():
    settings = {"LEARNING_RATE": 3e-4, "BETA": 0.1}
    assert run_name("online", settings) == "online_lr0.0003_beta0.1"
    longer = {**settings, "TRAIN_STEPS": 2400, "LOSS": "dpo"}
    assert run_name("offline", longer) == "offline_lr0.0003_beta0.1_steps2400_lossdpo"
    orders = {run_name("offline", {**settings, "DATA_ORDER": o}) for o in ("a", "b", "c")}
    assert len(orders) == 3
    assert run_name("blocks of 4", {"STEPS_": (1, 2)}) == "blocks-of-4_steps_-1-2"


def test_a_stage_is_a_command_line():
    reads = {"PAIRS_DIR": Artefact("seed_0/pairs"), "POLICY_A_DIR": Artefact("seed_0/o", "d/800")}
    a_stage = Stage("seed_0/sft", "sft", "x/sft.gin", reads, {"SEED": 0, "LOSS": "ipo"})
    assert a_stage.needs == ("seed_0/pairs", "seed_0/o")
    assert a_stage.argv("studies/toy") == [
        "sft",
        "--gin_file=x/sft.gin",
        "--gin.MODEL_DIR='studies/toy/seed_0/sft'",
        "--gin.PAIRS_DIR='studies/toy/seed_0/pairs'",
        "--gin.POLICY_A_DIR='studies/toy/seed_0/o/d/800'",
        "--gin.SEED=0",
        "--gin.LOSS='ipo'",
    ]


def test_folders_in_a_bucket_keep_their_slashes():
    a_stage = Stage("seed_0/sft", "sft", "x.gin")
    assert a_stage.argv("gs://b/s/")[2] == "--gin.MODEL_DIR='gs://b/s/seed_0/sft'"


def plan(**fields):
    sweeps = {"online": ({"LEARNING_RATE": 1e-3, "BETA": 0.1},)}
    sweeps["offline"] = (*sweeps["online"], {"BETA": 0.5})
    given = dict(data={"DATA_FILE": "a.jsonl"}, sweeps=sweeps, experiments=("comparison",))
    return Plan("here", "tiny", "tickets", "studies/tiny", seeds=(3,), **(given | fields))


def short(stages):
    return {stage.name.partition("/")[2]: stage for stage in stages}


SHARED = ["pairs", "sft", "golden", "d_golden", "proxy", "golden_policy", "golden_responses"]
SHARED += ["rows/sft", "rows/golden_policy"]
RUNS = ["online_lr0.001_beta0.1", "offline_lr0.001_beta0.1", "offline_beta0.5"]


def test_the_way_the_data_take():
    """Fig. 2 of the paper; the proxy model starts from the supervised checkpoint (§4.1)."""
    needs = {
        name: {need.removeprefix("seed_3/") for need in stage.needs}
        for name, stage in short(plan().stages()).items()
        if not name.startswith("rows/")
    }
    assert needs == {
        "pairs": set(),
        "sft": {"pairs"},
        "golden": {"pairs"},
        "d_golden": {"pairs", "golden"},
        "proxy": {"d_golden", "sft"},
        "golden_policy": {"d_golden", "sft", "golden"},
        "golden_responses": {"d_golden", "golden_policy", "golden"},
        "reference_scores/d_golden": {"d_golden", "sft"},
        RUNS[0]: {"d_golden", "sft", "proxy"},
        RUNS[1]: {"d_golden", "sft", "reference_scores/d_golden"},
        RUNS[2]: {"d_golden", "sft", "reference_scores/d_golden"},
    }


def test_every_stage_once_by_a_list_of_names():
    found = names(plan().stages())
    expected = [*SHARED, "reference_scores/d_golden", *RUNS, *(f"rows/{run}" for run in RUNS)]
    assert sorted(found) == sorted(f"seed_3/{name}" for name in expected)
    two = dataclasses.replace(plan(), seeds=(0, 1))
    assert len(names(two.stages())) == 2 * len(found)


# Stages of a seed; `shared` are those of Fig. 2 with the rows of π_sft and π_gold.
def count(shared=9, sizes=0, sampled=0, references=1, runs=0, stream=0):
    return shared + 2 * sizes + sampled + references + 2 * runs + stream


TINY_RUNS = 2 + 9 + 3 + 1 + 2 + 2 + 2 + 2 + 4 + 2 * 3
EVERYTHING = dict(sizes=2, sampled=3, references=1 + 1 + 3 + 1 + 2 * 2, stream=1)
PAPER_RUNS = (
    1 + 9 + 9 + 1 + 3 + 9 + 9 + 7 + 2 * 19
)  # online, offline, shuffled, replayed, sampled, ...
COUNTS = {
    "studies/tiny.gin": count(runs=2 + 4),
    "studies/tiny_full.gin": 3 * count(**EVERYTHING, runs=TINY_RUNS),
    "studies/tiny_figures.gin": count(**EVERYTHING, runs=TINY_RUNS),
    "studies/tiny_jsonl.gin": count(runs=1 + 2),
    "studies/own.gin": count(runs=1 + 3),
    "studies/summarization.gin": count(10, **EVERYTHING, runs=PAPER_RUNS),
    "studies/helpfulness.gin": count(10, **EVERYTHING, runs=PAPER_RUNS + 2),  # blocks
    "studies/chat_arena.gin": count(10, **EVERYTHING, runs=PAPER_RUNS),
    "studies/harmlessness.gin": count(10, references=2, runs=1 + 9 + 9 + 1),
    "test/study.gin": count(runs=1 + 2),
    "test/everything.gin": count(sizes=1, sampled=3, references=8, stream=1, runs=15),
}


@pytest.mark.parametrize("path", COUNTS)
def test_stages_of_every_study_are_counted(path):
    needed = ["STUDY_DIR"]
    if "jsonl" in path or "own" in path:
        needed += ["DATA_FILE", "MODEL_CHECKPOINT_PATH"][: 1 + ("own" in path)]
    elif "tiny" not in path and "test" not in path:
        needed += ["SUMMARIZATION_FILES", "HH_DIR", "ARENA_FILES"]
    bindings = [f"{name}='/a'" for name in needed]
    parse(load_job("study"), [path], bindings)
    stages = gin.get_bindings("study")["plan"].stages()
    assert len(names(stages)) == len(set(names(stages))) == COUNTS[path]
    words = ["study", f"--gin_file={path}", *(f"--gin.{binding}" for binding in bindings)]
    assert read_study(words).stages == stages  # launchers start the same


def test_the_paper_sweeps_nine_trajectories():
    """4k steps are the beginning of 20k: run once, and counted once (§4)."""
    bindings = ["STUDY_DIR='/s'", "SUMMARIZATION_FILES='a'", "HH_DIR='b'", "ARENA_FILES='c'"]
    parse(load_job("study"), ["studies/summarization.gin"], bindings)
    settings = gin.get_bindings("study")["plan"].sweeps["offline"]
    assert {s["TRAIN_STEPS"] for s in settings} == {20000}
    assert {(s["LEARNING_RATE"], s["BETA"]) for s in settings} == {
        (rate, beta) for rate in (3e-6, 1e-5, 3e-5) for beta in (0.1, 0.5, 1.0)
    }


def test_where_the_proxy_model_starts():
    proxy = short(plan().stages())["proxy"]
    assert proxy.reads["INITIAL_CHECKPOINT_PATH"] == Artefact("seed_3/sft")
    proxy = short(plan(proxy_starts_from_sft=False).stages())["proxy"]
    assert "INITIAL_CHECKPOINT_PATH" not in proxy.reads
    sizes = dict(policy={"POLICY_SIZE": "xl"}, proxy={"PROXY_SIZE": "large"})
    with pytest.raises(ConfigError, match="found PROXY_SIZE 'large', and policies of size 'xl'"):
        plan(**sizes).stages()
    assert "proxy" not in short(plan(**sizes, given={"proxy": "/large/proxy"}).stages())
    plan(**sizes, proxy_starts_from_sft=False).stages()


def test_what_another_study_made_is_read_there_and_not_made_again():
    """An XL policy meets the Large study's golden policy and proxy model (Fig. 10)."""
    given = {"golden": "/l/golden", "golden_policy": "/l/gp", "golden_responses": "/l/gr"}
    stages = short(plan(given=given, sweeps={"offline": ({},)}).stages())
    assert not {*given, "rows/golden_policy"} & set(stages)
    assert "--gin.GOLDEN_DIR='/l/golden'" in stages["d_golden"].argv("here")
    assert stages["d_golden"].needs == ("seed_3/pairs",)
    rows = stages["rows/online"]
    assert "--gin.GOLDEN_RESPONSES_DIR='/l/gr'" in rows.argv("here")
    assert "--gin.PROXY_DIR='here/seed_3/proxy'" in rows.argv("here")
    everything = {**given, "d_golden": "/l/d", "proxy": "/l/proxy", "sft": "/l/sft"}
    left = short(plan(given=everything, sweeps={"offline": ({},)}).stages())
    assert "pairs" not in left and "rows/sft" in left
    with pytest.raises(ConfigError, match="Plan.given: found golden_polic, expected of d_golden"):
        plan(given={"golden_polic": "/x"}).stages()


def test_a_golden_policy_is_of_the_size_of_what_it_starts_from():
    def sized(**given):
        stages = plan(policy={"POLICY_SIZE": "l"}, proxy={"PROXY_SIZE": "l"}, given=given).stages()
        return {kind_of(stage) for stage in stages if "POLICY_SIZE" in stage.settings}

    always = {"sft", "online", "offline", "evaluate", "reference_scores"}
    assert sized() == {*always, "golden_policy", "golden_responses"}
    assert sized(golden_policy="/large") == always


def test_the_policy_may_be_fine_tuned_on_data_of_its_own():
    """The paper pools its four tasks for that (App. C)."""
    stages = short(plan(sft_data={"DATA_FILE": "pooled"}).stages())
    assert stages["sft_pairs"].settings["DATA_FILE"] == "pooled"
    assert stages["sft"].needs == ("seed_3/sft_pairs",)
    assert stages["golden"].needs == ("seed_3/pairs",)


@pytest.mark.parametrize(
    ("field", "value"), [("settings", {"NUM_PARTITIONS": 4}), ("slices", "v5p:2x2x1")]
)
def test_settings_of_a_kind_reach_its_stages_alone(field, value):
    stages = short(plan(**{field: {"offline": value}}).stages())
    of_kind = {name for name, stage in stages.items() if "NUM_PARTITIONS" in stage.settings}
    assert of_kind == (set(RUNS[1:]) if field == "settings" else set())
    with pytest.raises(ConfigError, match=f"Plan.{field}: found ofline"):
        plan(**{field: {"ofline": value}}).stages()


def test_names_that_nothing_has():
    with pytest.raises(
        ConfigError, match="Plan.experiments: found comparisn, expected of .* comparison"
    ):
        plan(experiments=("comparisn",)).stages()
    with pytest.raises(ConfigError, match="Plan.sweeps: found ofline, expected of .*; offline; "):
        plan(sweeps={"ofline": ({},)}).stages()


@pytest.mark.parametrize("macro", ["LOSS", "REDUCTION", "DATA_ORDER", "SHUFFLE_BLOCK"])
def test_what_makes_an_arm_is_no_sweep(macro):
    """Bo2 rows would count as IPO's peak: statistics pool the runs of an arm."""
    with pytest.raises(ConfigError, match=f"Plan.sweeps: found {macro} in the sweep of 'offline'"):
        plan(sweeps={"offline": ({macro: "x"},)}).stages()


def test_every_policy_is_evaluated_and_says_what_it_is():
    stages = short(plan().stages())
    for name in ("sft", "golden_policy", *RUNS):
        rows = stages[f"rows/{name}"]
        assert rows.reads["POLICY_DIR"] == Artefact(f"seed_3/{name}")
        assert rows.settings["LAST_CHECKPOINT_ONLY"] == (name in ("sft", "golden_policy"))
        assert (rows.settings["STUDY"], rows.settings["TASK"]) == ("tiny", "tickets")
    assert stages[RUNS[1]].settings["ARM"] == "offline"
    assert stages[RUNS[1]].settings["PAIRS_NAME"] == "D_golden"
    assert stages[RUNS[0]].settings["PAIRS_NAME"] == "policy"
    random = {name for name, stage in stages.items() if stage.settings.get("SEED") == 3}
    assert set(stages) - random == {"d_golden", "reference_scores/d_golden"}


REPLAY = Arm(
    *("replay", "D_online", Place("online", "d_online")),
    settings={"DATA_ORDER": "recorded"}, like="online", stores_reference=False,
)  # fmt: skip
EARLY = Arm(
    *("sft vs 8", "D_sft_vs_8"),
    SampledPairs("d_sft_vs_8", Place("sft"), Place("online", "checkpoints/8")),
)  # fmt: skip


def test_arms_read_what_is_inside_of_other_stages(monkeypatch):
    arms = (ONLINE, OFFLINE, REPLAY, EARLY)
    two = Experiment("two", "Two", "?", lambda _: arms, (), ())
    monkeypatch.setitem(EXPERIMENTS, "two", two)
    planned = plan(experiments=("comparison", "two")).stages()
    stages = short(planned)
    replay = stages["replay_lr0.001_beta0.1"]  # it takes online's sweep
    assert replay.reads["PAIRS_DIR"] == Artefact(f"seed_3/{RUNS[0]}", "d_online")
    assert f"--gin.PAIRS_DIR='here/seed_3/{RUNS[0]}/d_online'" in replay.argv("here")
    assert f"seed_3/{RUNS[0]}" in replay.needs
    assert replay.settings["DATA_ORDER"] == "recorded"
    assert "REFERENCE_SCORES_DIR" not in replay.reads  # the online run to the bit
    sampled = stages["d_sft_vs_8"]
    assert sampled.reads["POLICY_B_DIR"] == Artefact(f"seed_3/{RUNS[0]}", "checkpoints/8")
    early = stages["sft-vs-8"]
    assert early.reads["PAIRS_DIR"] == Artefact("seed_3/d_sft_vs_8")
    scores = early.reads["REFERENCE_SCORES_DIR"].stage.partition("/")[2]
    assert stages[scores].reads["PAIRS_DIR"] == Artefact("seed_3/d_sft_vs_8")
    # Arms that both experiments have are run once.
    of_online = [name for name in names(planned) if name.endswith(RUNS[0])]
    assert of_online == [f"seed_3/{RUNS[0]}", f"seed_3/rows/{RUNS[0]}"]
