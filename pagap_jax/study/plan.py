"""What a study consists of: every stage with its settings, and what it waits for (Fig. 2).

The one builder of stages, for `pagap study` and for `launch`.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import gin

from pagap_jax.errors import ConfigError
from pagap_jax.ranges import Place, Seed
from pagap_jax.study.arms import Arm, Scale, run_name
from pagap_jax.study.experiments import EXPERIMENTS
from pagap_jax.study.experiments.experiment import Experiment, Measurement
from pagap_jax.study.seed_stages import SeedStages
from pagap_jax.study.stages import Settings, Stage, in_order

_NOTHING: Settings = {}
MAKES_AN_ARM = {"LOSS", "REDUCTION", "DATA_ORDER", "SHUFFLE_BLOCK", "SHUFFLE_UNIT"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Experiments over some seeds; all that is random varies with the seed.

    Attributes:
        study_dir: everything lies below it; checkpoints are named relative to it.
        name: goes into every row, as `task` does.
        configs: folder of gin files, one a kind of stage, named like the kind.
        gin_files: further ones, which every stage reads after that of its kind.
        shared: macros of all stages; each of them has to use them.
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
        scale: what the numbers of the paper's ablations are in this study.
        slices: TPUs for the stages of a kind, {'golden': 'v5p:2x2x1'}, where `launch.study` starts
            them.
    """

    study_dir: Place
    name: str
    task: str
    configs: Place
    experiments: Sequence[str]
    seeds: Sequence[Seed]
    sweeps: Mapping[str, Sequence[Settings]]
    gin_files: Sequence[Place] = ()
    shared: Settings = dataclasses.field(default_factory=dict)
    data: Settings = dataclasses.field(default_factory=dict)
    sft_data: Settings = dataclasses.field(default_factory=dict)
    policy: Settings = dataclasses.field(default_factory=dict)
    proxy: Settings = dataclasses.field(default_factory=dict)
    proxy_starts_from_sft: bool = True
    given: Settings = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    scale: Scale = dataclasses.field(default_factory=Scale)
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def stages(self) -> list[Stage]:
        """All stages in an order that works.

        Raises:
            ConfigError: a name that nothing has, or two stages of one name.
        """
        _check_known("experiments", self.experiments, EXPERIMENTS)
        known = [arm.name for one in EXPERIMENTS.values() for arm in one.arms(self.scale)]
        _check_known("sweeps", self.sweeps, known)
        _check_known("given", self.given, SeedStages(self, 0).shared_names())
        stages = in_order([stage for seed in self.seeds for stage in SeedStages(self, seed).all()])
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
        return list(self._arms.values())

    @functools.cached_property
    def _arms(self) -> dict[str, Arm]:
        return {arm.name: arm for one in self.chosen() for arm in one.arms(self.scale)}

    def measurements(self) -> list[Measurement]:
        """Every further stage that leaves rows, once."""
        found = {m.stage: m for one in self.chosen() for m in one.measurements(self.scale)}
        return list(found.values())

    def sweep(self, arm: Arm) -> Sequence[Settings]:
        """The settings of an arm's runs, the baseline first."""
        if own := self.sweeps.get(arm.name):
            return own
        other = self._arms.get(arm.like)
        like = self.sweep(other) if other else self.sweeps.get(arm.like)
        return (like or (_NOTHING,))[: 1 if arm.one_run else None]

    def baselines(self) -> dict[str, str]:
        """The run of each arm that has the first of its settings."""
        return {arm.name: run_name(arm.name, self.sweep(arm)[0]) for arm in self.arms()}

    def of_size(self, size: str) -> dict[str, Any]:
        """Macros of all jobs with a policy of a size of `scale`; '' is the study's own."""
        return {**self.policy, **(self.scale.sizes[size] if size else {})}


# Not as a decorator: the tests' type checker puts its own around a class, and would ask for the
# arguments that gin is still to give.
gin.configurable(Plan)

# Kinds of stages that a study may set or place although its experiments have none of them.
KINDS = (
    *("prepare", "sft", "golden", "relabel", "proxy", "golden_policy", "golden_responses"),
    *("reference_scores", "sampled_pairs", "online", "offline", "evaluate", "classify_stream"),
)


def kind_of(stage: Stage) -> str:
    """'golden_policy': stages of a kind share a gin file."""
    return PurePosixPath(stage.gin_file).stem


def _check_known(field: str, found: Any, known: Any) -> None:
    if unknown := sorted({*found} - {*known}):
        raise ConfigError(
            f"Plan.{field}: found {'; '.join(unknown)}, expected of {'; '.join(sorted({*known}))}"
        )
