"""`pagap show`: what a person sees of a data set."""

import re

import numpy as np
import pytest

from pagap_jax.data import stored
from pagap_jax.data.show import run_command
from pagap_jax.data.vocabulary import byte_vocabulary
from pagap_jax.errors import ConfigError, DataError


def tokens(texts, width):
    rows = np.zeros((len(texts), width), np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = [*byte_vocabulary().encode(text), 1]
        row[: len(ids)] = ids
    return rows


@pytest.fixture
def data_set(tmp_path):
    """Eleven pairs of an online run: b chosen in the odd ones, no choice in the last."""
    choice = np.array([i % 2 for i in range(10)] + [-1], np.int8)
    pairs = stored.TokenPairs(
        prompt=tokens([f"prompt {i}" for i in range(11)], 16),
        response_a=tokens(["yes\nand more"] * 11, 16),
        response_b=tokens(["no"] * 11, 16),
        choice=choice,
        true_choice=np.array([1] * 11, np.int8),
        probability=np.linspace(0, 1, 11, dtype=np.float32),
        step=np.arange(100, 111, dtype=np.int32),
    )
    stored.write_token_pairs(tmp_path / "pairs", {"train": pairs}, byte_vocabulary(), {})
    return tmp_path / "pairs"


def test_the_chosen_one_comes_first(data_set, capsys):
    assert run_command([str(data_set), "--pairs=11", "--tokens"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{data_set}: 11 in train\n")
    pairs = said.split("\n--- ")[1:]
    assert len(pairs) == 11
    assert re.search(r"chosen, a \(13 tokens\)\n    yes\n    and more\n    ids 124 104", pairs[0])
    assert re.search(r"chosen, b \(3 tokens\)\n    no\n.*rejected, a", pairs[1], re.DOTALL)
    assert pairs[10].count("no choice, ") == 2 and "chosen" not in pairs[10]
    begin = "pair 3, sampled at step 103, label b, P(a preferred) 0.300, the hidden score"
    assert pairs[3].startswith(begin) and ", no label, " in pairs[10]
    assert "score agrees" in pairs[3] and "score disagrees" in pairs[4]
    assert f"ids {' '.join(map(str, byte_vocabulary().encode('prompt 3')))} 1" in pairs[3]


def test_a_few_are_spread_over_all(data_set, capsys):
    run_command([str(data_set), "--pairs=3"])
    assert re.findall(r"^--- pair (\d+)", capsys.readouterr().out, re.M) == ["0", "5", "10"]


def test_tokens_are_shown_when_they_are_asked_for(data_set, capsys):
    run_command([str(data_set)])
    said = capsys.readouterr().out
    assert "prompt 0" in said and "ids" not in said


def test_an_online_run_s_folder_and_one_of_its_steps(data_set, tmp_path, capsys):
    data_set.rename(tmp_path / "d_online")
    run_command([str(tmp_path), "--step=107"])
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}/d_online: 11 in train\n\n--- pair 7, sampled at step 107, ")
    assert said.count("--- pair ") == 1
    with pytest.raises(ConfigError, match="--step: found 5, expected one of .*, 100 to 110"):
        run_command([str(tmp_path), "--step=5"])


def test_what_is_not_there(data_set, tmp_path):
    with pytest.raises(DataError, match="found splits .'train'., expected 'validation'"):
        run_command([str(data_set), "--split=validation"])
    with pytest.raises(DataError, match="found no pairs.json"):
        run_command([str(tmp_path)])
    with pytest.raises(ConfigError, match="--pairs: found 0"):
        run_command([str(data_set), "--pairs=0"])
    with pytest.raises(ConfigError, match="pagap show --help"):
        run_command([])
