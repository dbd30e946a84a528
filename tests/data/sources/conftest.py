"""Rows in memory read as a source's, and the samples of published formats."""

import json
import pathlib

import pytest

from pagap_jax.data.sources.reader import SourcePairs, read_source
from pagap_jax.data.sources.registry import SOURCES

FORMATS = pathlib.Path(__file__).parents[1] / "files" / "formats"


@pytest.fixture
def read(tmp_path):
    """Reads rows, or a sample by its name, as a source; `fits` and gin's settings as they are."""

    def reading(source, rows, *, fits=lambda prompt: True, max_bad_examples=0, **settings):
        path = tmp_path / "rows.jsonl"
        if isinstance(rows, str):
            path = FORMATS / rows
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_source(SOURCES[source](**settings), path, max_bad_examples, fits)

    return reading


def sides(found: SourcePairs) -> list[tuple[str, str, str]]:
    """Prompt, chosen and rejected of each pair."""
    return [
        (pair.prompt, *(pair.response_a, pair.response_b)[:: 1 if pair.choice == 0 else -1])
        for pair in found.pairs
    ]
