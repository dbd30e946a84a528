"""What rates are made of, prompt by prompt, so that two policies are compared in pairs."""

import dataclasses
import math
import zipfile
from pathlib import Path

import numpy as np

from pagap_jax.errors import DataError
from pagap_jax.intervals import mean_of

OUTCOMES_FILE = "outcomes.npz"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One checkpoint on each prompt of a win rate.

    Attributes:
        win: float[E], 1 where the policy beats the golden policy, 0.5 at a tie, 0 elsewhere.
        prompt_id: int64[E], equal where the prompts are.
        select: bool[E], prompts that checkpoints are chosen on; they are reported on the others.
    """

    win: np.ndarray
    prompt_id: np.ndarray
    select: np.ndarray


def read_outcomes(folder: Path, steps: list[int]) -> list[Outcome]:
    """The outcomes beside an evaluation's rows, in their order.

    Raises:
        DataError: the file is missing or damaged, or is of other checkpoints than the rows.
    """
    path = folder / OUTCOMES_FILE
    try:
        with np.load(path) as arrays:
            found, win = arrays["step"].tolist(), arrays["win"]
            prompt_id, select = arrays["prompt_id"], arrays["select"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected the outcomes of each prompt: {error}") from error
    if found != steps:
        raise DataError(f"{path}: found steps {found}, expected those of the rows, {steps}")
    return [Outcome(of_step, prompt_id, select) for of_step in win]


def paired_difference(weights: dict[int, float], outcomes: list[Outcome]) -> tuple[float, float]:
    """Σ weight · win rate over the report half, and its standard error over prompts.

    The weights of the two sides of a comparison have opposite signs, so that the error is that of
    the difference on the same prompts; it is clustered by prompt.

    Args:
        weights: by index into `outcomes`, which share their prompts.

    Returns:
        NaN twice where no prompt is reported on.

    Raises:
        DataError: the outcomes are of different prompts.
    """
    first = outcomes[0]
    for other in outcomes:
        if not np.array_equal(other.prompt_id, first.prompt_id):
            raise DataError("found outcomes of different prompts, expected those of one seed")
    report = ~first.select
    if not report.any():
        return math.nan, math.nan
    values = sum(weight * outcomes[i].win[report] for i, weight in weights.items())
    found = mean_of(np.asarray(values, np.float64), first.prompt_id[report])
    return found.mean, found.se
