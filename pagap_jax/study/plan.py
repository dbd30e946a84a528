"""What a study consists of: every stage with its settings, and what it waits for (Fig. 2).

The one builder of stages, for `pagap study` and for `launch`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import gin

from pagap_jax.errors import ConfigError
from pagap_jax.study.arms import Arm, Place, SampledPairs, run_name
from pagap_jax.study.experiments import EXPERIMENTS
from pagap_jax.study.experiments.experiment import Experiment
from pagap_jax.study.stages import Artefact, Settings, Stage, in_order

_NOTHING: Settings = {}
MAKES_AN_ARM = {"LOSS", "REDUCTION", "DATA_ORDER", "SHUFFLE_BLOCK", "SHUFFLE_UNIT"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Experiments over some seeds; all that is random varies with the seed.

    Attributes:
        study_dir: everything lies below it; checkpoints are named relative to it.
        name: goes into every row, as `task` does.
        configs: folder of gin files, one a kind of stage, named like the kind.
        experiments: names in `experiments.EXPERIMENTS`.
        sweeps: settings of each arm's runs, {'offline': ({'BETA': 0.1}, {'BETA': 0.5})}.
        data: macros of the data, {'DATA_FILE': ...}; `sft_data` of what π_sft alone is trained on.
        policy: macros of all jobs that have a policy, {'POLICY_SIZE': ...}. The golden policy is
            among them unless it is given: it starts from the same π_sft.
        proxy: macros of all jobs that have the proxy model, {'PROXY_SIZE': ...}.
        proxy_starts_from_sft: as in the paper (§4.1); False: from what its gin file says.
        given: folders that another study made, by stage, {'golden_responses': ...}; those stages
            aren't run, nor are what they alone need.
        settings: macros of all stages of a kind, {'golden': {'NUM_PARTITIONS': ...}}.
        slices: TPUs for the stages of a kind, {'golden': 'v5p:2x2x1'}, where `launch.study` starts
            them.
    """

    study_dir: str
    name: str
    task: str
    configs: str
    experiments: Sequence[str]
    seeds: Sequence[int]
    sweeps: Mapping[str, Sequence[Settings]]
    data: Settings = dataclasses.field(default_factory=dict)
    sft_data: Settings = dataclasses.field(default_factory=dict)
    policy: Settings = dataclasses.field(default_factory=dict)
    proxy: Settings = dataclasses.field(default_factory=dict)
    proxy_starts_from_sft: bool = True
    given: Settings = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def stages(self) -> list[Stage]:
        """All stages in an order that works.

        Raises:
            ConfigError: a name that nothing has, or two stages of one name.
        """
        _check_known("experiments", self.experiments, EXPERIMENTS)
        _check_known("sweeps", self.sweeps, [arm.name for arm in self.arms()])
        stages = in_order([stage for seed in self.seeds for stage in _Seed(self, seed).stages()])
        kinds = {kind_of(stage) for stage in stages} | set(KINDS)
        self._check_proxy()
        self._check_sweeps()
        _check_known("settings", self.settings, kinds)
        _check_known("slices", self.slices, kinds)
        return stages

    def _check_proxy(self) -> None:
        """Raises ConfigError where the proxy model can't start from π_sft: its size is another."""
        sizes = self.policy.get("POLICY_SIZE"), self.proxy.get("PROXY_SIZE")
        if self.proxy_starts_from_sft and "proxy" not in self.given and sizes[0] != sizes[1]:
            raise ConfigError(
                f"Plan.proxy: found PROXY_SIZE {sizes[1]!r}, and policies of size {sizes[0]!r}: the"
                " proxy model starts from the supervised checkpoint, so give that of the study of"
                " its size (Plan.given, 'proxy'), or set Plan.proxy_starts_from_sft to False"
            )

    def _check_sweeps(self) -> None:
        """Raises ConfigError where a sweep holds what makes an arm of its own."""
        for arm, sweep in self.sweeps.items():
            if found := sorted({macro for settings in sweep for macro in settings} & MAKES_AN_ARM):
                raise ConfigError(
                    f"Plan.sweeps: found {', '.join(found)} in the sweep of {arm!r}: runs of an arm"
                    " are pooled, so a run that differs in it belongs to another arm"
                )

    def chosen(self) -> list[Experiment]:
        """The study's experiments."""
        return [EXPERIMENTS[name] for name in self.experiments]

    def arms(self) -> list[Arm]:
        """Every arm of the experiments, once."""
        return list({arm.name: arm for one in self.chosen() for arm in one.arms}.values())

    def sweep(self, arm: Arm) -> Sequence[Settings]:
        """The settings of an arm's runs, the baseline first."""
        return self.sweeps.get(arm.name) or self.sweeps.get(arm.like) or (_NOTHING,)


