"""Every use of randomness has a stream of its own."""

import itertools
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from pagap_jax.streams import Purpose, choose_rows, generator_for, key_for


def draws(seed, purpose, step=0):
    return generator_for(seed, purpose, step).integers(2**63, size=4).tolist()


def test_no_two_purposes_share_a_stream():
    numbers = [purpose.number for purpose in Purpose]
    assert len(set(numbers)) == len(numbers) > 10
    keys = [tuple(jax.random.key_data(key_for(s, p)).tolist()) for s in (0, 1) for p in Purpose]
    assert len(set(keys)) == len(keys)
    # Nor does a step of one purpose draw what a step of another does, or of another seed.
    streams = itertools.product((0, 1), Purpose, (0, 1, 2))
    found = [number for stream in streams for number in draws(*stream)]
    assert len(set(found)) == len(found)


def test_a_stream_is_a_function_of_seed_purpose_and_step():
    assert draws(3, Purpose.BATCH_ORDER, 5) == draws(3, Purpose.BATCH_ORDER, 5)
    # Names stand for their streams: whoever renames a purpose makes other runs of every seed.
    assert Purpose.BATCH_ORDER.number == 4254051821


@pytest.mark.parametrize("number", [0, 1, 99, 100, 101, None])
def test_rows_are_chosen_once_each(number):
    rows = choose_rows(100, number, 0, Purpose.KL_PROMPTS)
    assert len(rows) == min(100, 100 if number is None else number)
    assert (np.diff(rows) > 0).all()


def test_nothing_else_makes_keys_or_generators():
    """But for shapes (`eval_shape`) and the steps that fold their number in."""
    package = Path(__file__).resolve().parents[1] / "pagap_jax"
    makes = re.compile(r"random\.key\(|PRNGKey|Philox|default_rng|SeedSequence|random\.seed")
    found = {
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if makes.search(line) and path.name != "streams.py"
    }
    assert not {line for line in found if "random.key(0)" not in line}


def test_kl_prompts_come_from_all_of_the_file():
    """Of a sorted list the head was taken: 256 of 92,000 prompts from its first eighth."""
    rows = choose_rows(92_000, 256, 0, Purpose.KL_PROMPTS)
    eighths = np.bincount(rows // 11_500, minlength=8)
    assert (eighths > 12).all() and eighths.max() < 60  # 32 each, by chance 6 more or fewer
