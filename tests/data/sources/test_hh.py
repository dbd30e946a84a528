"""Anthropic's folders and transcripts; test_reader.py has the real sample."""

import gzip
import json

import pytest

from pagap_jax.data.sources import reader
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.data.sources.rows import DIVERGES_EARLY, WINDOWS_LINE_ENDS
from pagap_jax.errors import DataError
from tests.data.sources.conftest import sides

PARTS = ("helpful-base", "helpful-rejection-sampled", "helpful-online", "harmless-base")


def transcript(question, answer):
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


def row(question):
    return {"chosen": transcript(question, "yes"), "rejected": transcript(question, "no")}


@pytest.fixture
def hh_rlhf(tmp_path):
    """The folder as published, a pair in each file that says where it is."""
    for part in PARTS:
        (tmp_path / part).mkdir()
        for split in ("train", "test"):
            with gzip.open(tmp_path / part / f"{split}.jsonl.gz", "wt") as file:
                file.write(json.dumps(row(f"{part} {split}")) + "\n")
    return tmp_path


def questions(found, split):
    return [
        p.prompt.splitlines()[0].removeprefix("Human: ") for p in found.pairs if p.split == split
    ]


def test_helpful_pools_its_parts(hh_rlhf):
    found = reader.read_source(SOURCES["hh_helpful"](), hh_rlhf)
    assert questions(found, "train") == [f"{part} train" for part in PARTS[:3]]
    assert questions(found, "validation") == [f"{part} test" for part in PARTS[:3]]
    some = reader.read_source(SOURCES["hh_helpful"](parts=("helpful-base",)), hh_rlhf)
    assert questions(some, "train") == ["helpful-base train"]
    harmless = reader.read_source(SOURCES["hh_harmless"](), hh_rlhf)
    assert questions(harmless, "validation") == ["harmless-base test"]
    assert reader.read_source(SOURCES["hh_harmless"](), hh_rlhf / "harmless-base") == harmless


def test_a_part_that_is_not_there_is_named(hh_rlhf):
    (hh_rlhf / "helpful-online" / "test.jsonl.gz").unlink()
    with pytest.raises(DataError, match="helpful-online: found no test.jsonl.gz"):
        reader.read_source(SOURCES["hh_helpful"](), hh_rlhf)


def test_red_team_attempts_are_refused(hh_rlhf, read):
    folder = hh_rlhf / "red-team-attempts"
    folder.mkdir()
    with pytest.raises(DataError, match="red-team-attempts: found .*not to be trained on"):
        reader.read_source(SOURCES["hh_harmless"](), folder)
    with pytest.raises(DataError, match=":1: found red-team-attempts"):
        read("hh_transcripts", [{"transcript": "\n\nHuman: a", "rating": 1}])


def test_line_ends_of_windows(read):
    rows = [{name: text.replace("\n", "\r\n") for name, text in row("q").items()}]
    found = read("hh_transcripts", rows)
    assert sides(found) == [("Human: q\n\nAssistant:", "yes", "no")]
    assert found.report.noted == {WINDOWS_LINE_ENDS: 1}


def test_pairs_that_part_early_are_kept_or_left_out(read):
    more = transcript("q", "yes") + transcript("more", "end")
    rows = [row("a"), {"chosen": more, "rejected": transcript("q", "no")}]
    found = read("hh_transcripts", rows)
    assert sides(found)[1][1] == "yes\n\nHuman: more\n\nAssistant: end"
    assert found.report.noted == {DIVERGES_EARLY: 1}
    thanked = transcript("q", "yes") + "\n\nHuman: thanks"
    found = read(
        "hh_transcripts", [rows[0], {"chosen": thanked, "rejected": transcript("q", "no")}]
    )
    assert found.report.noted == {DIVERGES_EARLY: 1}
    found = read("hh_transcripts", rows, keep_diverging=False)
    assert (len(found.pairs), found.report.dropped) == (1, {DIVERGES_EARLY: 1})
