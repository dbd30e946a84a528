"""The built-in task: made-up customer tickets, summaries by a poor writer, and drawn labels.

A prompt states six facts in six short sentences in any order; a response is one line for the
person who deals with it. Both responses of a pair come from one behaviour policy, whose quality is
drawn anew, mostly low, for each response. The label is drawn from the hidden rater's scores.

Text stands for tokens one to one (a word is a token), with one exception: the end. A response of
fewer than `RESPONSE_LENGTH` words ends, one of exactly that many was cut before its end, and
tokenising to `RESPONSE_LENGTH` tokens gives each just that.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from pagap_jax.data.tickets_grammar import (
    FILLERS,
    FUNCTION_WORDS,
    RESPONSE_LENGTH,
    SLOT_OF,
    SLOTS,
    VERBS,
    Ticket,
    ticket_sentences,
)
from pagap_jax.data.tickets_rater import score_words
from pagap_jax.errors import ConfigError
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN, PreferencePair
from pagap_jax.streams import Purpose, generator_for

_T = TypeVar("_T")

# Mostly low: with a good writer, offline has nothing left to improve on.
QUALITY_BETA = (1.2, 3.5)
REPLACED_SLOTS = ("name", "day", "colour", "item", "fault", "want", "cost")


def ticket_pairs(num_pairs: int, seed: int, first: int = 0) -> list[PreferencePair]:
    """Pairs with labels drawn by P(a preferred) = sigmoid(score_a - score_b).

    Pair i is a function of (seed, i) alone: a longer list begins with the shorter one, and lists of
    different seeds share nothing. Pairs of equal responses are drawn again.

    Args:
        num_pairs: to be drawn.
        seed: of the endless list that these are a stretch of.
        first: number of the stretch's first pair.

    Raises:
        ConfigError: a number that is negative.
    """
    if min(num_pairs, seed, first) < 0:
        raise ConfigError(
            f"tickets: found num_pairs {num_pairs}, seed {seed}, first {first}; they must not be "
            "negative"
        )
    return [_draw_pair(seed, index) for index in range(first, first + num_pairs)]


def word_categories() -> dict[str, str]:
    """Each word's category: its slot, or 'function'; replacing within it keeps the grammar."""
    return SLOT_OF | dict.fromkeys(FUNCTION_WORDS, "function")


def is_finished(response: str) -> bool:
    """Whether the end token follows: a response as long as `RESPONSE_LENGTH` words was cut."""
    return len(response.split()) < RESPONSE_LENGTH


class _Dice:
    """Chance, choice and order from one stream of uniform numbers."""

    def __init__(self, generator: np.random.Generator):
        self._generator = generator
        self._next: Callable[[], float] = self._uniforms().__next__

    def _uniforms(self) -> Iterator[float]:
        while True:  # in blocks: a call for each number would take most of the time
            yield from self._generator.random(64).tolist()

    def chance(self, probability: float) -> bool:
        return self._next() < probability

    def index(self, size: int) -> int:
        return int(self._next() * size)

    def pick(self, options: Sequence[str]) -> str:
        return options[self.index(len(options))]

    def shuffled(self, values: Sequence[_T]) -> list[_T]:
        keys = [self._next() for _ in values]
        return [values[i] for i in sorted(range(len(values)), key=keys.__getitem__)]

    def quality(self) -> float:
        return self._generator.beta(*QUALITY_BETA)


def _draw_pair(seed: int, index: int) -> PreferencePair:
    dice = _Dice(generator_for(seed, Purpose.TASK, index))
    ticket = _draw_ticket(dice)
    prompt = " ".join(dice.shuffled(ticket_sentences(ticket)))
    words_a: list[str] = []
    words_b: list[str] = []
    while words_a == words_b:
        words_a, words_b = _draw_response(ticket, dice), _draw_response(ticket, dice)
    margin = _score(ticket, words_a) - _score(ticket, words_b)
    prefers_a = dice.chance(1 / (1 + math.exp(-margin)))
    truth = CHOICE_UNKNOWN if margin == 0 else CHOICE_A if margin > 0 else CHOICE_B
    return PreferencePair(
        prompt=prompt,
        response_a=" ".join(words_a),
        response_b=" ".join(words_b),
        choice=CHOICE_A if prefers_a else CHOICE_B,
        true_choice=truth,
    )


