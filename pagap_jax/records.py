"""What travels between jobs on disk: text pairs and rows of results."""

import dataclasses
from typing import TypeVar

SCHEMA_VERSION = 2  # of rows

CHOICE_A = 0
CHOICE_B = 1
CHOICE_UNKNOWN = -1  # no label, or a tie: such a pair has weight 0 in every loss
D_ONLINE = "d_online"  # in the folder of an online run


@dataclasses.dataclass(frozen=True)
class PreferencePair:
    """One comparison as a source of raw data gives it.

    `choice` is what the rater said: 0 for `response_a`, 1 for `response_b`.
    `true_choice` is known for made-up data only (the sign of the hidden score); -1 elsewhere.
    `split` is the data's own ('train', 'validation'), '' where it has none.
    """

    prompt: str
    response_a: str
    response_b: str
    choice: int
    true_choice: int = CHOICE_UNKNOWN
    split: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowIdentity:
    """Where a measured number comes from: the same first columns in every kind of row."""

    study: str  # name of the study
    task: str  # 'tickets', 'summarization', ...
    seed: int
    arm: str  # a curve of a figure, for a reader: 'sft', 'golden', 'online', 'offline', ...
    run: str  # an arm with one setting, unique within (study, seed): 'online_lr0.0003_beta0.1'
    policy_size: str  # 'tiny', 'large', 'xl', ...
    policy_parameters: int
    pairs: str  # the data set that the run's pairs come from; 'policy': sampled as it trains
    data_order: str  # 'recorded', 'shuffled', 'shuffled in blocks of 4 batches', ...
    loss: str  # 'ipo', 'ipo_margin', 'dpo', 'slic', 'bo2', 'cross_entropy'
    reduction: str  # of token log-probs in a response: 'sum' or 'mean'
    beta: float
    learning_rate: float
    train_steps: int
    step: int
    fingerprint: str  # of the run's configuration


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointRow(RowIdentity):
    """Every measure of one checkpoint (§4.1, §5), each with its count and how sure it is.

    Log-probabilities and KL are in nats a response, summed over its tokens. `_low` and `_high`
    bound 95 % intervals, `_se` is a standard error, both clustered by prompt. The prompts of the
    `_select` half choose checkpoints, those of the `_report` half report them, so that a maximum
    over checkpoints isn't biased upwards.
    """

    checkpoint: str  # path relative to the study's folder
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
    win_rate_ties: int  # prompts on which the golden model's two orders cancel: half a win each
    proxy_win_rate: float  # over the same prompts, judged by the proxy model
    proxy_win_rate_low: float
    proxy_win_rate_high: float
    accuracy: float  # sign of h against the golden label, on D_golden
    accuracy_low: float
    accuracy_high: float
    accuracy_pairs: int
    self_accuracy: float  # the same on pairs sampled from the policy itself (App. E.1)
    self_accuracy_low: float
    self_accuracy_high: float
    self_accuracy_pairs: int
    chosen_log_prob_shift: float  # mean of log π − log π_sft over D_golden's pairs (Fig. 8)
    chosen_log_prob_shift_se: float
    rejected_log_prob_shift: float
    rejected_log_prob_shift_se: float
    log_prob_shift_pairs: int
    samples: int  # that the following are measured on
    response_length: float  # tokens
    response_length_se: float
    share_finished: float  # of the sampled responses, those that end with the end token
    share_finished_low: float
    share_finished_high: float
    share_unique: float  # different responses among the samples, divided by their number
    schema_version: int = SCHEMA_VERSION


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamRow(RowIdentity):
    """Accuracy of one classifier on pairs around a step of D_online (Fig. 6).

    The identity is that of the run whose D_online it is, `step` one of its steps.
    """

    classifier: str  # the arm of a policy, or 'proxy': the label that was trained on
    classifier_checkpoint: str  # path relative to the study's folder; '' for the proxy model
    pairs_first_step: int  # the pairs were drawn from those sampled at these steps
    pairs_last_step: int
    accuracy: float  # against the golden model's label
    accuracy_low: float
    accuracy_high: float
    accuracy_pairs: int
    schema_version: int = SCHEMA_VERSION


Row = TypeVar("Row", CheckpointRow, StreamRow)


def row_to_dict(row: CheckpointRow | StreamRow) -> dict:
    """The row's fields in their order, as JSON and CSV hold them."""
    return dataclasses.asdict(row)


def row_from_dict(kind: type[Row], fields: dict) -> Row:
    """Inverse of `row_to_dict`.

    Raises:
        TypeError: a field is missing or not known.
        ValueError: written by another schema version.
    """
    if (found := fields.get("schema_version")) != SCHEMA_VERSION:
        raise ValueError(f"row of schema version {found!r}, this reads {SCHEMA_VERSION}")
    return kind(**fields)
