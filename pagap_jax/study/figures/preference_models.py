"""Validation of the preference models while they trained (App. A.3)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pagap_jax.study import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


def draw_validation(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """Accuracy and loss over steps, a line a model.

    Args:
        curves: rows with step, accuracy, accuracy_low, accuracy_high, loss and best, by model.
    """
    with drawing.style():
        figure = drawing.new_figure(9.0, 3.6)
        left, right = figure.subplots(1, 2)
        for i, (name, rows) in enumerate(sorted(curves.items())):
            colour = _COLOURS[i % len(_COLOURS)]
            columns = ("step", "accuracy", "accuracy_low", "accuracy_high", "loss")
            step, accuracy, low, high, loss = (np.array([row[k] for row in rows]) for k in columns)
            left.fill_between(step, low, high, color=colour, alpha=0.15, linewidth=0)
            left.plot(step, accuracy, color=colour, label=name, linewidth=1.3)
            right.plot(step, loss, color=colour, linewidth=1.3)
            best = np.array([bool(row["best"]) for row in rows])
            for axes, values in ((left, accuracy), (right, loss)):
                axes.plot(step[best], values[best], "o", color=colour, markersize=5)
        for axes, label in ((left, "accuracy"), (right, "loss, nats a pair")):
            axes.set_xlabel("step")
            axes.set_ylabel(label)
        figure.legend(loc="outside upper center", ncols=4)
    return figure
