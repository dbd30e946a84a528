"""What a figure of the report is."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from pagap_jax.study.rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class StudyFigure:
    """A picture drawn from rows.

    Attributes:
        name: of its files.
        title: a few words.
        corresponds_to: 'Fig. 1', '' where the paper has no such figure.
        caption: what is shown and how to read it; the report adds whose rows they are.
        can_draw: whether these rows have what it shows.
        draw: the picture, and nothing else: the same rows give the same picture.
    """

    name: str
    title: str
    corresponds_to: str
    caption: str
    can_draw: Callable[[Rows], bool]
    draw: Callable[[Rows], "Figure"]


def has_arm(*arms: str) -> Callable[[Rows], bool]:
    """Rows that hold at least one of the arms."""
    return lambda rows: bool(rows.checkpoints["arm"].isin(arms).any())


def has_baseline(*arms: str) -> Callable[[Rows], bool]:
    """Rows that hold the first setting of at least one of the arms."""
    return lambda rows: not rows.baseline(arms).empty
