"""The built-in task: its grammar, its rater by hand-made sums, the numbers of the tiny study."""

import math

import numpy as np
import pytest

from pagap_jax.data.tickets import is_finished, ticket_pairs, word_categories
from pagap_jax.data.tickets_grammar import (
    PROMPT_LENGTH,
    RESPONSE_LENGTH,
    SLOTS,
    Ticket,
    parse_ticket,
    ticket_sentences,
)
from pagap_jax.data.tickets_rater import score
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN, PreferencePair

TICKET = Ticket(
    **{"name": "carla", "day": "saturday", "colour": "white", "item": "chair", "fault": "dirty"},
    **{"want": "refund", "cost": "forty", "tone": "angry"},
    **{"fine_colour": "green", "fine_item": "lamp"},
)
PROMPT = " ".join(ticket_sentences(TICKET))
CALM_REPAIR = PROMPT.replace("angry", "calm").replace("refund", "repair")
URGENT = PROMPT.replace("angry", "urgent")

ENDS = 0.3  # with '.' and the end token; without either, or with less, it's the negative
FACTS = 0.8 + 1.2 + 1.3  # name, item, fault
PLACES = 0.5 + 0.5  # the fault follows its item, the facts are in order


@pytest.fixture(scope="module")
def pairs() -> list[PreferencePair]:
    return ticket_pairs(8_000, seed=0)


@pytest.fixture(scope="module")
def scores(pairs: list[PreferencePair]) -> np.ndarray:
    """The hidden scores of both responses, [pairs, 2]."""
    return np.array(
        [
            [score(p.prompt, response, is_finished(response)) for response in both]
            for p in pairs
            for both in [(p.response_a, p.response_b)]
        ]
    )


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        pytest.param(PROMPT, "carla says chair is dirty .", FACTS + PLACES + ENDS, id="facts"),
        pytest.param(PROMPT, "carla says chair dirty .", FACTS + PLACES + ENDS, id="no is"),
        pytest.param(
            PROMPT,
            "sorry ! carla says white chair is dirty , wants refund , paid forty , on saturday .",
            1.0 + FACTS + 0.4 + 1.2 + 0.7 + 0.5 + PLACES + ENDS - 0.12 * (18 - 13),
            id="everything, five words too long",
        ),
        pytest.param(
            CALM_REPAIR, "chair dirty , paid forty .", 2.5 - 0.5 + PLACES + ENDS, id="idle cost"
        ),
        pytest.param(
            PROMPT, "boris says chair is dirty .", 2.5 - 1.8 + PLACES + ENDS, id="wrong name"
        ),
        pytest.param(
            PROMPT,
            "carla says lamp is dirty .",
            2.1 - 0.8 + PLACES + ENDS,
            id="the item that's fine",
        ),
        pytest.param(
            PROMPT,
            "carla says chair is dirty , wants carla .",
            FACTS - 0.6 + PLACES + ENDS,
            id="word repeated",
        ),
        pytest.param(
            PROMPT, "carla says says chair is dirty .", FACTS - 0.5 + PLACES + ENDS, id="doubled"
        ),
        pytest.param(
            PROMPT, "dirty chair says carla .", FACTS - 0.5 - 0.4 + ENDS, id="facts out of order"
        ),
        pytest.param(
            PROMPT,
            "carla says chair white is dirty .",
            FACTS + 0.4 - 0.6 - 0.5 + 0.5 + ENDS,
            id="colour behind its item",
        ),
        pytest.param(
            PROMPT,
            "carla maybe says our chair is dirty .",
            FACTS - 0.45 - 0.3 + PLACES + ENDS,
            id="filler and our",
        ),
        pytest.param(
            PROMPT, "carla says chair is dirty angry .", FACTS - 0.5 + PLACES + ENDS, id="tone word"
        ),
        pytest.param(
            CALM_REPAIR, "sorry ! chair is dirty .", 2.5 - 0.4 + PLACES + ENDS, id="idle sorry"
        ),
        pytest.param(
            PROMPT, "chair is dirty ! sorry .", 2.5 - 0.6 + PLACES + ENDS, id="late sorry"
        ),
        pytest.param(URGENT, "urgent ! chair is dirty .", 2.5 + 0.9 + PLACES + ENDS, id="urgent"),
        pytest.param(
            PROMPT, "urgent ! chair is dirty .", 2.5 - 0.7 + PLACES + ENDS, id="idle urgent"
        ),
        pytest.param(URGENT, "chair is dirty ! thanks .", 2.5 + 0.3 + PLACES + ENDS, id="thanks"),
        pytest.param(
            PROMPT, "chair is dirty ! thanks .", 2.5 - 0.5 + PLACES + ENDS, id="thanks while angry"
        ),
        pytest.param(
            URGENT,
            "thanks ! thanks ! thanks",
            0.3 - 2 * 0.6 - 0.5 - 0.4 - ENDS,
            id="thanks pleases once",
        ),
        pytest.param(PROMPT, "", -0.5 - 0.4 - ENDS, id="nothing"),
        pytest.param(PROMPT, "⁇ <extra_id_0> .", -0.5 - 0.4 + ENDS, id="words outside the task"),
    ],
)
def test_score_is_the_sum_of_its_rules(prompt: str, response: str, expected: float) -> None:
    assert score(prompt, response, finished=True) == pytest.approx(expected)


