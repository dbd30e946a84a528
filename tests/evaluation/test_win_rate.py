"""Outcomes of judged pairs, and the halves of the prompts."""

import numpy as np

from pagap_jax.data.prompts import prompt_id
from pagap_jax.evaluation.win_rate import outcomes_of, select_half


def test_a_tie_counts_half():
    choice = np.array([0, 0, 1, -1, 0, -1])
    assert outcomes_of(choice).tolist() == [1, 1, 0, 0.5, 1, 0.5]


def test_swapping_the_two_turns_every_outcome():
    choice = np.array([0, 0, 1, -1])
    turned = np.where(choice < 0, choice, 1 - choice)
    np.testing.assert_array_equal(outcomes_of(turned), 1 - outcomes_of(choice))


def test_a_prompt_is_in_one_half_wherever_it_stands():
    """By line, a prompt with two pairs was in both halves half of the time."""
    ids = np.array([prompt_id(f"prompt {i}") for i in range(2000)])
    several = np.repeat(ids, 3)
    order = np.random.default_rng(0).permutation(len(several))
    select = select_half(several[order])
    by_prompt = {int(i): set() for i in ids}
    for i, half in zip(several[order].tolist(), select.tolist(), strict=True):
        by_prompt[i].add(half)
    assert all(len(halves) == 1 for halves in by_prompt.values())
    assert abs(select_half(ids).mean() - 0.5) < 0.05
