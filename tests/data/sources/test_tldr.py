"""OpenAI's summarization comparisons, and Google's re-export of them."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from pagap_jax.data.sources import reader, tldr
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.data.sources.rows import NULL
from pagap_jax.errors import DataError
from tests.data.sources.conftest import FORMATS

TLDR = "summarize_from_feedback"


def row(post="The post.", split="train", **changes):
    info = {"id": "t3_x", "post": post, "title": "A title", "subreddit": "tifu"}
    summaries = [{"text": " First.", "policy": "p"}, {"text": " Second.", "policy": "q"}]
    return {"info": info, "summaries": summaries, "choice": 1, "split": split} | changes


def test_a_post_becomes_a_prompt(read):
    (pair,) = read(TLDR, [row()]).pairs
    assert pair.prompt == "SUBREDDIT: r/tifu\n\nTITLE: A title\n\nPOST: The post.\n\nTL;DR:"
    assert (pair.response_a, pair.response_b, pair.choice) == ("First.", "Second.", 1)


def test_the_real_rows(read):
    found = read(TLDR, "tldr_real.jsonl")
    assert (found.report.read, len(found.pairs), found.report.dropped) == (3, 3, {})
    raw = [json.loads(line) for line in (FORMATS / "tldr_real.jsonl").read_text().splitlines()]
    for pair, fields in zip(found.pairs, raw, strict=True):
        assert fields["info"]["post"].strip() in pair.prompt
        assert pair.prompt.endswith("\n\nTL;DR:")
        assert pair.response_a == fields["summaries"][0]["text"].strip()
        assert pair.choice == fields["choice"]


def test_edge_cases_are_counted(read):
    found = read(TLDR, "tldr_edge_cases.jsonl")
    assert (found.report.read, len(found.pairs)) == (9, 8)
    assert found.report.dropped == {tldr.NEWS: 1}
    assert "TITLE: \n\n" in found.pairs[4].prompt  # null
    divided = reader.divide(found, validation_share=0.5)
    assert [len(divided[split]) for split in ("train", "validation")] == [6, 2]


def test_splits_are_the_data_s_own(read):
    rows = [row(f"post {i}", split) for i, split in enumerate(["train", "valid1", "valid2", "x"])]
    found = read(TLDR, rows)
    assert [pair.split for pair in found.pairs] == ["train", "validation", "validation"]
    assert found.report.dropped == {f"{tldr.OTHER_SPLIT}: 'x'": 1}
    found = read(TLDR, rows, validation_splits=("valid1",))
    assert found.report.dropped == {
        f"{tldr.OTHER_SPLIT}: {split!r}": 1 for split in ("valid2", "x")
    }


def test_a_prompt_of_validation_is_not_in_train(read):
    found = read(TLDR, [row("a"), row("b"), row("A ", "valid1"), row("c", "valid1")])
    divided = reader.divide(found, validation_share=0.5)
    assert [pair.prompt.split("\n\n")[2] for pair in divided["validation"]] == ["POST: c"]
    assert found.report.dropped == {reader.IN_TRAIN: 1}


def test_train_alone_is_split_by_prompt(read):
    found = read(TLDR, [row(f"post {i}") for i in range(40)])
    divided = reader.divide(found, validation_share=0.25)
    assert found.report.noted == {reader.SPLIT_OFF: len(divided["validation"])}
    assert 0 < len(divided["validation"]) < 30


@pytest.mark.parametrize(
    ("post", "kept"),
    [
        ("one line\nsecond line\nthird line", "one line\nsecond line"),  # at a line break
        ("many words in a single line and more", "many words in a single line"),  # at a blank
        ("many words in a single lines", "many words in a single"),
        ("first line of several words\nand more", "first line of several words"),
        ("x" * 60, "x" * 27),  # anywhere
    ],
)
def test_a_post_too_long_loses_its_end(read, post, kept):
    limit = len("SUBREDDIT: r/tifu\n\nTITLE: A title\n\nPOST: \n\nTL;DR:") + 27
    found = read(TLDR, [row(post), row("short")], fits=lambda prompt: len(prompt) <= limit)
    assert found.pairs[0].prompt.partition("POST: ")[2] == f"{kept}\n\nTL;DR:"
    assert found.report.noted == {tldr.POST_CUT: 1}


def test_the_hub_s_parquet_reads_alike(tmp_path, read):
    rows = [row("a"), row("b", "valid1"), row(None, info=row()["info"] | {"post": None})]
    path = tmp_path / "train-0.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = reader.read_source(SOURCES[TLDR](), path)
    assert found.pairs == read(TLDR, rows).pairs and found.report.dropped == {NULL: 1}


def test_a_folder_as_published(tmp_path):
    folder = tmp_path / "openai" / "comparisons"
    folder.mkdir(parents=True)
    for name in ("batch3.json", "batch10.json"):
        (folder / name).write_text(json.dumps(row(name)) + "\n")
    found = reader.read_source(SOURCES[TLDR](), tmp_path / "openai")
    assert found.report.files == ["comparisons/batch10.json", "comparisons/batch3.json"]


def test_google_s_re_export(read):
    sides = {"candidate_0": " a", "candidate_1": " b"}
    found = read(TLDR, [{"input_text": "post\n[summary]: ", **sides, "choice": 1}])
    (pair,) = found.pairs
    assert (pair.prompt, pair.response_a, pair.choice) == ("post\n[summary]:", "a", 1)
    long = {"input_text": f"{' '.join(['word'] * 20)}\n[summary]: ", **sides, "choice": 1}
    found = read(TLDR, [long], fits=lambda prompt: len(prompt) <= 31)
    assert found.pairs[0].prompt == "word word word word\n[summary]:"
    assert found.report.noted == {tldr.POST_CUT: 1}
    with pytest.raises(DataError, match=":1: found prompts without summaries"):
        read(TLDR, [{"input_text": "post\n[summary]: "}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"summaries": [{"text": "a"}]}, "'summaries': found .*, expected two"),
        ({"summaries": [{"text": "a"}, {"note": ""}]}, r"'summaries'\[1\]: found .*'text'"),
        ({"summaries": [{"text": "a"}, {"text": 1}]}, r"'summaries'\[1\]: found 1, expected a t"),
        ({"choice": 2}, "'choice': found 2, expected 0 or 1"),
        ({"info": "x"}, "'info': found 'x', expected an object"),
    ],
)
def test_other_rows_are_refused(read, changes, message):
    with pytest.raises(DataError, match=message):
        read(TLDR, [row(**changes)])


def test_axis_evaluations_are_refused_in_words(read):
    with pytest.raises(DataError, match=r"axis.jsonl:1: found evaluations of single summaries"):
        read(TLDR, "tldr_axis.jsonl", max_bad_examples=9)
