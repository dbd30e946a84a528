"""Which values fit which annotations."""

import enum
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from pagap_jax.configuration.annotations import fits
from tests.fixtures.toy_job import ToySource


class Colour(enum.Enum):
    """For the test of annotations."""

    RED = 1


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (True, int, False),
        (1.0, int, False),
        ("1", int | None, False),
        (None, int | None, True),
        (None, int, False),
        ((1, 2), tuple[int, ...], True),
        ((1, "a"), tuple[int, ...], False),
        ((1, "a"), tuple[int, str], True),
        ((1,), tuple[int, str], False),
        ([1], tuple[int, ...], False),
        ([0.1, 1], Sequence[float], True),
        ("abc", Sequence[str], False),
        ({"a": [1]}, dict[str, list[int]], True),
        ({"a": [1]}, dict[str, list[str]], False),
        ("sum", Literal["sum", "mean"], True),
        ("avg", Literal["sum", "mean"], False),
        (Colour.RED, Colour, True),
        ("RED", Colour, False),
        (3, Any, True),
        (3, ToySource, False),
        (3, Callable[[int], int], False),
    ],
)
def test_fits(value, annotation, expected):
    assert fits(value, annotation) is expected
