r"""What people bring: the shapes in which comparisons lie on disks, told from the first row.

| shape | columns |
|---|---|
| texts | prompt, response_a, response_b, choice; or prompt, chosen, rejected |
| texts with the prompt in them | chosen, rejected: what both begin with is the prompt |
| transcripts | chosen, rejected, of Anthropic's "\n\nHuman: ...\n\nAssistant: ..." |
| messages | prompt, chosen, rejected: lists of (role, content) |
| messages with the prompt in them | chosen, rejected (or chosen_messages, rejected_messages) |
| ShareGPT | conversations, chosen, rejected: lists of (from, value) |
| instruction | instruction, input, chosen, rejected |
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import TypeAlias

import gin

from pagap_jax.data.sources.conversations import ChatTemplate, part, turns_of
from pagap_jax.data.sources.foreign import refusal
from pagap_jax.data.sources.hh import ASSISTANT_TURN, Transcripts
from pagap_jax.data.sources.rows import (
    REPEATED_PROMPT,
    BadRowError,
    Context,
    Fields,
    SourceReport,
    UnreadableFormatError,
    choice,
    shown_pair,
    text,
)
from pagap_jax.records import CHOICE_A, PreferencePair

EQUAL_SCORES = "the chosen and the rejected response have the same score"

TEXTS = "texts (prompt, response_a, response_b, choice) or (prompt, chosen, rejected)"
IMPLICIT_TEXTS = "texts with the prompt in them (chosen, rejected)"
TRANSCRIPTS = Transcripts.recognised
MESSAGES = "messages (prompt, chosen, rejected)"
IMPLICIT_MESSAGES = "messages with the prompt in them (chosen, rejected)"
SHAREGPT = "ShareGPT (conversations, chosen, rejected)"
INSTRUCTION = "instructions (instruction, input, chosen, rejected)"

_EXPECTED = (
    "(prompt, response_a, response_b, choice), (prompt, chosen, rejected) or another of the shapes "
    "in docs/data.md"
)


def shape_of(row: Fields) -> str:
    """Which of the shapes a row has.

    Raises:
        BadRowError: none of them.
        UnreadableFormatError: it's of a known format that isn't read here.
    """
    if (found := refusal(row)) is not None:
        raise UnreadableFormatError(found)
    if "response_a" in row and "response_b" in row:
        return TEXTS
    if "conversations" in row:
        return SHAREGPT
    if "instruction" in row:
        return INSTRUCTION
    if "chosen_messages" in row:
        return IMPLICIT_MESSAGES
    if "chosen" not in row:
        raise BadRowError(f"found fields {sorted(row)}, expected {_EXPECTED}")
    if isinstance(row["chosen"], list | dict):
        return MESSAGES if isinstance(row.get("prompt"), list | dict) else IMPLICIT_MESSAGES
    if "prompt" in row:
        return TEXTS
    is_transcript = ASSISTANT_TURN in str(row["chosen"]).replace("\r\n", "\n")
    return TRANSCRIPTS if is_transcript else IMPLICIT_TEXTS


@gin.configurable
@dataclasses.dataclass
class Preferences:
    """Comparisons in any of the shapes above; all rows of a source have the same.

    Attributes:
        strip_prompt: takes the prompt away from the beginning of both responses where both repeat
            it; else that is only counted.
        keep_diverging: whether conversations that part before their last turn are kept.
        template: makes what turns conversations into text.
    """

    strip_prompt: bool = False
    keep_diverging: bool = True
    template: Callable[[], ChatTemplate] = ChatTemplate
    recognised: str = dataclasses.field(default="", init=False)

    def splits(self, paths: list[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
        """Each file; they have no splits of their own."""
        return [(path, "") for path in paths]

    def pair(self, row: Fields, context: Context) -> PreferencePair:
        """Raises BadRowError for a row of no shape, UnreadableFormatError for one of another."""
        shape = shape_of(row)
        if row.get("score_chosen") is not None and row["score_chosen"] == row.get("score_rejected"):
            context.report.noted[EQUAL_SCORES] += 1
        self.recognised = self.recognised or shape
        if shape != self.recognised:
            raise UnreadableFormatError(
                f"found {shape}, expected {self.recognised}, as the rows before it have"
            )
        if shape == TRANSCRIPTS:
            return Transcripts(self.keep_diverging).pair(row, context)
        if shape == TEXTS and "response_a" in row:
            pair = _with_choice(row, context.split)
        else:
            pair = shown_pair(*_READERS[shape](self, row, context.report), context)
        return self._without_repeated_prompt(pair, context.report)

    def _without_repeated_prompt(
        self, pair: PreferencePair, report: SourceReport
    ) -> PreferencePair:
        prompt, sides = pair.prompt, (pair.response_a, pair.response_b)
        if not prompt or not all(side.startswith(prompt) for side in sides):
            return pair
        report.noted[REPEATED_PROMPT] += 1
        if not self.strip_prompt:
            return pair
        a, b = (side.removeprefix(prompt).strip() for side in sides)
        return dataclasses.replace(pair, response_a=a, response_b=b)


def _with_choice(row: Fields, split: str) -> PreferencePair:
    prompt, label = text(row, "prompt").strip(), choice(row)
    a, b = text(row, "response_a").strip(), text(row, "response_b").strip()
    if "chosen" in row or "rejected" in row:
        said = tuple(text(row, name).strip() for name in ("chosen", "rejected"))
        if said != ((a, b) if label == CHOICE_A else (b, a)):
            raise BadRowError(
                "fields 'choice' and 'chosen': found another response preferred in each, expected "
                "one shape, or two that agree"
            )
    return PreferencePair(prompt, a, b, label, split=split)


_Texts: TypeAlias = tuple[str, str, str]  # prompt, chosen, rejected


def _texts(source: Preferences, row: Fields, report: SourceReport) -> _Texts:
    del source, report
    return text(row, "prompt"), text(row, "chosen"), text(row, "rejected")


def _implicit_texts(source: Preferences, row: Fields, report: SourceReport) -> _Texts:
    """Both begin with the prompt, which ends where a word ends."""
    del source, report
    chosen, rejected = text(row, "chosen"), text(row, "rejected")
    common = os.path.commonprefix([chosen, rejected])
    if common not in (chosen, rejected):  # the next letters differ: perhaps within a word
        common = common[: len(common) - len(common.split()[-1])] if _in_a_word(common) else common
    return common, chosen[len(common) :], rejected[len(common) :]


def _in_a_word(common: str) -> bool:
    return bool(common) and not common[-1].isspace()


def _messages(source: Preferences, row: Fields, report: SourceReport) -> _Texts:
    del report
    prompt = turns_of(row["prompt"], "field 'prompt'")
    return _answered(source, prompt, row)


def _sharegpt(source: Preferences, row: Fields, report: SourceReport) -> _Texts:
    del report
    return _answered(source, turns_of(row["conversations"], "field 'conversations'"), row)


def _answered(source: Preferences, prompt: list, row: Fields) -> _Texts:
    responses = []
    for name in ("chosen", "rejected"):
        if name not in row:
            raise BadRowError(f"field {name!r}: found fields {sorted(row)}, expected it among them")
        value = row[name]
        is_text = isinstance(value, str)
        turns = [] if is_text else turns_of(value, f"field {name!r}")
        responses.append(text(row, name) if is_text else source.template().response(turns))
    return source.template().prompt(prompt), responses[0], responses[1]


def _implicit_messages(source: Preferences, row: Fields, report: SourceReport) -> _Texts:
    names = ("chosen", "rejected")
    if "chosen_messages" in row:
        names = ("chosen_messages", "rejected_messages")
    chosen, rejected = (turns_of(row.get(name), f"field {name!r}") for name in names)
    prompt, *rest = part(chosen, rejected, report, source.keep_diverging)
    of_chosen, of_rejected = (source.template().response(turns) for turns in rest)
    return source.template().prompt(prompt), of_chosen, of_rejected


def _instruction(source: Preferences, row: Fields, report: SourceReport) -> _Texts:
    del source, report
    parts = [text(row, "instruction"), text(row, "input") if row.get("input") else ""]
    prompt = "\n\n".join(part.strip() for part in parts if part.strip())
    return prompt, text(row, "chosen"), text(row, "rejected")


_READERS: dict[str, Callable[[Preferences, Fields, SourceReport], _Texts]] = {
    TEXTS: _texts,
    IMPLICIT_TEXTS: _implicit_texts,
    MESSAGES: _messages,
    IMPLICIT_MESSAGES: _implicit_messages,
    SHAREGPT: _sharegpt,
    INSTRUCTION: _instruction,
}
