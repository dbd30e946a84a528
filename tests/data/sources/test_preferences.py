"""The shapes that people bring."""

import json

import pytest

from pagap_jax.data.sources import preferences
from pagap_jax.data.sources.rows import DIVERGES_EARLY, NULL, REPEATED_PROMPT
from pagap_jax.errors import DataError
from tests.data.sources.conftest import sides


def say(role, content):
    return {"role": role, "content": content}


USER, GOOD, BAD = say("user", "q"), say("assistant", "good"), say("assistant", "bad")
HUMAN, GPT = {"from": "human", "value": "q"}, {"from": "gpt", "value": "good"}
ASKED = "Human: q\n\nAssistant:"
PLAIN, CHAT = ("p", "good", "bad"), (ASKED, "good", "bad")

SHAPES = {
    "two responses": (
        {"prompt": "p", "response_a": "bad", "response_b": "good", "choice": 1},
        preferences.TEXTS,
        PLAIN,
    ),
    "TRL, standard, explicit": (
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        preferences.TEXTS,
        PLAIN,
    ),
    "TRL, standard, implicit": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        preferences.IMPLICIT_TEXTS,
        ("The sky is", "blue.", "black."),
    ),
    "TRL, conversational, explicit": (
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        preferences.MESSAGES,
        CHAT,
    ),
    "TRL, conversational, implicit": (
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        preferences.IMPLICIT_MESSAGES,
        CHAT,
    ),
    "UltraFeedback": (
        {"prompt": "q", "prompt_id": "1", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        preferences.IMPLICIT_MESSAGES,
        CHAT,
    ),
    "LLaMA-Factory's messages": (
        {"chosen_messages": [USER, GOOD], "rejected_messages": [USER, BAD]},
        preferences.IMPLICIT_MESSAGES,
        CHAT,
    ),
    "ShareGPT": (
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "bad"}},
        preferences.SHAREGPT,
        CHAT,
    ),
    "instruction": (
        {"instruction": "do", "input": "this", "chosen": "good", "rejected": "bad"},
        preferences.INSTRUCTION,
        ("do\n\nthis", "good", "bad"),
    ),
    "instruction without input": (
        {"instruction": "do", "input": "", "output": "x", "chosen": "good", "rejected": "bad"},
        preferences.INSTRUCTION,
        ("do", "good", "bad"),
    ),
    "transcripts": (
        {"chosen": f"\n\n{ASKED} good", "rejected": f"\n\n{ASKED} bad"},
        preferences.TRANSCRIPTS,
        CHAT,
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_is_recognised(read, name):
    row, recognised, pair = SHAPES[name]
    found = read("preferences", [row, row])
    assert found.report.recognised == recognised
    assert sides(found) == [pair, pair]


@pytest.mark.parametrize(
    ("sample", "rows", "noted"),
    [
        ("instruction.json", 20, {}),
        ("messages_with_parts.jsonl", 4, {}),
        ("sharegpt.json", 8, {}),
        ("ultrafeedback_columns.jsonl", 2, {preferences.EQUAL_SCORES: 1}),
    ],
)
def test_the_samples_are_read_whole(read, sample, rows, noted):
    found = read("preferences", sample)
    assert found.report.read == len(found.pairs) == rows
    assert (found.report.dropped, found.report.noted) == ({}, noted)
    assert all(pair.prompt and pair.response_a and pair.response_b for pair in found.pairs)


def test_two_shapes_in_one_file_are_refused_by_both_names(read):
    other = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}
    with pytest.raises(DataError, match=r":2: found messages .*, expected texts") as error:
        read("preferences", [SHAPES["two responses"][0], other], max_bad_examples=9)
    assert preferences.MESSAGES in str(error.value)
    # Both shapes of ours are one.
    mixed = [SHAPES["two responses"][0], SHAPES["TRL, standard, explicit"][0]]
    assert len(read("preferences", mixed).pairs) == 2


def test_a_prompt_ends_with_a_word(read):
    rows = [
        {"chosen": "Paris ", "rejected": "London"},
        {"chosen": "The sky", "rejected": "The sky is"},
        {"chosen": "It is 10", "rejected": "It is 12"},
    ]
    prompts = [prompt for prompt, *_ in sides(read("preferences", rows))]
    assert prompts == ["", "The sky", "It is"]  # without a prompt it's dropped later, and counted


def test_two_schemas_in_one_row(read):
    both = SHAPES["two responses"][0] | {"chosen": "good", "rejected": "bad"}
    assert sides(read("preferences", [both])) == [PLAIN]
    with pytest.raises(DataError, match="'choice' and 'chosen': found another response"):
        read("preferences", [both | {"choice": 0}])


def test_a_repeated_key_is_refused(tmp_path, read):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a", "rejected": "b", "rejected": "c"}\n')
    with pytest.raises(DataError, match=r"a.jsonl:1: found the keys \['rejected'\] more than"):
        read("preferences", str(path))


def test_a_prompt_that_responses_repeat(read):
    rows = [{"prompt": ASKED, "chosen": f"\n\n{ASKED} good", "rejected": f"{ASKED} bad"}]
    rows.append({"prompt": "p", "chosen": "p one", "rejected": "two"})  # one of them alone
    found = read("preferences", rows)
    assert found.report.noted == {REPEATED_PROMPT: 1}
    assert sides(found)[0] == (ASKED, f"{ASKED} good", f"{ASKED} bad")
    found = read("preferences", rows, strip_prompt=True)
    assert sides(found) == [CHAT, ("p", "p one", "two")]


