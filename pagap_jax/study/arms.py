"""Arms: the curves that experiments compare, and how a run of one is named.

An arm says where its pairs come from, in what order, and with which loss; its sweep of learning
rates, β and lengths is the study's (gin). An arm that two experiments name is run once.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import gin

from pagap_jax.ranges import Count
from pagap_jax.study.stages import Settings

SHORT_NAMES = {"LEARNING_RATE": "lr", "TRAIN_STEPS": "steps"}  # of macros in names of runs


@dataclasses.dataclass(frozen=True)
class Place:
    """What another stage of the same seed makes, before the study's settings name it.

    Attributes:
        of: a stage ('sft', 'd_golden'), or an arm, which stands for its run with the first of
            its settings (the baseline).
        inside: a place in its folder: 'd_online', 'checkpoints/800'.
    """

    of: str
    inside: str = ""


@dataclasses.dataclass(frozen=True)
class SampledPairs:
    """A data set to be sampled: one response of each of two policies to each prompt of D_golden.

    Attributes:
        stage: name of the stage that makes it.
        policy_a, policy_b: who responds; the golden model chooses (§6).
    """

    stage: str
    policy_a: Place
    policy_b: Place


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Scale:
    """What the numbers of the paper's ablations are in a study of other lengths and sizes.

    Attributes:
        early_step, late_step: checkpoints of the online baseline that data sets are sampled from
            (§6); `late_step` is its last.
        blocks: batches in a block of D_online that is shuffled lightly, and heavily (App. G); ()
            leaves those arms out.
        losses: which take IPO's place in the experiment `loss`: 'bo2' (§5.4), 'dpo', 'slic'.
        sizes: macros of all jobs with a policy of a further size, {'xl': {'POLICY_SIZE': 'xl'}}
            (§5.5).
        starts: checkpoints that π_sft of a size is trained from, where the gin file doesn't know.
    """

    early_step: Count = 800
    late_step: Count = 4000
    blocks: tuple[Count, ...] = (4, 500)
    losses: tuple[str, ...] = ("bo2",)
    sizes: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    starts: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One curve of a comparison.

    Attributes:
        name: for readers: 'online', 'offline', 'shuffled', 'online, bo2', 'online, xl'.
        pairs_name: of the data set in rows and captions: 'D_golden', 'D_online'; 'policy' where
            the policy samples its own.
        pairs: the data set itself; online takes its prompts alone.
        judge: stage of the preference model that labels what the policy samples; None offline.
        settings: gin macros that make this arm what it is: order of pairs, loss.
        like: the arm whose sweep this one takes where the study gives it none of its own.
        one_run: whether it takes of that sweep the baseline alone.
        stores_reference: whether its runs share the reference's log-probs, computed once a data
            set. A replay of D_online doesn't: it has to be the online run to the bit (App. F).
        size: of its policy, of `Scale.sizes`; '' for that of all else.
    """

    name: str
    pairs_name: str
    pairs: Place | SampledPairs
    judge: str | None = None
    settings: Settings = dataclasses.field(default_factory=dict)
    like: str = ""
    one_run: bool = False
    stores_reference: bool = True
    size: str = ""

    @property
    def is_online(self) -> bool:
        """Whether the policy samples the pairs that it is trained on."""
        return self.judge is not None


ONLINE = Arm("online", "policy", Place("d_golden"), judge="proxy")
OFFLINE = Arm("offline", "D_golden", Place("d_golden"))
# Pairs, not whole batches: §5.1 says examples.
SHUFFLED = Arm("shuffled", "D_online", Place("online", "d_online"), like="offline")


def varied(arm: Arm, suffix: str, **changes: Any) -> Arm:
    """The arm with something else in it: 'shuffled, xl' reads what 'online, xl' recorded."""
    pairs = arm.pairs
    if isinstance(pairs, Place) and pairs.of == ONLINE.name:
        pairs = dataclasses.replace(pairs, of=f"{pairs.of}, {suffix}")
    name = f"{arm.name}, {suffix}"
    return dataclasses.replace(arm, name=name, pairs=pairs, like=arm.name, **changes)


def of_stage(text: str) -> str:
    """A name as a folder's: 'online, xl' becomes 'online-xl'."""
    return re.sub(r"[^\w.\-]+", "-", text).strip("-")


def run_name(arm: str, settings: Mapping[str, object]) -> str:
    """'online_lr0.0003_beta0.1': the arm, then every setting in which runs of it differ."""
    parts = [arm, *(f"{SHORT_NAMES.get(k, k.lower())}{settings[k]}" for k in settings)]
    return "_".join(of_stage(str(part)) for part in parts)
