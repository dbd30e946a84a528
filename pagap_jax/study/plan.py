"""What a study consists of: each job with its settings, and what it waits for (Fig. 2)."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pagap_jax.errors import ConfigError

Settings = Mapping[str, Any]  # gin macros and their values

SHORT_NAMES = {"LEARNING_RATE": "lr", "BETA": "beta", "TRAIN_STEPS": "steps", "LOSS": "loss"}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One job of a study.

    Attributes:
        name: its folder below the study's.
        job: as `pagap JOB` names it.
        gin_file: its configuration.
        folders: macros that name folders of other stages, as {macro: stage}.
        settings: further macros.
        needs: stages that must be finished; those in `folders` are among them.
    """

    name: str
    job: str
    gin_file: str
    folders: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Settings = dataclasses.field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.folders.values()))

    def argv(self, study_dir: str) -> list[str]:
        """The command line of the job, after `pagap`."""
        places = {"MODEL_DIR": self.name, **self.folders}
        # As text: a path would make 'gs:/b' of 'gs://b'.
        macros = {macro: f"{study_dir.rstrip('/')}/{stage}" for macro, stage in places.items()}
        macros |= self.settings
        bindings = [f"--gin.{macro}={value!r}" for macro, value in macros.items()]
        return [self.job, f"--gin_file={self.gin_file}", *bindings]


