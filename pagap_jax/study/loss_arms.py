"""Arms of several losses, told apart by name where rows are read together."""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from pagap_jax.study.rows import Rows

_USUAL = "ipo, sum"
_NO_ARMS = ("cross_entropy",)  # of SFT, where every arm starts


def losses_as_arms(rows: Rows) -> Rows:
    """Names arms of another loss 'online, dpo', as the experiment `loss` does, and so apart.

    Runs of an arm are pooled, and so are the seeds of several studies. A task's own loss, which
    isn't named, is the paper's (IPO, of summed log-probs) where it has it, else the most frequent.
    """
    own = {task: _own(frame) for task, frame in rows.checkpoints.groupby("task")}

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        columns = zip(frame["arm"], losses(frame), frame["task"], strict=True)
        arms = [_named(arm, loss, own.get(task, loss)) for arm, loss, task in columns]
        return frame.assign(arm=pd.Series(arms, frame.index, dtype=object))

    checkpoints, stream = renamed(rows.checkpoints), renamed(rows.stream)
    return dataclasses.replace(rows, checkpoints=checkpoints, stream=stream)


def losses(frame: pd.DataFrame) -> Sequence[str]:
    """'ipo, sum': loss and reduction of each row, which together are what is minimised."""
    return [f"{loss}, {by}" for loss, by in zip(frame["loss"], frame["reduction"], strict=True)]


def _own(frame: pd.DataFrame) -> str:
    of_arms = frame[~frame["loss"].isin(_NO_ARMS) & ~frame["arm"].str.contains(", ")]
    found = pd.Series(losses(of_arms), dtype=object).value_counts()
    if _USUAL in found or found.empty:
        return _USUAL
    return sorted(found[found == found.max()].index)[0]


def _named(arm: str, loss: str, own: str) -> str:
    name, reduction = loss.split(", ")
    if loss == own or name in (*_NO_ARMS, *arm.split(", ")[1:]):
        return arm
    return ", ".join([arm, name, *[reduction] * (reduction != own.split(", ")[1])])
