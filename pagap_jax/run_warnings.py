"""What looks broken in a run that goes on: said once, kept in MODEL_DIR/warnings.jsonl.

A line a warning: {"kind": str, "message": str, "value": float, "threshold": float,
"step": int|null}. The kind is the name of the value in metrics, results and rows.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from pagap_jax.files import read_json_lines, write_atomically
from pagap_jax.processes import is_first
from pagap_jax.run_directory import RunDirectory

WARNINGS_FILE = "warnings.jsonl"


@dataclasses.dataclass(frozen=True)
class Limit:
    """Where a value begins to look broken.

    Attributes:
        threshold: the last value that is still well.
        is_broken_above: whether larger values are broken; otherwise smaller ones are.
        message: what it means and what to do; '{value}' and '{threshold}' are filled in.
    """

    threshold: float
    is_broken_above: bool
    message: str

    def is_missed(self, value: float) -> bool:
        """Whether a value is beyond the threshold; what isn't a number isn't."""
        return value > self.threshold if self.is_broken_above else value < self.threshold


def _above(threshold: float, message: str) -> Limit:
    return Limit(threshold, True, message)


def _below(threshold: float, message: str) -> Limit:
    return Limit(threshold, False, message)


# By the name of the value. Thresholds are ours: none of them is the paper's.
LIMITS: Mapping[str, Limit] = {
    "order_disagreement": _above(
        0.3,
        "the preference model prefers another response when the two change places, in {value:.0%}"
        " of the validation pairs: it judges the place more than the responses",
    ),
    "validation_accuracy_low": _below(
        0.5,
        "the preference model's validation accuracy can't be told from 1/2, its 95 % interval"
        " begins at {value:.2f}: it learnt nothing, or there are too few validation pairs",
    ),
    "prompt_truncated": _above(
        0.2,
        "{value:.0%} of the prompts lose their beginning in the preference model's input: raise"
        " INPUT_LENGTH",
    ),
    "share_prompts_truncated": _above(
        0.2,
        "{value:.0%} of the prompts were truncated: raise 'inputs' of TASK_FEATURE_LENGTHS",
    ),
    "share_responses_truncated": _above(
        0.2,
        "{value:.0%} of the responses were truncated: raise 'targets' of TASK_FEATURE_LENGTHS",
    ),
    "share_finished": _below(
        0.8,
        "only {value:.0%} of the responses end within the length that they have: raise 'targets'"
        " of TASK_FEATURE_LENGTHS, or train π_sft for longer",
    ),
    "kl_prompts": _below(
        200.0, "KL is measured on {value:.0f} prompts: with fewer than {threshold:.0f} it is noisy"
    ),
    "win_rate_prompts": _below(
        200.0,
        "the win rate is measured on {value:.0f} prompts: with fewer than {threshold:.0f} its"
        " interval is wide",
    ),
    "share_unique": _below(
        0.5,
        "only {value:.0%} of the sampled responses are different ones: the policy gives many"
        " prompts the same response",
    ),
    "ties": _above(
        0.5,
        "{value:.0%} of the pairs are ties, which have no part in the loss: the two responses are"
        " the same, or nothing says which is better",
    ),
    "proxy_above_golden": _above(
        0.2,
        "the proxy model's win rate is {value:.2f} above the golden model's: the policy"
        " over-optimises the proxy model",
    ),
}


def check_limits(run: RunDirectory, values: Mapping[str, Any], step: int | None = None) -> None:
    """Warns of the values that are beyond their limits, of each kind once in a run.

    A run that was stopped or killed and goes on warns of what its first part hadn't.

    Args:
        values: by name; those without a limit, and None, are passed over.
        step: of training, at which they were measured; None where there is none.
    """
    if not is_first():
        return
    missed = {
        kind: float(values[kind])
        for kind, limit in LIMITS.items()
        if values.get(kind) is not None and limit.is_missed(float(values[kind]))
    }
    if not missed:
        return
    warnings = read_warnings(run.path)
    known = {warning["kind"] for warning in warnings}
    new = [_warning(kind, value, step) for kind, value in missed.items() if kind not in known]
    if new:
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in [*warnings, *new])
        write_atomically(run.path / WARNINGS_FILE, text.encode())
    for warning in new:
        print(told(run.job, warning), flush=True)


def _warning(kind: str, value: float, step: int | None) -> dict[str, Any]:
    threshold = LIMITS[kind].threshold
    message = LIMITS[kind].message.format(value=value, threshold=threshold)
    return {
        "kind": kind,
        "message": message,
        "value": value,
        "threshold": threshold,
        "step": step,
    }


def told(who: str, warning: Mapping[str, Any]) -> str:
    """A warning of a run as the console shows it."""
    at = "" if warning["step"] is None else f" (step {warning['step']})"
    return f"{who}: warning: {warning['message']}{at}"


def read_warnings(folder: str | Path | epath.Path) -> list[dict[str, Any]]:
    """The warnings of the run in a folder, oldest first."""
    names = ("kind", "message", "value", "step")
    return read_json_lines(epath.Path(folder) / WARNINGS_FILE, *names)
