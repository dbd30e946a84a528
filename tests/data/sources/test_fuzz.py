"""300 damaged samples: each is read and counted, or refused by file and line, and never a fault."""

import functools
import gzip
import json
import random

import pytest

from pagap_jax.data.sources.reader import divide, read_source
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.errors import DataError
from tests.data.sources.conftest import FORMATS

HH_SAMPLE = FORMATS.parent / "hh_sample.jsonl"
SAMPLES = {
    "hh_transcripts": [HH_SAMPLE],
    "summarize_from_feedback": [FORMATS / "tldr_real.jsonl", FORMATS / "tldr_edge_cases.jsonl"],
    "chatbot_arena": [
        FORMATS / name for name in ("arena_33k.jsonl", "arena_55k.csv", "arena_140k.jsonl")
    ],
    "preferences": [
        FORMATS / name
        for name in (
            "instruction.json",
            "messages_with_parts.jsonl",
            "sharegpt.json",
            "ultrafeedback_columns.jsonl",
        )
    ],
}
CASES = [(source, path) for source, paths in SAMPLES.items() for path in paths]
OTHER_VALUES = (
    None,
    True,
    -1,
    1e400,
    "",
    " ",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"role": 1},
    "x" * 99,
)


def cut(content, rng):
    return content[: rng.randrange(len(content))]


def changed_bytes(content, rng):
    changed = bytearray(content)
    for _ in range(rng.choice((1, 5, 50))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def changed_value(content, rng):
    """A field, or something inside one, of another type, gone, or 10,000 levels deep."""
    try:
        rows = json.loads(content)
    except ValueError:
        try:
            rows = [json.loads(line) for line in content.splitlines()]
        except ValueError:  # CSV: a cell moves
            return content.replace(b'"', b"", rng.choice((1, 3)))
    value = rows
    for _ in range(rng.choice((2, 2, 3, 5, 8))):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            break
        key = rng.choice(keys)
        if not isinstance(value[key], dict | list):
            break
        inside, value = value, value[key]
    else:
        value = inside
        key = next(k for k in keys if value[k] is not None)
    if rng.random() < 0.3:
        del value[key]
    else:
        value[key] = rng.choice(OTHER_VALUES)
    as_array = json.dumps(rows).encode()
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    lines = rng.choice((as_array, lines))
    deep = b"[" * 10_000 + b"]" * 10_000
    return lines.replace(b'"' + b"x" * 99 + b'"', deep)


def packed_and_cut(content, rng):
    return cut(gzip.compress(content), rng)


def nested(content, rng):
    return rng.choice((b"[", b'{"a":', b'{"prompt":[')) * 10_000 + content


MUTATIONS = (cut, changed_bytes, changed_value, changed_value, packed_and_cut, nested)


@pytest.mark.parametrize("number", range(300))
def test_a_damaged_file(tmp_path, number):
    rng = random.Random(number)
    source, sample = rng.choice(CASES)
    mutate = MUTATIONS[number % len(MUTATIONS)]
    path = tmp_path / f"{sample.name}{'.gz' if mutate is packed_and_cut else ''}"
    path.write_bytes(mutate(sample.read_bytes(), rng))
    for allowed in (0, 10**9):
        read = functools.partial(read_source, SOURCES[source](), path, allowed)
        try:
            found = read(lambda prompt: len(prompt) < 500)
        except DataError as error:
            assert str(path) in str(error)
        else:
            report = found.report
            assert report.read == len(found.pairs) + report.dropped.total()
            assert (
                sum(map(len, divide(found, 0.3).values())) + report.dropped.total() == report.read
            )
            for pair in found.pairs:
                (pair.prompt + pair.response_a + pair.response_b).encode()
