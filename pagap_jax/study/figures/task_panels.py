"""A row of panels, one a task, with one legend: the frame of figures that aren't over KL."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pagap_jax.study import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_task_panels(
    tasks: Sequence[str], x_label: str, y_label: str, draw: Callable[["Axes", str], None]
) -> "Figure":
    """The figure; `draw` fills the axes of a task."""
    with drawing.style():
        figure = drawing.new_figure(1.4 + 4.4 * len(tasks), 4.0)
        grid = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axes, task in zip(grid, tasks, strict=True):
            draw(axes, task)
            axes.set_xlabel(x_label)
            if len(tasks) > 1:
                axes.set_title(task)
        grid[0].set_ylabel(y_label)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure
