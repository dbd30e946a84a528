"""What an experiment is."""

import dataclasses
from collections.abc import Callable

from pagap_jax.study.arms import Arm
from pagap_jax.study.findings import Finding
from pagap_jax.study.rows import Rows


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One hypothesis of the paper: its arms, and what is drawn and asked of their rows.

    Attributes:
        question: one sentence for the report.
        arms: each is run with its sweep.
        figures: names in `figures.FIGURES`.
        findings: sentences of the paper, each measured on rows; one that can't be asked of them
            says so.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    figures: tuple[str, ...]
    findings: tuple[Callable[[Rows], Finding], ...]
