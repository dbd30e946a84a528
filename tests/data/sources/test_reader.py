"""Reading files row by row: what is read, and what is said about what can't be."""

import gzip
import json
import pathlib

import numpy as np
import pytest

from pagap_jax.data.sources import reader
from pagap_jax.data.sources.files import digest, expand
from pagap_jax.data.sources.registry import SOURCES
from pagap_jax.data.sources.rows import BAD_LINE, DIVERGES_EARLY
from pagap_jax.errors import DataError

HH_SAMPLE = pathlib.Path(__file__).parents[1] / "files" / "hh_sample.jsonl"

PAIR = {"prompt": "p", "response_a": "x", "response_b": "y", "choice": 1}


def read(path, source="preferences", max_bad_examples=0):
    return reader.read_source(SOURCES[source](), path, max_bad_examples)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "pairs.jsonl"


def test_reads_pairs_with_a_choice(file):
    rows = [PAIR, {**PAIR, "prompt": " é\n", "response_a": "z ", "choice": 0, "other": [1]}]
    found = read(write_lines(file, rows))
    assert [(p.prompt, p.response_a, p.response_b, p.choice) for p in found.pairs] == [
        ("p", "x", "y", 1),
        ("é", "z", "y", 0),
    ]
    assert {pair.true_choice for pair in found.pairs} == {-1}
    assert found.report.read == 2


def test_gzip_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "pairs.jsonl.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\n\n  \n")
        file.write(json.dumps(PAIR).encode())
    found = read(path)
    assert (len(found.pairs), found.report.read) == (2, 2)


def test_chosen_is_shown_on_either_side_always_the_same(file):
    rows = [{"prompt": "p", "chosen": "good", "rejected": "bad"}] * 400
    first = read(write_lines(file, rows)).pairs
    for pair in first:
        assert (pair.response_a, pair.response_b)[pair.choice] == "good"
    share = sum(pair.choice == 0 for pair in first) / len(first)
    assert 0.4 < share < 0.6  # four standard errors
    assert read(file).pairs == first
    # The side depends on the place alone, not on what else is in the file.
    assert read(write_lines(file, rows[:7])).pairs == first[:7]


def test_validation_share_is_split_off_by_prompt():
    prompts = [f"prompt {i}" for i in range(4000)]
    chosen = reader.validation_prompts(prompts, 0.05)
    assert 145 < len(chosen) < 255  # four standard errors of 14
    # The same whatever else there is, and however it's spelled.
    assert reader.validation_prompts(prompts[:2000], 0.05) == chosen & set(prompts[:2000])
    respelled = {prompt: prompt.upper() + "\n" for prompt in prompts}
    assert reader.validation_prompts(respelled.values(), 0.05) == {respelled[p] for p in chosen}
    assert reader.validation_prompts(prompts, 0.0) == set()
    assert reader.validation_prompts(prompts, 1.0) == set(prompts)


def test_of_a_few_prompts_one_is_for_validation():
    for number in range(2, 40):
        prompts = [f"few {number} {i}" for i in range(number)]
        spellings = [prompt.title() for prompt in prompts]
        chosen = reader.validation_prompts(prompts + spellings, 1e-9)
        assert len(chosen) == 2 and len({prompt.lower() for prompt in chosen}) == 1


def test_a_split_of_the_shape_of_tldr():
    """92,858 comparisons of about 21,000 posts: the share of pairs is about that of prompts."""
    posts = np.random.default_rng(0).integers(21_000, size=92_858)
    prompts = [f"post {i}" for i in range(21_000)]
    chosen = reader.validation_prompts(prompts, 0.05)
    share = np.array([prompt in chosen for prompt in prompts])[posts].mean()
    # The standard error of the share, with 4.4 pairs a post and the posts' numbers uneven: 0.0017.
    assert abs(share - 0.05) < 4 * 0.0017


def test_the_side_shown_does_not_go_with_the_split(file):
    rows = [{"prompt": f"p {i}", "chosen": "good", "rejected": "bad"} for i in range(4000)]
    pairs = read(write_lines(file, rows)).pairs
    chosen = reader.validation_prompts({pair.prompt for pair in pairs}, 0.05)
    choices = [pair.choice for pair in pairs if pair.prompt in chosen]
    assert 0.3 < sum(choices) / len(choices) < 0.7


