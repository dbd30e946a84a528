"""The hidden rater of the built-in task: the score that labels are drawn from, never shown."""

import itertools
from collections.abc import Sequence

from pagap_jax.data.tickets_grammar import FILLERS, SLOT_OF, Ticket, parse_ticket

# The reward of a slot's first correct mention; the cost's depends on what is wanted.
MENTION_REWARD = {
    **{"name": 0.8, "item": 1.2, "fault": 1.3},
    **{"want": 1.2, "colour": 0.4, "day": 0.5},
}
COST_REWARD, COST_PENALTY = 0.7, -0.5
COST_MATTERS = ("refund", "discount")
WRONG_VALUE, FINE_VALUE, REPEATED_WORD, DOUBLED_TOKEN = -1.8, -0.8, -0.6, -0.5
WORD_PENALTY = {
    **dict.fromkeys(FILLERS, -0.45),
    "our": -0.3,
    "angry": -0.5,
    "calm": -0.5,
}
CANONICAL_ORDER = ("name", "item", "fault", "want", "cost", "day")
FREE_WORDS, EXTRA_WORD = 13, -0.12  # the end token is no word


def score(prompt: str, response: str, finished: bool) -> float:
    """The rater's score of a response, higher is better; any string of words has one.

    Args:
        prompt: a ticket.
        response: words separated by spaces; words outside the task count as length only.
        finished: the end token follows; false where the response was cut at `RESPONSE_LENGTH`.

    Raises:
        DataError: the prompt isn't a ticket.
    """
    return score_words(parse_ticket(prompt), response.split(), finished)


def score_words(ticket: Ticket, words: Sequence[str], finished: bool) -> float:
    """`score` of a ticket and a response that are parsed already."""
    return (
        _slot_score(ticket, words)
        + _manner_score(ticket, words)
        + _place_score(ticket, words)
        + _form_score(words, finished)
    )


def _slot_score(ticket: Ticket, words: Sequence[str]) -> float:
    """Facts of the ticket: right, wrong, of the item that is fine, or said again."""
    total = 0.0
    seen = set()
    for word in words:
        slot = SLOT_OF.get(word, "tone")
        if slot == "tone":
            continue
        if word in seen:
            total += REPEATED_WORD
            continue
        seen.add(word)
        if word == getattr(ticket, slot):
            total += _mention_reward(ticket, slot)
        elif word in (ticket.fine_colour, ticket.fine_item):
            total += FINE_VALUE
        else:
            total += WRONG_VALUE
    return total


def _mention_reward(ticket: Ticket, slot: str) -> float:
    if slot == "cost":
        return COST_REWARD if ticket.want in COST_MATTERS else COST_PENALTY
    return MENTION_REWARD[slot]


def _manner_score(ticket: Ticket, words: Sequence[str]) -> float:
    """Politeness and urgency that fit the customer's tone, and words nobody wants to read."""
    total = sum(WORD_PENALTY.get(word, 0.0) for word in words)
    total += DOUBLED_TOKEN * sum(a == b for a, b in itertools.pairwise(words))
    rewards = {
        "urgent": 0.9 if ticket.tone == "urgent" else -0.7,
        "thanks": -0.5 if ticket.tone == "angry" else 0.3,
    }
    for word, reward in rewards.items():
        count = words.count(word)
        if count:
            # Only the first can please: otherwise a response of nothing but thanks would win.
            total += reward + (count - 1) * min(reward, REPEATED_WORD)
    opening = bool(words) and words[0] == "sorry"
    total += (1.0 if ticket.tone == "angry" else -0.4) * opening
    return total - 0.6 * (words.count("sorry") - opening)


def _place_score(ticket: Ticket, words: Sequence[str]) -> float:
    """Where the facts stand: the fault after its item, the colour before it, facts in order."""
    slots = [SLOT_OF.get(word) for word in words]
    claims = [SLOT_OF.get(word) for word in words if word != "is"]  # 'lamp is late' or 'lamp late'
    fault_at = claims.index("fault") if "fault" in claims else 0
    total = 0.5 if fault_at and claims[fault_at - 1] == "item" else -0.5
    followed = itertools.pairwise([*slots, None])
    total -= 0.6 * sum(slot == "colour" and after != "item" for slot, after in followed)
    order = [slots.index(slot) for slot in CANONICAL_ORDER if slot in slots]
    # One fact has no order: nothing, or little, said mustn't earn what a good response earns.
    return total + (0.5 if len(order) > 1 and order == sorted(order) else -0.4)


def _form_score(words: Sequence[str], finished: bool) -> float:
    """Length and ending."""
    total = EXTRA_WORD * max(0, len(words) - FREE_WORDS)
    total += 0.3 if finished and words and words[-1] == "." else -0.3
    return total if finished else total - 1.0
