"""A seqio task that a user's own module registers, by the command of docs/data.md."""

import re
import shlex
from pathlib import Path

from pagap_jax.data.example_task import PAIRS
from pagap_jax.data.reading import open_token_pairs
from pagap_jax.data.vocabulary import byte_vocabulary
from pagap_jax.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_command_of_the_documentation_prepares_the_example(tmp_path):
    (command,) = re.findall(r"^pagap prepare(?:.*\\\n)*.*example_sums(?:.*\\\n)*.*",
                            PAGE.read_text(), re.M)  # fmt: skip
    words = shlex.split(command.replace("\\\n", " ").replace("/tmp/sums", str(tmp_path)))
    assert main(words[1:]) == 0
    for split, number in PAIRS.items():
        pairs = open_token_pairs(str(tmp_path), split).whole()
        assert len(pairs) == number
        text = byte_vocabulary(extra_ids=125).decode
        first = [text(column[0].tolist()) for column in (pairs.prompt, pairs.response_a)]
        left, right = first[0].removesuffix(" =").split(" + ")
        assert pairs.choice[0] == (int(first[1]) != int(left) + int(right))
