"""Made-up rows for the tests of the study, with outcomes that agree with them."""

import zlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pagap_jax.intervals import wilson_interval
from pagap_jax.records import CheckpointRow, StreamRow
from pagap_jax.study.outcomes import Outcome
from pagap_jax.study.rows import Rows, frame_of

HALF = 1000  # prompts a half


def _row(**changes) -> CheckpointRow:
    """A row of 1,000 prompts a half; `select` and `report` set the halves' rates."""
    select, report = changes.pop("select", 0.25), changes.pop("report", 0.25)
    low, high = wilson_interval(HALF * (select + report), 2 * HALF)
    report_low, report_high = wilson_interval(HALF * report, HALF)
    fields = dict(
        study="tiny", task="tickets", run="run", arm="online", policy_size="tiny",
        policy_parameters=206720, pairs="policy", data_order="shuffled", loss="ipo",
        reduction="sum", beta=0.1, learning_rate=3e-4, train_steps=800, step=100, seed=0,
        checkpoint="run/100", fingerprint="f0", kl=1.0, kl_se=0.1, kl_prompts=256,
        win_rate=(select + report) / 2, win_rate_low=low, win_rate_high=high,
        win_rate_prompts=2 * HALF, win_rate_select=select, win_rate_select_prompts=HALF,
        win_rate_report=report, win_rate_report_low=report_low, win_rate_report_high=report_high,
        win_rate_report_prompts=HALF, win_rate_ties=0, proxy_win_rate=0.4, proxy_win_rate_low=0.38,
        proxy_win_rate_high=0.42, accuracy=0.75, accuracy_low=0.7, accuracy_high=0.8,
        accuracy_pairs=256, self_accuracy=0.5, self_accuracy_low=0.44, self_accuracy_high=0.56,
        self_accuracy_pairs=256, chosen_log_prob_shift=-1.0, chosen_log_prob_shift_se=0.1,
        rejected_log_prob_shift=-2.0, rejected_log_prob_shift_se=0.1, log_prob_shift_pairs=256,
        samples=2 * HALF, response_length=12.5, response_length_se=0.1, share_finished=0.99,
        share_finished_low=0.98, share_finished_high=1.0, share_unique=0.9,
    )  # fmt: skip
    return CheckpointRow(**(fields | changes))


def outcome_of(row: CheckpointRow) -> Outcome:
    """Outcomes whose rates on both halves are the row's; a checkpoint's own prompts are drawn."""
    select = np.arange(2 * HALF) % 2 == 0
    point = f"{row.study} {row.seed} {row.run} {row.step}"
    order = np.random.default_rng(zlib.crc32(point.encode())).permutation(HALF)
    win = np.zeros(2 * HALF)
    for half, rate in ((select, row.win_rate_select), (~select, row.win_rate_report)):
        wins = np.zeros(HALF)
        wins[order[: round(HALF * np.nan_to_num(rate))]] = 1
        win[half] = wins
    return Outcome(win, np.arange(2 * HALF), select)


def rows_of(rows: list[CheckpointRow]) -> Rows:
    """What `collect_rows` makes of rows."""
    outcomes = {(r.study, r.seed, r.run, r.step): outcome_of(r) for r in rows}
    return Rows(frame_of(CheckpointRow, rows), frame_of(StreamRow, []), outcomes)


@pytest.fixture
def make_row() -> Callable[..., CheckpointRow]:
    """Builds a row that differs from the usual one in the named fields."""
    return _row


@pytest.fixture
def make_rows() -> Callable[..., Rows]:
    """Builds rows from dicts of fields that differ from the usual row's.

    Where no step is given they count up, so that each is a checkpoint of its own.
    """

    def rows(*changes: dict) -> Rows:
        return rows_of([_row(**{"step": i + 1, **change}) for i, change in enumerate(changes)])

    return rows


@pytest.fixture
def make_frame(make_rows) -> Callable[..., pd.DataFrame]:
    """The frame of `make_rows`."""
    return lambda *changes: make_rows(*changes).checkpoints


@pytest.fixture(scope="session")
def study_frame(study_rows) -> pd.DataFrame:
    """The frame of `study_rows`."""
    return study_rows.checkpoints


@pytest.fixture(scope="session")
def study_rows() -> Rows:
    """Rows shaped like those of the built-in study: online rises to 0.45, offline to 0.3, by KL."""
    rng = np.random.default_rng(7)
    runs = [("online", beta, rate) for beta in (0.03, 0.1) for rate in (3e-4, 1e-3)]
    runs += [
        ("offline", beta, rate) for beta in (0.01, 0.03, 0.1, 0.5, 1) for rate in (1e-4, 3e-4, 1e-3)
    ]
    rows = []
    for seed in range(3):
        sft = dict(
            arm="sft", run="sft", loss="cross_entropy", beta=0.0, kl=0.0, accuracy=float("nan")
        )
        rows.append(_row(**sft, seed=seed, select=0.036, report=0.04))
        rows.append(_row(arm="golden", run="golden", seed=seed, kl=4.3, select=0.51, report=0.5))
        for arm, beta, rate in runs:
            for step in (0, 25, 50, 100, 200, 400, 800):
                rows.append(_study_row(rng, arm, beta, rate, step, seed))
    return rows_of(rows)


def _study_row(
    rng: np.random.Generator, arm: str, beta: float, rate: float, step: int, seed: int
) -> CheckpointRow:
    reach = (1.5 if arm == "online" else 0.6) * (0.1 / beta) ** 0.75 * (rate / 3e-4) ** 0.4
    kl = float(reach * 3.2 * (1 - np.exp(-step / 180)) * np.exp(rng.normal(0, 0.08)))
    top = 0.52 if arm == "online" else 0.3
    slope = 5.0 if arm == "online" else 2.5
    fall = max(0.0, kl - 12) * 0.012
    level = 0.036 + (top - 0.036) * (1 - np.exp(-kl / slope)) - fall
    rates = level + rng.normal(0, 0.016, 2) * (kl > 0)
    select, report = (float(value) for value in np.clip(rates, 0.01, 0.9))
    shift = -(kl**1.35) * (0.9 if arm == "online" else 0.6)
    return _row(
        arm=arm, run=f"{arm}_lr{rate:g}_beta{beta:g}", beta=float(beta),
        learning_rate=rate, step=step, seed=seed, kl=kl, kl_se=kl / 16, select=select,
        report=report, train_steps=800,
        accuracy=0.86 - 0.02 * kl if arm == "online" else 0.92 - 0.02 * kl,
        chosen_log_prob_shift=shift, rejected_log_prob_shift=1.6 * shift,
        response_length=float(12.8 - 0.5 * kl), share_unique=float(max(0.3, 1 - 0.02 * kl)),
    )  # fmt: skip