def _score(ticket: Ticket, words: list[str]) -> float:
    return score_words(ticket, words, finished=len(words) < RESPONSE_LENGTH)


def _draw_ticket(dice: _Dice) -> Ticket:
    values = {slot: dice.pick(words) for slot, words in SLOTS.items()}
    # The item that is fine differs in both words, so that no word is right and misleading at once.
    fine_colour = dice.pick([w for w in SLOTS["colour"] if w != values["colour"]])
    fine_item = dice.pick([w for w in SLOTS["item"] if w != values["item"]])
    return Ticket(**values, fine_colour=fine_colour, fine_item=fine_item)


def _draw_response(ticket: Ticket, dice: _Dice) -> list[str]:
    quality = dice.quality()
    clauses = _clauses(_misremember(ticket, quality, dice), quality, dice)
    if not dice.chance(0.3 + 0.6 * quality):
        clauses = dice.shuffled(clauses)
    if dice.chance(0.25 * (1 - quality)):
        clauses.append(clauses[dice.index(len(clauses))])
    words = clauses[0] + [word for clause in clauses[1:] for word in (",", *clause)]
    words = _openings(ticket, dice) + words + (["!", "thanks"] if dice.chance(0.2) else [])
    words += [] if dice.chance(0.12) else ["."]
    return _disturb(words, quality, dice)[:RESPONSE_LENGTH]


def _misremember(ticket: Ticket, quality: float, dice: _Dice) -> Ticket:
    """The ticket as the writer believes it to be."""
    changed = {}
    for slot in REPLACED_SLOTS:
        if dice.chance(0.40 * (1 - quality)):
            changed[slot] = dice.pick(SLOTS[slot])
    if dice.chance(0.25 * (1 - quality)):
        changed |= {"item": ticket.fine_item, "colour": ticket.fine_colour}
        changed |= {"fine_item": ticket.item, "fine_colour": ticket.colour}
    return dataclasses.replace(ticket, **changed)


def _clauses(ticket: Ticket, quality: float, dice: _Dice) -> list[list[str]]:
    """What is said, in canonical order."""
    who = ticket.name if dice.chance(0.4 + 0.5 * quality) else "it"
    article = dice.pick(("the", "our", ""))
    colour = ticket.colour if dice.chance(0.5) else ""
    main = f"{who} {dice.pick(VERBS)} {article} {colour} {ticket.item}"
    if dice.chance(0.5 + 0.45 * quality):
        main = f"{main} is {ticket.fault}"
    elif dice.chance(0.5):
        main = f"{who} wrote"
    optional = (
        (f"wants {ticket.want}", 0.3 + 0.5 * quality),
        (f"paid {ticket.cost}", 0.35),
        (f"on {ticket.day}", 0.35),
        (f"{ticket.fine_colour} {ticket.fine_item} fine", 0.2),
    )
    said = [clause for clause, probability in optional if dice.chance(probability)]
    return [clause.split() for clause in (main, *said)]


def _openings(ticket: Ticket, dice: _Dice) -> list[str]:
    sorry = ["sorry", "!"] if dice.chance(0.3) else []
    urgent = dice.chance(0.4 if ticket.tone == "urgent" else 0.12)
    return sorry + (["urgent", "!"] if urgent else [])


def _disturb(words: list[str], quality: float, dice: _Dice) -> list[str]:
    """A line as a careless writer leaves it: fillers, two words swapped, all words mixed up."""
    if dice.chance(0.5 * (1 - quality)):
        words.insert(dice.index(len(words) + 1), dice.pick(FILLERS))
    if dice.chance(0.10 * (1 - quality)):
        at = dice.index(len(words) - 1)
        words[at : at + 2] = words[at + 1], words[at]
    if dice.chance(0.25 * (1 - quality)):
        words = dice.shuffled(words)
    return words