# Not as a decorator: the tests' type checker puts its own around a class, and would ask for the
# arguments that gin is still to give.
gin.configurable(Plan)

# Kinds of stages that a study may set or place although its experiments have none of them.
KINDS = (
    *("prepare", "sft", "golden", "relabel", "proxy", "golden_policy", "golden_responses"),
    *("reference_scores", "sampled_pairs", "online", "offline", "evaluate"),
)


def kind_of(stage: Stage) -> str:
    """'golden_policy': stages of a kind share a gin file."""
    return PurePosixPath(stage.gin_file).stem


@dataclasses.dataclass(frozen=True)
class _Seed:
    """The stages of one seed."""

    plan: Plan
    seed: int

    def stages(self) -> list[Stage]:
        shared = self._shared()
        stages = {_Seed._short(stage): stage for stage in shared}
        _check_known("given", self.plan.given, [name for name in stages if "/" not in name])
        runs = [stage for arm in self.plan.arms() for stage in self._of_arm(arm)]
        gone = {self._full(name) for name in self.plan.given}
        if "golden_policy" in self.plan.given:
            gone.add(self._full("rows/golden_policy"))
        left = [stage for stage in (*shared, *runs) if stage.name not in gone]
        # Data that the given stages alone would have read aren't made.
        needed = {need for stage in left for need in stage.needs}
        sources = {self._full("pairs"), self._full("sft_pairs")} if self.plan.given else set()
        return [stage for stage in left if stage.name not in sources - needed]

    def _shared(self) -> list[Stage]:
        """All that comes before the experiments, and the measures of π_sft and π_gold."""
        plan, seed, policy = self.plan, self._seed, self._of_policy
        d_golden, golden = Place("d_golden"), Place("golden")
        sft_pairs = "sft_pairs" if plan.sft_data else "pairs"
        start = {"INITIAL_CHECKPOINT_PATH": Place("sft")} if plan.proxy_starts_from_sft else {}
        golden_policy = {"PAIRS_DIR": d_golden, "SFT_DIR": Place("sft"), "JUDGE_DIR": golden}
        responses = {
            "PAIRS_DIR": d_golden,
            "POLICY_A_DIR": Place("golden_policy"),
            "POLICY_B_DIR": Place("golden_policy"),
            "GOLDEN_DIR": golden,
        }
        of_golden = seed if "golden_policy" in plan.given else policy
        stages = [
            self._stage("pairs", "prepare", "prepare", {}, {**seed, **plan.data}),
            self._stage("sft", "sft", "sft", {"PAIRS_DIR": Place(sft_pairs)}, policy),
            self._stage(
                "golden", "preference_model", "golden", {"PAIRS_DIR": Place("pairs")}, seed
            ),
            self._stage(
                "d_golden",
                "relabel",
                "relabel",
                {"PAIRS_DIR": Place("pairs"), "GOLDEN_DIR": golden},
            ),
            self._stage(
                *("proxy", "preference_model", "proxy"),
                {"PAIRS_DIR": d_golden, **start},
                {**seed, **plan.proxy},
            ),
            self._stage("golden_policy", "align", "golden_policy", golden_policy, policy),
            self._stage(
                "golden_responses", "sample_pairs", "golden_responses", responses, of_golden
            ),
            self._evaluation("sft", last_checkpoint_only=True),
            self._evaluation("golden_policy", last_checkpoint_only=True),
        ]
        if plan.sft_data:
            stages.insert(
                1, self._stage("sft_pairs", "prepare", "prepare", {}, {**seed, **plan.sft_data})
            )
        return stages

    def _of_arm(self, arm: Arm) -> list[Stage]:
        """The data set of an arm where it has to be made, its runs and their measures."""
        stages, pairs = self._data_set(arm)
        kind = "online" if arm.is_online else "offline"
        reads: dict[str, Place] = {"PAIRS_DIR": pairs, "SFT_DIR": Place("sft")}
        if arm.judge:
            reads["JUDGE_DIR"] = Place(arm.judge)
        elif arm.stores_reference:
            reads["REFERENCE_SCORES_DIR"] = scores = Place(f"reference_scores/{_slug(pairs, self)}")
            stages.append(
                self._stage(
                    *(scores.of, "reference_scores", "reference_scores"),
                    {"PAIRS_DIR": pairs, "SFT_DIR": Place("sft")},
                    self.plan.policy,
                )
            )
        fixed = {**arm.settings, "ARM": arm.name, "PAIRS_NAME": arm.pairs_name}
        for settings in self.plan.sweep(arm):
            name = run_name(arm.name, settings)
            proxy = self.plan.proxy if arm.is_online else _NOTHING
            macros = {**self._of_policy, **proxy, **fixed, **settings}
            stages += [self._stage(name, "align", kind, reads, macros), self._evaluation(name)]
        return stages

    def _data_set(self, arm: Arm) -> tuple[list[Stage], Place]:
        if isinstance(arm.pairs, Place):
            return [], arm.pairs
        sampled: SampledPairs = arm.pairs
        reads = {
            "PAIRS_DIR": Place("d_golden"),
            "POLICY_A_DIR": sampled.policy_a,
            "POLICY_B_DIR": sampled.policy_b,
            "GOLDEN_DIR": Place("golden"),
        }
        stage = self._stage(sampled.stage, "sample_pairs", "sampled_pairs", reads, self._of_policy)
        return [stage], Place(sampled.stage)

    def _evaluation(self, run: str, last_checkpoint_only: bool = False) -> Stage:
        """The measures of a run's checkpoints."""
        reads = {
            "POLICY_DIR": Place(run),
            "SFT_DIR": Place("sft"),
            "GOLDEN_RESPONSES_DIR": Place("golden_responses"),
            "GOLDEN_PAIRS_DIR": Place("d_golden"),
            "GOLDEN_DIR": Place("golden"),
            "PROXY_DIR": Place("proxy"),
        }
        settings = {
            **self._of_policy,
            **self.plan.proxy,
            "STUDY": self.plan.name,
            "TASK": self.plan.task,
            "STUDY_DIR": self.plan.study_dir,
            "LAST_CHECKPOINT_ONLY": last_checkpoint_only,
        }
        return self._stage(f"rows/{run}", "evaluate", "evaluate", reads, settings)

    @property
    def _seed(self) -> dict[str, Any]:
        return {"SEED": self.seed}

    @property
    def _of_policy(self) -> dict[str, Any]:
        return {**self._seed, **self.plan.policy}

    def _full(self, name: str) -> str:
        return f"seed_{self.seed}/{name}"

    @staticmethod
    def _short(stage: Stage) -> str:
        return stage.name.partition("/")[2]

    def baseline(self, of: str) -> str:
        """The stage that a place is of: an arm stands for its run with the first settings."""
        arms = {arm.name: arm for arm in self.plan.arms()}
        return run_name(of, self.plan.sweep(arms[of])[0]) if of in arms else of

    def _stage(
        self,
        name: str,
        job: str,
        kind: str,
        reads: Mapping[str, Place],
        settings: Settings = _NOTHING,
    ) -> Stage:
        given, made = {}, {}
        for macro, place in reads.items():
            stage = self.baseline(place.of)
            if stage in self.plan.given:
                given[macro] = "/".join(filter(None, (self.plan.given[stage], place.inside)))
            else:
                made[macro] = Artefact(self._full(stage), place.inside)
        gin_file = f"{self.plan.configs}/{kind}.gin"
        macros = {**given, **self.plan.settings.get(kind, {}), **settings}
        return Stage(self._full(name), job, gin_file, made, macros)


def _slug(pairs: Place, seed: _Seed) -> str:
    return "-".join(filter(None, (seed.baseline(pairs.of), pairs.inside.replace("/", "-"))))


def _check_known(field: str, found: Any, known: Any) -> None:
    if unknown := sorted({*found} - {*known}):
        raise ConfigError(
            f"Plan.{field}: found {', '.join(unknown)}, expected of {', '.join(sorted(known))}"
        )
