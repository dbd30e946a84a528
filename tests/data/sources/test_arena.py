"""Chat arena's releases."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from pagap_jax.data.sources import arena, reader
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.data.sources.rows import DIVERGES_EARLY, NULL
from pagap_jax.errors import ConfigError, DataError
from tests.data.sources.conftest import FORMATS

ARENA = "chatbot_arena"


def conversation(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def battle(a=("q", "x"), b=("q", "y"), winner="model_a", **more):
    both = {"conversation_a": conversation(*a), "conversation_b": conversation(*b)}
    return both | {"winner": winner, "language": "English"} | more


def pairs(found):
    return [(pair.prompt, pair.response_a, pair.response_b, pair.choice) for pair in found.pairs]


def test_a_battle_is_a_pair(read):
    found = read(ARENA, [battle(), battle(winner="model_b")])
    prompt = "Human: q\n\nAssistant:"
    assert pairs(found) == [(prompt, "x", "y", 0), (prompt, "x", "y", 1)]


@pytest.mark.parametrize(
    ("sample", "rows", "kept", "dropped"),
    [
        (
            "arena_33k.jsonl",
            5,
            1,
            {arena.TIE: 1, arena.BOTH_BAD: 1, DIVERGES_EARLY: 1, arena.SERVER_ERROR: 1},
        ),
        (
            "arena_55k.csv",
            9,
            4,
            {arena.TIE: 1, NULL: 1, arena.CORRUPT: 1, arena.TWO_WINNERS: 1, DIVERGES_EARLY: 1},
        ),
        ("arena_140k.jsonl", 4, 1, {arena.TIE: 1, arena.BOTH_BAD: 1, DIVERGES_EARLY: 1}),
    ],
)
def test_the_samples_are_counted(read, sample, rows, kept, dropped):
    found = read(ARENA, sample)
    assert (found.report.read, len(found.pairs), found.report.dropped) == (rows, kept, dropped)


def test_parquet_reads_as_json_lines_do(tmp_path, read):
    rows = [json.loads(line) for line in (FORMATS / "arena_140k.jsonl").read_text().splitlines()]
    path = tmp_path / "train-0.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found, same = reader.read_source(SOURCES[ARENA](), path), read(ARENA, "arena_140k.jsonl")
    assert (found.pairs, found.report.dropped) == (same.pairs, same.report.dropped)


def test_ties_may_be_kept_with_weight_0(read):
    rows = [battle(winner=w) for w in ("tie", "tie (bothbad)", "both_bad", "model_b")]
    found = read(ARENA, rows, keep_ties=True)
    assert [pair.choice for pair in found.pairs] == [-1, -1, -1, 1]
    assert found.report.noted == {arena.TIE: 1, arena.BOTH_BAD: 2}


def test_a_tie_that_is_left_out_for_another_reason_is_not_noted(read):
    found = read(ARENA, [battle(("q", None), winner="tie"), battle()], keep_ties=True)
    assert (found.report.dropped, found.report.noted) == ({NULL: 1}, {})


@pytest.mark.parametrize("cells", [("q", "q2"), ("q",)])
def test_lists_of_other_lengths_are_left_out(read, cells):
    row = {"prompt": list(cells), "response_a": ["a"], "response_b": ["b", "c"]}
    flags = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    found = read(ARENA, [row | flags, battle()])
    assert found.report.dropped == {arena.CORRUPT: 1}


def test_a_setting_that_lacks_its_comma():
    with pytest.raises(ConfigError, match="languages: found the text 'English', expected several"):
        SOURCES[ARENA](languages="English")


def test_a_language_may_be_asked_for(read):
    found = read(ARENA, [battle(), battle(language="French")], languages=("English",))
    assert (len(found.pairs), found.report.dropped) == (1, {arena.LANGUAGE: 1})
    without = {k: v for k, v in battle().items() if k != "language"}
    with pytest.raises(DataError, match="field 'language': found fields"):
        read(ARENA, [without], languages=("English",))


def test_turns_that_differ(read):
    early = battle(("q", "x", "more", "x2"), ("q", "y", "more", "y2"))
    shared = battle(("q", "s", "more", "x"), ("q", "s", "more", "y"))
    found = read(ARENA, [early, shared])
    assert pairs(found) == [("Human: q\n\nAssistant: s\n\nHuman: more\n\nAssistant:", "x", "y", 0)]
    assert found.report.dropped == {DIVERGES_EARLY: 1}
    found = read(ARENA, [early], keep_diverging=True)
    prompt = "Human: q\n\nAssistant:"
    first, second = (f"{side}\n\nHuman: more\n\nAssistant: {side}2" for side in "xy")
    assert pairs(found) == [(prompt, first, second, 0)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (battle(winner="neither"), "'winner': found 'neither', expected one of"),
        (battle(("q", "x"), ("other", "y")), "left out: .*without a user's turn in common"),
        (battle(conversation_a="q"), "'conversation_a': found 'q', expected a list of messages"),
        ({"prompt": "p", "winner": "tie"}, "found no pairs in 1 rows"),
        ({"prompt": "p"}, "'winner': found fields"),
        (
            {"winner_model_a": "1", "winner_model_b": "x", "winner_tie": "0"},
            "found \\['1', 'x', '0'\\], expected 0 or 1",
        ),
    ],
)
def test_other_rows_are_refused(read, row, message):
    with pytest.raises(DataError, match=message):
        read(ARENA, [row])