def test_hh_transcripts_of_the_real_sample():
    found = read(HH_SAMPLE, "hh_transcripts")
    rows = [json.loads(line) for line in HH_SAMPLE.read_text().splitlines()]
    assert found.report.read == len(rows) == len(found.pairs)
    assert found.report.noted == {DIVERGES_EARLY: 1}
    for pair, row in zip(found.pairs, rows, strict=True):
        assert pair.prompt.startswith("Human:") and pair.prompt.endswith("\n\nAssistant:")
        sides = (pair.response_a, pair.response_b)
        for text, whole in ((sides[pair.choice], "chosen"), (sides[1 - pair.choice], "rejected")):
            assert row[whole].strip().startswith(pair.prompt)
            assert row[whole].strip()[len(pair.prompt) :].strip() == text
    # Where the dialogues part before the last turn, a response runs over several turns.
    early = [p for p in found.pairs if "\n\nAssistant:" in p.response_a + p.response_b]
    assert len(early) == 1 and early[0].prompt.endswith("find me a serial.\n\nAssistant:")
    assert sum(not p.response_a or not p.response_b for p in found.pairs) == 1


def test_hh_prompt_ends_at_the_last_common_turn(file):
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    write_lines(file, [{"chosen": start + " same start, x", "rejected": start + " same start, y"}])
    found = read(file, "hh_transcripts")
    (pair,) = found.pairs
    assert pair.prompt == start.strip()
    assert {pair.response_a, pair.response_b} == {"same start, x", "same start, y"}
    assert not found.report.noted


@pytest.mark.parametrize(
    "line, message",
    [
        (b"{oops", r"2: found '{oops' .Expecting property name.*, expected a JSON object"),
        (b"[1, 2]", r"2: found \[1, 2\], expected a JSON object"),
        (b'{"prompt": "p\xff"}', r"2: found invalid start byte at byte 13, expected UTF-8"),
        (b"[" * 10**4, r"2: found .*recursion.*, expected a JSON object"),
        (b"{}", r"2: found fields \[\], expected \(prompt, response_a"),
        (b'{"prompt": "p", "chosen": "x"}', r"2: field 'rejected': found fields"),
        (b'{"prompt": ["p"], "chosen": "x"}', r"2: field 'prompt': found \['p'\], expected a text"),
        (b'{"prompt": "\\ud800", "chosen": "x"}', r"2: field 'prompt': found surr.*expected UTF-8"),
    ],
)
def test_bad_lines_are_named(file, line, message):
    file.write_bytes(json.dumps(PAIR).encode() + b"\n" + line + b"\n")
    with pytest.raises(DataError, match=f"{file}:{message}"):
        read(file)


@pytest.mark.parametrize("choice", [2, -1, "0", None, True, 0.0])
def test_choice_is_0_or_1(file, choice):
    write_lines(file, [{**PAIR, "choice": choice}])
    with pytest.raises(DataError, match=rf":1: field 'choice': found {choice!r}, expected 0 or 1"):
        read(file)


def test_missing_choice_is_named(file):
    write_lines(file, [{name: PAIR[name] for name in PAIR if name != "choice"}])
    with pytest.raises(DataError, match="field 'choice': found fields .*, expected it among them"):
        read(file)


def test_transcripts_without_a_common_start_are_bad(file):
    write_lines(file, [{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c"}])
    with pytest.raises(DataError, match=r":1: field 'rejected': found .*in common with 'chosen'"):
        read(file, "hh_transcripts")


def test_bad_lines_up_to_the_limit_are_skipped_and_counted(file):
    write_lines(file, [{}, PAIR, {"prompt": 1}, {**PAIR, "prompt": "q"}])
    found = read(file, max_bad_examples=2)
    assert found.report.dropped == {BAD_LINE: 2}
    assert found.report.read == 4
    assert [pair.prompt for pair in found.pairs] == ["p", "q"]
    with pytest.raises(DataError, match=r":3: .*at most 1 bad rows are skipped: "):
        read(file, max_bad_examples=1)


def test_files_that_cannot_be_read(tmp_path, file):
    with pytest.raises(DataError, match="pairs.jsonl: found No such file or directory"):
        read(file)
    with pytest.raises(DataError, match="pairs.jsonl: found No such file or directory"):
        digest(expand(file))
    file.write_text("\n \n")
    with pytest.raises(DataError, match="pairs.jsonl: found no pairs in 0 rows"):
        read(file)
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_text(json.dumps(PAIR))
    with pytest.raises(DataError, match=r"pairs.jsonl.gz: found Not a gzipped file"):
        read(packed)
    packed.write_bytes(gzip.compress(json.dumps(PAIR).encode())[:-9])
    with pytest.raises(DataError, match="expected a whole gzip file"):
        read(packed)
