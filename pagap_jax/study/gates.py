"""Bars that stages must clear before what comes after makes sense."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from pagap_jax.errors import ConfigError, GateError
from pagap_jax.files import read_json_lines
from pagap_jax.ranges import Finite
from pagap_jax.run_directory import read_result
from pagap_jax.study.context import Gate

Bars = Mapping[str, tuple[Finite | None, Finite | None]]  # lowest and highest allowed value


def _result(stage: str, field: str) -> Callable[[Path], float]:
    return lambda folder: _number(read_result(folder / stage), field)


def _row(stage: str, field: str) -> Callable[[Path], float]:
    def measure(folder: Path) -> float:
        rows = read_json_lines(folder / stage / "rows.jsonl")
        return _number(rows[-1] if rows else None, field)

    return measure


def _number(values: Mapping | None, field: str) -> float:
    value = (values or {}).get(field)
    return math.nan if value is None else float(value)


# name of the bar -> what it says, the stage that decides it, and how it is read
MEASURES: dict[str, tuple[str, str, Callable[[Path], float]]] = {
    "golden_accuracy": (
        "golden model against the hidden truth",
        "golden",
        _result("golden", "validation_accuracy_true"),
    ),
    "proxy_accuracy": (
        "proxy model against golden labels",
        "proxy",
        _result("proxy", "validation_accuracy"),
    ),
    "golden_above_chance": (
        "golden model on validation pairs, lower end of 95 %",
        "golden",
        _result("golden", "validation_accuracy_low"),
    ),
    "proxy_above_chance": (
        "proxy model on validation pairs, lower end of 95 %",
        "proxy",
        _result("proxy", "validation_accuracy_low"),
    ),
    "golden_self_win_rate": (
        "golden policy against itself",
        "golden_responses",
        _result("golden_responses", "win_rate_a"),
    ),
    "sft_win_rate": (
        "π_sft against the golden policy",
        "rows/sft",
        _row("rows/sft", "win_rate"),
    ),
    "sft_kl": ("KL of π_sft from itself", "rows/sft", _row("rows/sft", "kl")),
}


def check_gates(study_dir: Path, seed: int, stage: str, bars: Bars) -> list[Gate]:
    """The gates that a finished stage decides, measured.

    Args:
        stage: its full name, 'seed_0/golden'.

    Raises:
        ConfigError: a bar of a name that nothing measures.
        GateError: a bar was missed.
    """
    unknown = sorted(set(bars) - set(MEASURES))
    if unknown:
        raise ConfigError(f"study.bars: found {unknown}, expected among {sorted(MEASURES)}")
    gates = []
    for name, (low, high) in bars.items():
        text, decided_by, measure = MEASURES[name]
        if stage != f"seed_{seed}/{decided_by}":
            continue
        value = measure(study_dir / f"seed_{seed}")
        gate = Gate(f"{text} (seed {seed})", value, describe(low, high), inside(value, low, high))
        if not gate.passed:
            raise GateError(
                f"{gate.name}: measured {value:.4f}, needs {gate.bar}. What comes after {stage}"
                " would be noise: train that stage longer, on more data or at another rate"
            )
        gates.append(gate)
    return gates


def inside(value: float, low: float | None, high: float | None) -> bool:
    """Whether a value clears a bar; nothing measured (NaN) never does."""
    return (low is None or value >= low) and (high is None or value <= high) and value == value


def describe(low: float | None, high: float | None) -> str:
    """The bar in words."""
    if low is not None and low == high:
        return f"exactly {low:g}"
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}"
