"""Progress bars with the time left, on stderr and only where somebody looks at it."""

import sys

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
