"""Names and words of the report: what its terms mean, what settings and counts are called."""

from collections.abc import Mapping
from typing import Any

GLOSSARY = (
    ("SFT", "the policy after supervised fine-tuning; every run starts from it."),
    (
        "Golden model",
        "the preference model that stands in for people: it labels the data and judges results.",
    ),
    ("Proxy model", "the preference model that online training asks; it learnt from D_golden."),
    ("D_golden", "the data set's pairs, labelled by the golden model; offline runs train on it."),
    ("D_online", "the pairs that an online run sampled and the proxy model labelled, in order."),
    (
        "Golden policy",
        "a policy trained online with the golden model; all others are judged against its fixed "
        "responses.",
    ),
    (
        "Win rate",
        "the share of prompts on which the golden model prefers a policy's response to the golden "
        "policy's; a tie counts half.",
    ),
    (
        "Select half, report half",
        "half of the prompts choose the best checkpoint, the other half say how good it is, so "
        "that choosing flatters no result.",
    ),
    ("KL", "how far a policy is from SFT, KL(policy ‖ SFT), in nats a response."),
    (
        "Can't be told apart",
        "the 95 % interval of a difference has 0 in it: a wide one doesn't say that two things "
        "are alike.",
    ),
)

STAGES = {
    "pairs": "pairs as read",
    "sft_pairs": "pairs for SFT",
    "golden": "golden model",
    "d_golden": "D_golden",
    "proxy": "proxy model",
}
_DATA = {
    "agrees_with_label": "golden model agrees with the data's label (share)",
    "agrees_with_truth": "golden model agrees with the hidden score (share)",
    "ended_at_plateau": "training ended at a plateau",
    "examples": "pairs kept",
    "mean_prompt_length": "tokens a prompt, mean",
    "mean_response_length": "tokens a response, mean",
    "not_needed": "pairs read and not needed",
    "order_disagreement": "the two orders disagree (share)",
    "overlap, pairs": "validation pairs that training has too",
    "overlap, pairs_of_these_prompts": "pairs of such prompts",
    "overlap, prompts": "prompts in training and in validation",
    "pairs": "pairs",
    "prompt_truncated": "prompts cut in the model's input (share)",
    "prompts": "different prompts",
    "read": "rows read",
    "share_choice_a": "first response chosen (share)",
    "share_prompts_truncated": "prompts cut (share)",
    "share_responses_truncated": "responses cut (share)",
    "share_unknown, prompt": "unknown tokens in prompts (share)",
    "share_unknown, response_a": "unknown tokens in first responses (share)",
    "share_unknown, response_b": "unknown tokens in second responses (share)",
    "share_without_choice": "pairs without a choice (share)",
    "step": "step of the checkpoint that is used",
    "ties": "ties",
    "validation_accuracy": "validation accuracy",
    "validation_accuracy_high": "validation accuracy, upper end of 95 %",
    "validation_accuracy_low": "validation accuracy, lower end of 95 %",
    "validation_accuracy_true": "validation accuracy against the hidden score",
    "validation_loss": "validation loss, nats a pair",
    "validation_pairs": "validation pairs",
}
_SPLITS = ("train", "validation")


def data_name(path: tuple[str, ...]) -> str:
    """What a number in a stage's result is called: ('splits', 'train', 'read') 'train: rows read'.

    Those that nobody named keep their keys, with spaces.
    """
    inside = [key for key in path if key != "splits"]
    split = f"{inside.pop(0)}: " if len(inside) > 1 and inside[0] in _SPLITS else ""
    key = ", ".join(inside)
    return split + _DATA.get(key, key.replace("_", " "))


def settings_of(row: Mapping[str, Any]) -> str:
    """A row's run and step, in words."""
    step = f"step {row['step']} of {row['train_steps']}"
    return f"β {row['beta']:g}, rate {row['learning_rate']:g}, {step}"


def counted(number: int, noun: str) -> str:
    """'1 run', '2 runs'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
