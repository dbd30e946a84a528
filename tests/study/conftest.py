"""Made-up rows for the tests of the study."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from pagap_jax.study.results import COLUMNS

from pagap_jax.evaluation.intervals import wilson_interval
from pagap_jax.records import EvalRow, row_to_dict

Row = Callable[..., EvalRow]


def _row(**changes) -> EvalRow:
    """A row of 1,000 prompts a half; `select` and `report` set the halves' rates."""
    select, report = changes.pop("select", 0.25), changes.pop("report", 0.25)
    low, high = wilson_interval(1000 * (select + report), 2000)
    report_low, report_high = wilson_interval(1000 * report, 1000)
    fields = dict(
        study="tiny", run="run", method="online", loss="ipo", reduction="sum", beta=0.1,
        learning_rate=3e-4, train_steps=800, step=100, seed=0, checkpoint="run/100",
        fingerprint="f0", kl=1.0, kl_se=0.1, kl_prompts=256, win_rate=(select + report) / 2,
        win_rate_low=low, win_rate_high=high, win_rate_prompts=2000, win_rate_select=select,
        win_rate_select_prompts=1000, win_rate_report=report,
        win_rate_report_low=report_low, win_rate_report_high=report_high,
        win_rate_report_prompts=1000, win_rate_ties=0, proxy_win_rate=0.4, accuracy=0.75,
        accuracy_low=0.7, accuracy_high=0.8, accuracy_pairs=256, self_accuracy=0.5,
        self_accuracy_pairs=256, chosen_log_prob_shift=-1.0, rejected_log_prob_shift=-2.0,
        response_length=12.5, share_finished=0.99, share_unique=0.9,
    )  # fmt: skip
    return EvalRow(**(fields | changes))


@pytest.fixture
def make_row() -> Row:
    """Builds an `EvalRow` that differs from the usual one in the named fields."""
    return _row


@pytest.fixture
def make_frame() -> Callable[..., pd.DataFrame]:
    """Builds a frame from dicts of fields that differ from the usual row's."""

    def frame(*changes: dict) -> pd.DataFrame:
        rows = [row_to_dict(_row(**change)) for change in changes]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)

    return frame


@pytest.fixture(scope="session")
def study_frame() -> pd.DataFrame:
    """Rows shaped like those of the built-in study: online rises to 0.45, offline to 0.3, by KL."""
    rng = np.random.default_rng(7)
    runs = [("online", beta, rate) for beta in (0.03, 0.1) for rate in (3e-4, 1e-3)]
    runs += [
        ("offline", beta, rate) for beta in (0.01, 0.03, 0.1, 0.5, 1) for rate in (1e-4, 3e-4, 1e-3)
    ]
    rows = []
    for seed in range(3):
        sft = dict(method="sft", run="sft", loss="sft", beta=0.0, kl=0.0, accuracy=float("nan"))
        rows.append(_row(**sft, seed=seed, select=0.036, report=0.04))
        rows.append(_row(method="golden", run="golden", seed=seed, kl=4.3, select=0.51, report=0.5))
        for method, beta, rate in runs:
            for step in (0, 25, 50, 100, 200, 400, 800):
                rows.append(_study_row(rng, method, beta, rate, step, seed))
    return pd.DataFrame([row_to_dict(row) for row in rows], columns=list(COLUMNS)).astype(COLUMNS)


def _study_row(
    rng: np.random.Generator, method: str, beta: float, rate: float, step: int, seed: int
) -> EvalRow:
    reach = (1.5 if method == "online" else 0.6) * (0.1 / beta) ** 0.75 * (rate / 3e-4) ** 0.4
    kl = float(reach * 3.2 * (1 - np.exp(-step / 180)) * np.exp(rng.normal(0, 0.08)))
    top = 0.52 if method == "online" else 0.3
    slope = 5.0 if method == "online" else 2.5
    fall = max(0.0, kl - 12) * 0.012
    level = 0.036 + (top - 0.036) * (1 - np.exp(-kl / slope)) - fall
    rates = level + rng.normal(0, 0.016, 2) * (kl > 0)
    select, report = (float(value) for value in np.clip(rates, 0.01, 0.9))
    shift = -(kl**1.35) * (0.9 if method == "online" else 0.6)
    return _row(
        method=method, run=f"{method}_lr{rate:g}_beta{beta:g}", beta=float(beta),
        learning_rate=rate, step=step, seed=seed, kl=kl, kl_se=kl / 16, select=select,
        report=report, train_steps=800,
        accuracy=0.86 - 0.02 * kl if method == "online" else 0.92 - 0.02 * kl,
        chosen_log_prob_shift=shift, rejected_log_prob_shift=1.6 * shift,
        response_length=float(12.8 - 0.5 * kl), share_unique=float(max(0.3, 1 - 0.02 * kl)),
    )  # fmt: skip
