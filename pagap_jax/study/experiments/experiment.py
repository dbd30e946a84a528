"""What an experiment is."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from pagap_jax.study.arms import Arm, Place, Scale
from pagap_jax.study.findings import Finding
from pagap_jax.study.rows import Rows


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A stage that leaves rows of its own, beside the evaluation of each run.

    Attributes:
        stage: its name.
        job: as `pagap JOB` names it; its gin file has the same name.
        reads: what it measures, by macro; π_sft and both preference models are given to all.
    """

    stage: str
    job: str
    reads: Mapping[str, Place]


def _nothing(_: Scale) -> Sequence[Measurement]:
    return ()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One hypothesis of the paper: its arms, and what is drawn and asked of their rows.

    Attributes:
        title: of its section in the report.
        question: one sentence for the report.
        arms: each is run with its sweep; a function of the study's scale.
        measurements: further stages that leave rows.
        figures: names in `figures.FIGURES`.
        findings: sentences of the paper, each measured on rows; one that can't be asked of them
            says so.
    """

    name: str
    title: str
    question: str
    arms: Callable[[Scale], Sequence[Arm]]
    figures: tuple[str, ...]
    findings: tuple[Callable[[Rows], Finding], ...]
    measurements: Callable[[Scale], Sequence[Measurement]] = _nothing
