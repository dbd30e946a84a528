"""Which prompts a win rate is measured on."""

import numpy as np
import pytest

from pagap_jax.data.reading import open_token_pairs
from pagap_jax.data.stored import write_token_pairs
from pagap_jax.data.vocabulary import byte_vocabulary
from pagap_jax.errors import ConfigError
from pagap_jax.jobs.inputs import build_judge, choose_prompts
from pagap_jax.jobs.sample_pairs import unlabelled
from pagap_jax.model.config import T5Config

PROMPTS, OFTEN = 60, 12  # prompts; the first of them has so many pairs, the others one


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """More pairs than prompts, as in TL;DR."""
    of_prompt = np.concatenate([np.zeros(OFTEN, int), np.arange(1, PROMPTS)])
    letter, digit = 100 + of_prompt // 10, 51 + of_prompt % 10  # 'a0', 'a1', ... in bytes
    prompt = np.stack([letter, digit, np.ones_like(digit)], axis=1).astype(np.int32)
    response = np.arange(len(of_prompt), dtype=np.int32)[:, None] + 10
    folder = tmp_path_factory.mktemp("pairs")
    tokens = unlabelled(prompt, response, response + 1)
    write_token_pairs(folder, {"train": tokens}, byte_vocabulary(), {})
    return open_token_pairs(folder, "train")


def test_each_prompt_counts_once(pairs):
    chosen = choose_prompts(pairs, PROMPTS, 0)
    assert len(chosen) == len(set(chosen.prompt_id.tolist())) == PROMPTS
    assert len(choose_prompts(pairs, PROMPTS + 5, 0)) == PROMPTS + 5  # too few: some again
    assert len(choose_prompts(pairs, None, 0)) == len(pairs)


def test_a_prompt_of_many_pairs_is_no_likelier(pairs):
    often = pairs.prompt_id[0]
    seeds, number = 400, 15
    hits = sum(often in choose_prompts(pairs, number, seed).prompt_id for seed in range(seeds))
    expected = seeds * number / PROMPTS  # 100, by chance 9 more or fewer; by pairs it were 380
    assert abs(hits - expected) < 40


def test_which_of_its_pairs_stands_for_it_is_drawn(pairs):
    rows = set()
    for seed in range(60):
        chosen = choose_prompts(pairs, PROMPTS, seed)
        (row,) = chosen.prompt.numbers[chosen.prompt_id == pairs.prompt_id[0]]
        rows.add(int(row))
    assert rows <= set(range(OFTEN)) and len(rows) > OFTEN // 2


def test_a_judge_has_room_for_two_responses():
    """Two of 4 tokens, two markers and one token of a prompt are 11."""
    build_judge(T5Config(vocab_size=512), 11, byte_vocabulary(), 4)
    with pytest.raises(ConfigError, match="INPUT_LENGTH: found 10, expected 11 or more"):
        build_judge(T5Config(vocab_size=512), 10, byte_vocabulary(), 4)
