"""Progress bars with the time left, on stderr and only where somebody looks at it."""

import sys
from collections.abc import Iterable, Iterator
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
T = TypeVar("T")


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
        disable=not (sys.stderr.isatty() and is_first()),
    )
