"""Prompts alone, from files."""

import json

import pytest

from pagap_jax.data.sources.prompts import read_prompts
from pagap_jax.errors import DataError


def test_a_prompt_a_line(tmp_path):
    (tmp_path / "prompts.txt").write_text('one\n\n  two {"prompt"}\n', encoding="utf-8-sig")
    assert read_prompts(str(tmp_path / "prompts.txt")) == ["one", '  two {"prompt"}']


def test_rows_with_a_prompt(tmp_path):
    rows = [{"prompt": "a\nb", "chosen": "c"}, {"prompt": [{"role": "user", "content": "hi"}]}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_prompts(str(tmp_path / "p.jsonl"))
    assert found[0] == "a\nb" and found[1].split() == ["Human:", "hi", "Assistant:"]
    (tmp_path / "p.csv").write_text('prompt,other\n"a, b",c\n')
    assert read_prompts(str(tmp_path / "p.csv")) == ["a, b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "\n \n", r"p.txt: found no prompts"),
        ("p.txt", b"\xff\xfe\x00", r"p.txt: found invalid start byte at byte 0, expected UTF-8"),
        ("p.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', r"p.jsonl:2: field 'prompt': found"),
        ("p.jsonl", '{"prompt": " "}\n', r"p.jsonl:1: field 'prompt': found an empty text"),
        ("p.jsonl", '{"prompt": 3}\n', r"p.jsonl:1: field 'prompt': found 3, expected a text"),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_prompts(str(tmp_path / name))
