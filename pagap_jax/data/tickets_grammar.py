"""Words and layout of the built-in task: a customer ticket, and what a text says of its slots."""

import dataclasses
import functools

from pagap_jax.errors import DataError

PROMPT_LENGTH = 21  # tokens: the 20 words of a ticket and the end
RESPONSE_LENGTH = 20  # tokens, the end included

SLOTS: dict[str, tuple[str, ...]] = {
    "name": ("alice", "boris", "carla", "david", "elena", "frank"),
    "day": ("monday", "tuesday", "thursday", "friday", "saturday"),
    "colour": ("green", "white", "black", "red", "blue"),
    "item": ("lamp", "chair", "table", "phone", "clock", "kettle"),
    "fault": ("dirty", "broken", "loud", "late", "bent", "cracked"),
    "want": ("repair", "refund", "discount", "exchange"),
    "cost": ("ten", "twenty", "forty", "sixty"),
    "tone": ("angry", "calm", "urgent"),
}
FILLERS = ("well", "maybe", "really")
VERBS = ("says", "reports", "claims")
FUNCTION_WORDS = (
    *(".", ",", "!", "wrote", "fine", "wants", "paid", "it", "the", "our", "is", "on"),
    *("sorry", "thanks", *VERBS, *FILLERS),
)
SLOT_OF = {word: slot for slot, words in SLOTS.items() for word in words}


@dataclasses.dataclass(frozen=True)
class Ticket:
    """What a prompt states: one word a slot, and the colour and item that are fine."""

    name: str
    day: str
    colour: str
    item: str
    fault: str
    want: str
    cost: str
    tone: str
    fine_colour: str
    fine_item: str


def ticket_sentences(ticket: Ticket) -> list[str]:
    """The six sentences of a ticket; a prompt holds them in any order."""
    return [
        f"{ticket.name} wrote {ticket.day} .",
        f"{ticket.colour} {ticket.item} {ticket.fault} .",
        f"{ticket.fine_colour} {ticket.fine_item} fine .",
        f"wants {ticket.want} .",
        f"paid {ticket.cost} .",
        f"{ticket.tone} .",
    ]


@functools.lru_cache(maxsize=4096)
def parse_ticket(prompt: str) -> Ticket:
    """Reads a prompt back.

    Raises:
        DataError: a sentence is missing, twice there or not of the six kinds.
    """
    fields: dict[str, str] = {}
    for sentence in prompt.removesuffix(".").split(" . "):
        match sentence.split():
            case [name, "wrote", day]:
                found = {"name": name, "day": day}
            case ["wants", want]:
                found = {"want": want}
            case ["paid", cost]:
                found = {"cost": cost}
            case [colour, item, "fine"]:
                found = {"fine_colour": colour, "fine_item": item}
            case [colour, item, fault]:
                found = {"colour": colour, "item": item, "fault": fault}
            case [tone]:
                found = {"tone": tone}
            case _:
                found = {}
        fitting = all(SLOT_OF.get(w) == slot.removeprefix("fine_") for slot, w in found.items())
        if not found or not fitting or found.keys() & fields.keys():
            raise DataError(f"not a ticket: sentence {sentence!r} of prompt {prompt!r}")
        fields |= found
    missing = [f.name for f in dataclasses.fields(Ticket) if f.name not in fields]
    if missing:
        raise DataError(f"not a ticket: no {', '.join(missing)} in prompt {prompt!r}")
    return Ticket(**fields)
