"""What travels between jobs on disk: text pairs and rows of results."""

import dataclasses
from collections.abc import Iterable

SCHEMA_VERSION = 1

CHOICE_A = 0
CHOICE_B = 1
CHOICE_UNKNOWN = -1  # no label, or a tie: such a pair has weight 0 in every loss


@dataclasses.dataclass(frozen=True)
class PreferencePair:
    """One comparison as a source of raw data gives it.

    `choice` is what the rater said: 0 for `response_a`, 1 for `response_b`.
    `true_choice` is known for made-up data only (the sign of the hidden score); -1 elsewhere.
    """

    prompt: str
    response_a: str
    response_b: str
    choice: int
    true_choice: int = CHOICE_UNKNOWN


@dataclasses.dataclass(frozen=True)
class EvalRow:
    """Every measure of one checkpoint (§4.1, §5), with counts, errors and where it came from.

    Log-probabilities and KL are in nats a response, summed over its tokens. `_low` and `_high`
    bound 95 % intervals. The `_select` half of the win-rate prompts chooses checkpoints, the
    `_report` half reports them, so that a maximum over checkpoints isn't biased upwards.
    """

    study: str  # name of the study
    run: str  # the run's name, unique within (study, seed): 'online_lr0.0003_beta0.1'
    method: str  # 'sft', 'golden', 'online', 'offline', 'replay'
    loss: str  # 'ipo', 'ipo_margin', 'dpo', 'slic', 'bo2'
    reduction: str  # of token log-probs in a response: 'sum' or 'mean'
    beta: float
    learning_rate: float
    train_steps: int
    step: int
    seed: int
    checkpoint: str  # path relative to the study's folder
    fingerprint: str  # of the run's configuration
    kl: float
    kl_se: float
    kl_prompts: int
    win_rate: float
    win_rate_low: float
    win_rate_high: float
    win_rate_prompts: int
    win_rate_select: float
    win_rate_select_prompts: int
    win_rate_report: float
    win_rate_report_low: float
    win_rate_report_high: float
    win_rate_report_prompts: int
    win_rate_ties: int  # pairs on which the golden model's two orders cancel: half a win each
    proxy_win_rate: float
    accuracy: float  # sign of h against the golden label, on D_golden
    accuracy_low: float
    accuracy_high: float
    accuracy_pairs: int
    self_accuracy: float  # the same on pairs sampled from the policy itself
    self_accuracy_pairs: int
    chosen_log_prob_shift: float
    rejected_log_prob_shift: float
    response_length: float
    share_finished: float  # of the sampled responses, those that end with the end token
    share_unique: float
    schema_version: int = SCHEMA_VERSION


def row_to_dict(row: EvalRow) -> dict:
    """The row's fields in their order, as JSON and CSV hold them."""
    return dataclasses.asdict(row)


def rows_from_dicts(dicts: Iterable[dict]) -> list[EvalRow]:
    """Inverse of `row_to_dict`.

    Raises:
        TypeError: a field is missing or not known.
        ValueError: written by another schema version.
    """
    rows = []
    for fields in dicts:
        if fields.get("schema_version") != SCHEMA_VERSION:
            found = fields.get("schema_version")
            raise ValueError(f"row of schema version {found!r}, this reads {SCHEMA_VERSION}")
        rows.append(EvalRow(**fields))
    return rows
