"""The stages of one seed of a study (Fig. 2)."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pagap_jax.study.arms import Arm, Place, SampledPairs, of_stage, run_name
from pagap_jax.study.experiments.experiment import Measurement
from pagap_jax.study.stages import Artefact, Settings, Stage

if TYPE_CHECKING:
    from pagap_jax.study.plan import Plan

_NOTHING: Settings = {}


@dataclasses.dataclass(frozen=True)
class SeedStages:
    """Builds them; `Plan.stages` puts those of all seeds in order."""

    plan: "Plan"
    seed: int

    def all(self) -> list[Stage]:
        """Those that all arms share, then those of arms and measurements; none that was given."""
        arms = self.plan.arms()
        shared = [*self._shared(), *self._of_sizes([arm.size for arm in arms if arm.size])]
        stages = shared + [stage for arm in arms for stage in self._of_arm(arm)]
        stages += [self._measurement(one) for one in self.plan.measurements()]
        gone = {self._full(name) for name in self.plan.given}
        if "golden_policy" in self.plan.given:
            gone.add(self._full("rows/golden_policy"))
        left = [stage for stage in stages if stage.name not in gone]
        # Data that the given stages alone would have read aren't made.
        needed = {need for stage in left for need in stage.needs}
        sources = {self._full("pairs"), self._full("sft_pairs")} if self.plan.given else set()
        return [stage for stage in left if stage.name not in sources - needed]

    def shared_names(self) -> list[str]:
        """Names of the stages that another study may give."""
        names = [stage.name.partition("/")[2] for stage in self._shared()]
        return [name for name in names if "/" not in name]

    def _shared(self) -> list[Stage]:
        """All that comes before the experiments, and the measures of π_sft and π_gold."""
        plan, seed, policy = self.plan, self._seed, self._policy()
        d_golden, golden = Place("d_golden"), Place("golden")
        start = {"INITIAL_CHECKPOINT_PATH": Place("sft")} if plan.proxy_starts_from_sft else {}
        golden_policy = {"PAIRS_DIR": d_golden, "SFT_DIR": Place("sft"), "JUDGE_DIR": golden}
        responses = {
            "PAIRS_DIR": d_golden,
            "POLICY_A_DIR": Place("golden_policy"),
            "POLICY_B_DIR": Place("golden_policy"),
            "GOLDEN_DIR": golden,
        }
        pairs = {"PAIRS_DIR": Place("pairs")}
        of_golden = seed if "golden_policy" in plan.given else policy
        stages = [
            self._stage("pairs", "prepare", "prepare", {}, {**seed, **plan.data}),
            self._stage("sft", "sft", "sft", {"PAIRS_DIR": self._sft_pairs}, policy),
            self._stage("golden", "preference_model", "golden", pairs, seed),
            self._stage("d_golden", "relabel", "relabel", {**pairs, "GOLDEN_DIR": golden}),
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
            data = {**seed, **plan.sft_data}
            stages.insert(1, self._stage("sft_pairs", "prepare", "prepare", {}, data))
        return stages

    @property
    def _sft_pairs(self) -> Place:
        return Place("sft_pairs" if self.plan.sft_data else "pairs")

    def _of_sizes(self, sizes: list[str]) -> list[Stage]:
        """π_sft of each further size, and its measures."""
        stages = []
        for size in dict.fromkeys(sizes):
            sft, macros = _sft_of(size).of, {**self._policy(size), **_size_label(size)}
            macros["RunLabels.arm"] = f"sft, {size}"
            if start := self.plan.scale.starts.get(size):
                macros["INITIAL_CHECKPOINT_PATH"] = start
            stages += [
                self._stage(sft, "sft", "sft", {"PAIRS_DIR": self._sft_pairs}, macros),
                self._evaluation(sft, size, last_checkpoint_only=True),
            ]
        return stages

    def _of_arm(self, arm: Arm) -> list[Stage]:
        """The data set of an arm where it has to be made, its runs and their measures."""
        stages, pairs = self._data_set(arm)
        kind, sft = "online" if arm.is_online else "offline", _sft_of(arm.size)
        reads: dict[str, Place] = {"PAIRS_DIR": pairs, "SFT_DIR": sft}
        if arm.judge:
            reads["JUDGE_DIR"] = Place(arm.judge)
        elif arm.stores_reference:
            stages.append(scores := self._reference_scores(pairs, arm.size))
            reads["REFERENCE_SCORES_DIR"] = Place(scores.name.partition("/")[2])
        fixed = {**arm.settings, "ARM": arm.name, "PAIRS_NAME": arm.pairs_name}
        proxy = self.plan.proxy if arm.is_online else _NOTHING
        for settings in self.plan.sweep(arm):
            name = run_name(arm.name, settings)
            of_size = {**self._policy(arm.size), **_size_label(arm.size)}
            macros = {**of_size, **proxy, **fixed, **settings}
            run = self._stage(name, "align", kind, reads, macros)
            stages += [run, self._evaluation(name, arm.size)]
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
        stage = self._stage(sampled.stage, "sample_pairs", "sampled_pairs", reads, self._policy())
        return [stage], Place(sampled.stage)

    def _reference_scores(self, pairs: Place, size: str) -> Stage:
        """Log-probs of a data set under the π_sft of a size."""
        parts = (self.baseline(pairs.of), pairs.inside.replace("/", "-"))
        name = f"reference_scores/{'-'.join(filter(None, parts))}{f'_{size}' * bool(size)}"
        reads = {"PAIRS_DIR": pairs, "SFT_DIR": _sft_of(size)}
        macros = self.plan.of_size(size)
        return self._stage(name, "reference_scores", "reference_scores", reads, macros)

    def _evaluation(self, run: str, size: str = "", last_checkpoint_only: bool = False) -> Stage:
        """The measures of a run's checkpoints."""
        reads = {
            "POLICY_DIR": Place(run),
            "SFT_DIR": _sft_of(size),
            "GOLDEN_RESPONSES_DIR": Place("golden_responses"),
            "GOLDEN_PAIRS_DIR": Place("d_golden"),
            "GOLDEN_DIR": Place("golden"),
            "PROXY_DIR": Place("proxy"),
        }
        macros = {
            **self._policy(size),
            **self.plan.proxy,
            **self._labels,
            "LAST_CHECKPOINT_ONLY": last_checkpoint_only,
        }
        return self._stage(f"rows/{run}", "evaluate", "evaluate", reads, macros)

    def _measurement(self, one: Measurement) -> Stage:
        reads = {**one.reads, "SFT_DIR": Place("sft"), "GOLDEN_DIR": Place("golden")}
        return self._stage(one.stage, one.job, one.job, reads, {**self._policy(), **self._labels})

    @property
    def _labels(self) -> Settings:
        """What rows say of the study."""
        plan = self.plan
        return {"STUDY": plan.name, "TASK": plan.task, "STUDY_DIR": plan.study_dir}

    @property
    def _seed(self) -> dict[str, Any]:
        return {"SEED": self.seed}

    def _policy(self, size: str = "") -> dict[str, Any]:
        return {**self._seed, **self.plan.of_size(size)}

    def _full(self, name: str) -> str:
        return f"seed_{self.seed}/{name}"

    def baseline(self, of: str) -> str:
        """The stage that a place is of: an arm stands for its run with the first settings."""
        return self._baselines.get(of, of)

    @functools.cached_property
    def _baselines(self) -> dict[str, str]:
        return self.plan.baselines()

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
        plan = self.plan
        macros = {**plan.shared, **given, **plan.settings.get(kind, {}), **settings}
        more = tuple(plan.gin_files)
        return Stage(self._full(name), job, gin_file, made, macros, more)


def _sft_of(size: str) -> Place:
    return Place(f"sft_{of_stage(size)}" if size else "sft")


def _size_label(size: str) -> Settings:
    """What rows of a run call its size; jobs that train none have no such label."""
    return {"RunLabels.policy_size": size} if size else {}