def test_conversations_that_part_early(read):
    longer = [USER, GOOD, say("user", "more"), say("assistant", "end")]
    row = {"chosen": longer, "rejected": [USER, BAD]}
    found = read("preferences", [row])
    assert sides(found) == [(ASKED, "good\n\nHuman: more\n\nAssistant: end", "bad")]
    assert found.report.noted == {DIVERGES_EARLY: 1}
    with pytest.raises(DataError, match="found no pairs in 1 rows .left out: {'transcripts"):
        read("preferences", [row], keep_diverging=False)


def test_a_conversation_that_answers_repeat(read):
    found = read(
        "preferences", [{"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}]
    )
    assert (sides(found), found.report.noted) == ([CHAT], {REPEATED_PROMPT: 1})


def test_a_word_that_begins_like_the_prompt_repeats_nothing(read):
    row = {"prompt": "Hi", "chosen": "His name", "rejected": "Hiya"}
    found = read("preferences", [row], strip_prompt=True)
    assert sides(found) == [("Hi", "His name", "Hiya")]


def test_messages_written_as_text_are_refused(read):
    cell = "[{'role': 'user', 'content': 'q'}]"
    with pytest.raises(DataError, match="found messages written as a text"):
        read("preferences", [{"prompt": "q", "chosen": cell, "rejected": cell}])


def test_nulls_are_counted(read):
    rows = [SHAPES["ShareGPT"][0], SHAPES["ShareGPT"][0] | {"chosen": None}]
    assert read("preferences", rows).report.dropped == {NULL: 1}


def test_what_stands_before_an_instruction(read):
    row = SHAPES["instruction"][0]
    found = read("preferences", [row | {"system": "Be brief."}, row | {"history": [["q", "a"]]}])
    assert sides(found) == [("Be brief.\n\ndo\n\nthis", "good", "bad")]
    assert found.report.dropped == {preferences.HISTORY: 1}
    sharegpt = SHAPES["ShareGPT"][0] | {"system": "Be brief."}
    assert sides(read("preferences", [sharegpt]))[0][0] == f"Be brief.\n\n{ASKED}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, r"found fields \['text'\], expected \(prompt, response_a"),
        ({"chosen": [USER, GOOD]}, "'rejected': found None, expected a list of messages"),
        ({"conversations": [HUMAN]}, "'chosen': found fields"),
        ({"question": "q", "chosen": "a", "rejected": "b"}, "found the prompt in .'question'."),
        ({"prompt": [USER], "chosen": [USER, GOOD], "rejected": [BAD]}, "found a turn of the user"),
        ({"instruction": "a", "chosen": 1, "rejected": "b"}, "'chosen': found 1, expected a text"),
        ({"prompt": [USER], "chosen": [say("bard", "x")], "rejected": [BAD]}, "found role 'bard'"),
        ({"prompt": [USER], "chosen": [{"role": "user"}], "rejected": [BAD]}, "found fields .'rol"),
    ],
)
def test_rows_that_lack_something(read, row, message):
    with pytest.raises(DataError, match=f":1: .*{message}"):
        read("preferences", [row])


# A row of each format that is refused, in its real columns, and what its lines make of it.
SHP = {"history": "p", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1}
HELPSTEER_2 = {"prompt": "p", "response_1": "good", "response_2": "bad"}
HELPSTEER_3 = {"context": [USER], "response1": "bad", "response2": "good"}
RATINGS = {"prompt": "p", "correctness": 1}
FOREIGN = {
    "SHP": ([SHP, SHP | {"labels": 0, "human_ref_A": "bad", "human_ref_B": "good"}], [PLAIN] * 2),
    "HelpSteer2": ([HELPSTEER_2 | {"preference_strength": s} for s in (-2, 0)], [PLAIN]),
    "HelpSteer3": ([HELPSTEER_3 | {"overall_preference": s} for s in (2, 0)], [CHAT]),
    "HelpSteer's ratings": (
        [
            RATINGS | {"response": "bad", "helpfulness": 2},
            RATINGS | {"response": "good", "helpfulness": 3},
        ],
        [PLAIN],
    ),
    "Nectar": (
        [
            {
                "prompt": "p",
                "answers": [{"answer": a, "rank": r} for a, r in (("bad", 7.0), ("good", 1.0))],
            }
        ],
        [PLAIN],
    ),
    "PKU-SafeRLHF": (
        [{"prompt": "p", "response_0": "bad", "response_1": "good", "better_response_id": 1}],
        [PLAIN],
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_the_lines_of_a_refusal_convert_the_file(read, tmp_path, monkeypatch, name):
    rows, pairs = FOREIGN[name]
    with pytest.raises(DataError, match=f":1: found {name}") as error:
        read("preferences", rows)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "IN").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exec("\n".join(line.strip() for line in str(error.value).splitlines()[1:]), {})
    assert sides(read("preferences", str(tmp_path / "OUT.jsonl"))) == pairs


@pytest.mark.parametrize(
    ("sample", "task"),
    [
        ("tldr_real.jsonl", "summarize_from_feedback"),
        ("arena_33k.jsonl", "chatbot_arena"),
        ("arena_55k.csv", "chatbot_arena"),
    ],
)
def test_what_another_task_reads_is_said(read, sample, task):
    with pytest.raises(DataError, match=f"MIXTURE_OR_TASK_NAME = '{task}' reads them"):
        read("preferences", sample)
