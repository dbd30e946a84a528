"""Which samples are kept as text: the same prompts, whatever the order, the seed and the copies."""

import numpy as np

from pagap_jax.data.prompts import prompt_id
from pagap_jax.evaluation.shown import SHOWN_PROMPTS, samples_as_rows, shown_rows


def test_the_same_prompts_are_shown_in_any_order_and_each_once():
    ids = np.array([prompt_id(f"prompt {i}") for i in range(50)])
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
    expected = sorted(ids.tolist())[:SHOWN_PROMPTS]
    assert ids[shown_rows(ids)].tolist() == ids[order][shown_rows(ids[order])].tolist() == expected
    assert len(shown_rows(ids[:5])) == 5


class Letters:
    """A vocabulary of a, b, c."""

    def decode(self, ids):  # noqa: D102
        return "".join(chr(96 + i) for i in ids)


def test_a_sample_has_its_text_beside_what_judges_say_of_it():
    texts = [{"prompt_id": i, "prompt": f"p{i}", "golden_response": "g"} for i in range(2)]
    shown = {
        "response": np.array([[1, 2, 0], [3, 0, 0]], np.int32),
        "golden_probability": np.array([0.25, 0.75], np.float32),
    }
    first, second = samples_as_rows(texts, shown, Letters())
    assert first == {**texts[0], "response": "ab", "golden_probability": 0.25}
    assert second == {**texts[1], "response": "c", "golden_probability": 0.75}