def test_score_of_a_response_that_was_cut_loses_its_ending_and_one() -> None:
    response = "carla says chair is dirty ."
    whole, cut = (score(PROMPT, response, finished=f) for f in (True, False))
    assert whole - cut == pytest.approx(2 * ENDS + 1.0)


def test_parse_ticket_reads_any_order() -> None:
    sentences = ticket_sentences(TICKET)
    for start in range(len(sentences)):
        assert parse_ticket(" ".join(sentences[start:] + sentences[:start])) == TICKET


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (PROMPT.replace("paid forty . ", ""), "no cost"),
        (PROMPT + " angry .", "sentence 'angry '"),
        (PROMPT.replace("forty", "monday"), "sentence 'paid monday'"),
        (PROMPT.replace("wants", "needs"), "sentence 'needs refund'"),
        ("", "sentence ''"),
    ],
)
def test_parse_ticket_refuses_what_is_no_ticket(prompt: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_ticket(prompt)


def test_pairs_are_a_function_of_seed_and_index() -> None:
    pairs = ticket_pairs(80, seed=3)
    assert ticket_pairs(50, seed=3) == pairs[:50]
    assert ticket_pairs(30, seed=3, first=50) == pairs[50:]
    prompts = [{p.prompt for p in ticket_pairs(200, seed)} for seed in (0, 1, 2)]
    assert not prompts[0] & prompts[1] and not prompts[1] & prompts[2]


def test_first_pair_is_as_it_was() -> None:
    # Update only together with everything that was trained on the task: the shipped pretraining,
    # the numbers in the README. A change of this pair is a change of all of them.
    assert ticket_pairs(1, seed=0) == [
        PreferencePair(
            prompt="carla wrote saturday . angry . blue chair loud . green table fine . "
            "paid ten . wants discount .",
            response_a="sorry ! carla says our black chair is loud , paid sixty ! thanks .",
            response_b="carla wrote .",
            choice=CHOICE_A,
            true_choice=CHOICE_A,
        )
    ]


@pytest.mark.parametrize(("num_pairs", "seed", "first"), [(-1, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_negative_numbers_are_refused(num_pairs: int, seed: int, first: int) -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        ticket_pairs(num_pairs, seed, first)


def test_pairs_fit_the_task(pairs: list[PreferencePair]) -> None:
    words = set()
    for pair in pairs:
        parse_ticket(pair.prompt)
        assert len(pair.prompt.split()) == PROMPT_LENGTH - 1
        assert pair.response_a != pair.response_b
        for response in (pair.response_a, pair.response_b):
            assert 2 <= len(response.split()) <= RESPONSE_LENGTH
            words |= set(response.split())
    # No response names the customer's mood, except where it's urgent.
    assert words == word_categories().keys() - {"angry", "calm"}


def test_word_categories_hold_each_word_once() -> None:
    categories = word_categories()
    function_words = [word for word, category in categories.items() if category == "function"]
    num_slot_words = sum(len(words) for words in SLOTS.values())
    assert len(categories) == num_slot_words + len(function_words) == 39 + 20
    assert categories["chair"] == categories["lamp"] == "item"
    assert categories["."] == categories["maybe"] == "function"


def test_behaviour_is_that_of_the_tiny_study(
    pairs: list[PreferencePair], scores: np.ndarray
) -> None:
    # Measured when the task was designed: mean -0.1, sd 2.9, 99 % quantile 6.2, maximum 7.7. The
    # design left some choices open (what counts as a word beyond 13, where a repeated clause goes).
    assert scores.mean() == pytest.approx(-0.1, abs=0.1)
    assert scores.std() == pytest.approx(2.9, abs=0.1)
    assert np.quantile(scores, 0.99) == pytest.approx(6.2, abs=0.3)
    assert scores.max() == pytest.approx(7.7, abs=0.4)
    lengths = [len(r.split()) for p in pairs for r in (p.response_a, p.response_b)]
    assert np.mean(lengths) == pytest.approx(12.8, abs=0.3)
    assert np.mean(np.array(lengths) < RESPONSE_LENGTH) == pytest.approx(0.937, abs=0.01)


def test_labels_are_drawn_from_the_scores(pairs: list[PreferencePair], scores: np.ndarray) -> None:
    margin = scores[:, 0] - scores[:, 1]
    truth = np.array([p.true_choice for p in pairs])
    assert (truth == np.where(margin == 0, CHOICE_UNKNOWN, margin < 0)).all()
    choice = np.array([p.choice for p in pairs])
    assert set(choice) == {CHOICE_A, CHOICE_B}
    # Measured when the task was designed: 86.8 % agree with the sign of the score difference.
    assert (choice == truth)[truth != CHOICE_UNKNOWN].mean() == pytest.approx(0.868, abs=0.01)
    probability = 1 / (1 + np.exp(-margin))
    for low in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9):
        here = (low <= probability) & (probability < low + 0.2)
        expected = probability[here]
        error = math.sqrt((expected * (1 - expected)).sum())
        surplus = (choice[here] == CHOICE_A).sum() - expected.sum()
        assert abs(surplus) < 4 * error, f"P(a) in [{low}, {low + 0.2})"