@dataclasses.dataclass(frozen=True)
class ControlledStudy:
    """The comparison of online and offline for one seed; all that is random varies with the seed.

    Attributes:
        configs: folder of gin files, one a kind of stage, named like the stage.
        name: goes into every row.
        study_dir: checkpoints are named relative to it.
        data: macros of the data (a file, say).
        sft_data: the same of data that π_sft alone is trained on; none for the study's own.
        policy: macros of all jobs that have a policy (its size, say). The golden policy is among
            them unless it is given: it starts from the same π_sft.
        given: folders that another study made, by stage; those stages aren't run, nor are what
            they alone need.
        settings: macros of all stages of a kind, by its gin file's name (partitioning, say).
        slices: TPUs for them, {'golden': 'v5p:2x2x1'}, where `launch.study` starts them.
    """

    configs: str
    name: str
    study_dir: str
    seed: int
    data: Settings
    sft_data: Settings = dataclasses.field(default_factory=dict)
    policy: Settings = dataclasses.field(default_factory=dict)
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def shared_stages(self) -> list[Stage]:
        """All that comes before the comparison, and the measures of π_sft and π_gold."""
        sft_pairs = "sft_pairs" if self.sft_data else "pairs"
        stages = [
            self._stage("pairs", "prepare", "prepare", settings={**self._seed, **self.data}),
            self._stage("sft", "sft", "sft", {"PAIRS_DIR": sft_pairs}, self._of_policy),
            self._stage("golden", "preference_model", "golden", {"PAIRS_DIR": "pairs"}, self._seed),
            self._stage(
                "d_golden", "relabel", "relabel", {"PAIRS_DIR": "pairs", "GOLDEN_DIR": "golden"}
            ),
            self._stage(
                "proxy", "preference_model", "proxy", {"PAIRS_DIR": "d_golden"}, self._seed
            ),
            self._stage(
                "golden_policy",
                "align",
                "golden_policy",
                {"PAIRS_DIR": "d_golden", "SFT_DIR": "sft", "JUDGE_DIR": "golden"},
                self._of_policy,
            ),
            self._stage(
                "golden_responses",
                "sample_pairs",
                "golden_responses",
                {
                    "PAIRS_DIR": "d_golden",
                    "POLICY_A_DIR": "golden_policy",
                    "POLICY_B_DIR": "golden_policy",
                    "GOLDEN_DIR": "golden",
                },
                self._seed if "golden_policy" in self.given else self._of_policy,
            ),
            self.evaluation("sft", last_checkpoint_only=True),
            self.evaluation("golden_policy", last_checkpoint_only=True),
        ]
        if self.sft_data:
            settings = {**self._seed, **self.sft_data}
            stages.insert(1, self._stage("sft_pairs", "prepare", "prepare", settings=settings))
        self._check_names(stages)
        return self._without_given(stages)

    def online(self, settings: Settings) -> list[Stage]:
        """An online run against the proxy model, and its evaluation."""
        folders = {"PAIRS_DIR": "d_golden", "SFT_DIR": "sft", "JUDGE_DIR": "proxy"}
        return self._run("online", folders, settings)

    def offline(self, settings: Settings) -> list[Stage]:
        """An offline run on D_golden, and its evaluation."""
        return self._run("offline", {"PAIRS_DIR": "d_golden", "SFT_DIR": "sft"}, settings)

    def stages(self, online: Sequence[Settings], offline: Sequence[Settings]) -> list[Stage]:
        """All that the comparison of these runs takes."""
        runs = [self.online(settings) for settings in online]
        runs += [self.offline(settings) for settings in offline]
        return [*self.shared_stages(), *(stage for run in runs for stage in run)]

    def evaluation(self, run: str, last_checkpoint_only: bool = False) -> Stage:
        """The measures of a run's checkpoints."""
        folders = {
            "POLICY_DIR": run,
            "SFT_DIR": "sft",
            "GOLDEN_RESPONSES_DIR": "golden_responses",
            "GOLDEN_PAIRS_DIR": "d_golden",
            "GOLDEN_DIR": "golden",
            "PROXY_DIR": "proxy",
        }
        settings = {
            **self._of_policy,
            "STUDY": self.name,
            "STUDY_DIR": self.study_dir,
            "LAST_CHECKPOINT_ONLY": last_checkpoint_only,
        }
        return self._stage(f"rows/{run}", "evaluate", "evaluate", folders, settings)

    @property
    def _seed(self) -> dict[str, int]:
        return {"SEED": self.seed}

    @property
    def _of_policy(self) -> dict[str, Any]:
        return {**self._seed, **self.policy}

    def _without_given(self, stages: list[Stage]) -> list[Stage]:
        """Nor what the given ones alone would have needed; nor the measures of another's policy."""
        prefix = f"seed_{self.seed}/"
        gone = {prefix + name for name in self.given}
        if "golden_policy" in self.given:
            gone.add(f"{prefix}rows/golden_policy")
        left = [stage for stage in stages if stage.name not in gone]
        if not self.given:
            return left
        needed = {need for stage in left for need in stage.needs}
        sources = {f"{prefix}pairs", f"{prefix}sft_pairs"}
        return [stage for stage in left if stage.name not in sources - needed]

    def _check_names(self, stages: list[Stage]) -> None:
        """Raises ConfigError where something is given or set for a stage that there isn't."""
        names = {stage.name.removeprefix(f"seed_{self.seed}/") for stage in stages}
        kinds = {PurePosixPath(stage.gin_file).stem for stage in stages} | {"online", "offline"}
        for what, keys, known in (
            ("given", self.given, {name for name in names if "/" not in name}),
            ("settings", self.settings, kinds),
            ("slices", self.slices, kinds),
        ):
            if unknown := sorted({*keys} - known):
                raise ConfigError(
                    f"study.{what}: found {', '.join(unknown)}, expected of"
                    f" {', '.join(sorted(known))}"
                )

    def _run(self, method: str, folders: Mapping[str, str], settings: Settings) -> list[Stage]:
        name = run_name(method, settings)
        run = self._stage(name, "align", method, folders, {**self._of_policy, **settings})
        return [run, self.evaluation(name)]

    def _stage(
        self,
        name: str,
        job: str,
        gin_file: str,
        folders: Mapping[str, str] | None = None,
        settings: Settings | None = None,
    ) -> Stage:
        prefix = f"seed_{self.seed}"
        given = {k: self.given[v] for k, v in (folders or {}).items() if v in self.given}
        return Stage(
            f"{prefix}/{name}",
            job,
            f"{self.configs}/{gin_file}.gin",
            {k: f"{prefix}/{v}" for k, v in (folders or {}).items() if v not in self.given},
            {**given, **self.settings.get(gin_file, {}), **(settings or {})},
        )


def run_name(method: str, settings: Settings) -> str:
    """'online_lr0.0003_beta0.1': the settings that a sweep varies, in their order."""
    shown = [f"{SHORT_NAMES[k]}{settings[k]}" for k in SHORT_NAMES if k in settings]
    return "_".join([method, *shown])


def plans_of(seeds: Sequence[int], **fields: Any) -> list[ControlledStudy]:
    """One a seed; `fields` are the others of ControlledStudy, None where they aren't given."""
    given = {name: value for name, value in fields.items() if value is not None}
    return [ControlledStudy(seed=seed, **given) for seed in seeds]


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, each after what it needs; otherwise in the order given.

    Raises:
        ValueError: a stage needs one that isn't there.
    """
    ordered: dict[str, Stage] = {}
    by_name = {stage.name: stage for stage in stages}

    def visit(stage: Stage) -> None:
        if stage.name in ordered:
            return
        for need in stage.needs:
            if need not in by_name:
                raise ValueError(f"stage {stage.name} needs {need}, which no stage makes")
            visit(by_name[need])
        ordered[stage.name] = stage

    for stage in stages:
        visit(stage)
    return list(ordered.values())
