"""How far something is and the time left: a bar where somebody looks, lines for a log."""

import datetime
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pagap_jax.processes import is_first

_SHOW_EVERY = 256  # things between two updates
SAY_EVERY = 30.0  # seconds between two lines of a log at least
SPEED_OVER = 600.0  # seconds of which the time left is estimated; a row may take a minute
# What is shown of a training job's metrics, where it has them.
SHOWN = {
    "loss": "loss {:.4f}",
    "margin": "margin {:.2f}",
    "accuracy": "accuracy {:.2f}",
    "chosen_probability": "judge {:.2f}",
    "kl": "KL {:.2f}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "pairs_per_second": "{:,.1f} pairs/s",
}
T = TypeVar("T")


class TrainingProgress:
    """Shows each row of metrics: on a bar where stderr is a terminal, otherwise as lines on stdout.

    The first row and the last have their line, and between them one each `SAY_EVERY` seconds.
    """

    def __init__(self, job: str, step: int, train_steps: int):
        """Shows nothing yet; `step` is what the run starts from."""
        self._job = job
        self._train_steps = train_steps
        self._bar = progress_bar()
        self._task = self._bar.add_task(job, total=train_steps, completed=step, note="")
        self._said: float | None = None

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, step: int, row: Mapping[str, float]) -> None:
        """Shows the row of metrics that ends with a step."""
        known = {name: row[name] for name in SHOWN if math.isfinite(row.get(name, math.nan))}
        told = [SHOWN[name].format(value) for name, value in known.items()]
        self._bar.update(self._task, completed=step, note=", ".join(told))
        if not self._bar.disable or not is_first():
            return
        now = self._bar.get_time()
        recent = self._said is not None and now - self._said < SAY_EVERY
        if recent and step < self._train_steps:
            return
        self._said = now
        left = self._bar.tasks[0].time_remaining
        if left and step < self._train_steps:
            told.append(f"{datetime.timedelta(seconds=left)} left")
        print(f"{self._job}: step {step} of {self._train_steps}: {', '.join(told)}", flush=True)


def with_progress(things: Iterable[T], description: str) -> Iterator[T]:
    """The same things, with a bar that counts them; of how many isn't known."""
    with progress_bar() as progress:
        bar = progress.add_task(description, total=None, note="")
        for number, thing in enumerate(things):
            if number % _SHOW_EVERY == 0:
                progress.update(bar, completed=number)
            yield thing


def progress_bar() -> Progress:
    """A bar with count, time gone, time left and a `note`; silent where stderr isn't a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        speed_estimate_period=SPEED_OVER,
        disable=not (sys.stderr.isatty() and is_first()),
    )
