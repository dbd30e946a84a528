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
import re
from collections.abc import Callable
from typing import TypeAlias

import gin

from pagap_jax.data.sources.conversations import (
    ASSISTANT,
    SYSTEM,
    ChatTemplate,
    Turn,
    part,
    turns_of,
)
from pagap_jax.data.sources.files import splits_by_name
from pagap_jax.data.sources.foreign import refusal
from pagap_jax.data.sources.hh import ASSISTANT_TURN, Transcripts
from pagap_jax.data.sources.rows import (
    NULL,
    REPEATED_PROMPT,
    BadRowError,
    Context,
    DroppedRowError,
    Fields,
    SourceReport,
    UnreadableFormatError,
    choice,
    field,
    shown_pair,
    text,
)
from pagap_jax.records import CHOICE_A, PreferencePair

HISTORY = "an instruction with a history of turns"
EQUAL_SCORES = "the chosen and the rejected response have the same score"

TEXTS = "texts (prompt, response_a, response_b, choice) or (prompt, chosen, rejected)"
IMPLICIT_TEXTS = "texts with the prompt in them (chosen, rejected)"
TRANSCRIPTS = Transcripts.recognised
MESSAGES = "messages (prompt, chosen, rejected)"
IMPLICIT_MESSAGES = "messages with the prompt in them (chosen, rejected)"
SHAREGPT = "ShareGPT (conversations, chosen, rejected)"
INSTRUCTION = "instructions (instruction, input, chosen, rejected)"

# Of texts without a column 'prompt': columns that hold it, or what stood before it, all the same.
_PROMPT_ELSEWHERE = {"question", "query", "input", "context", "history", "system", "messages"}
_MESSAGES_AS_TEXT = re.compile(r"\s*\[\s*\{\s*['\"](role|from|content|value)['\"]")

_EXPECTED = (
    "(prompt, response_a, response_b, choice), (prompt, chosen, rejected) or another of the shapes "
    "in docs/data.md"
)


def shape_of(row: Fields) -> str:
    """Which of the shapes a row has.

    Raises:
        BadRowError: none of them.
        DroppedRowError: a null where a text should be.
        UnreadableFormatError: it's of a known format that isn't read here.
    """
    if (found := refusal(row)) is not None:
        raise UnreadableFormatError(found)
    if any(name in row and row[name] is None for name in ("prompt", "chosen", "rejected")):
        raise DroppedRowError(NULL)
    if isinstance(row.get("chosen"), str) and _MESSAGES_AS_TEXT.match(row["chosen"]):
        raise UnreadableFormatError(
            "field 'chosen': found messages written as a text, expected a list of messages: save "
            "the data as JSON lines or parquet"
        )
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
    if elsewhere := sorted({*row} & _PROMPT_ELSEWHERE):
        raise BadRowError(f"found the prompt in {elsewhere}, expected it in a field 'prompt'")
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
        """Each file, with the split that its name says where all of them say one."""
        return splits_by_name(paths)

    def pair(self, row: Fields, context: Context) -> PreferencePair:
        """Raises BadRowError for a row of no shape, UnreadableFormatError for one of another."""
        shape = shape_of(row)
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
        if row.get("score_chosen") is not None and row["score_chosen"] == row.get("score_rejected"):
            context.report.noted[EQUAL_SCORES] += 1
        return self._without_repeated_prompt(pair, context.report)

    def _without_repeated_prompt(
        self, pair: PreferencePair, report: SourceReport
    ) -> PreferencePair:
        prompt, sides = pair.prompt, (pair.response_a, pair.response_b)
        if not prompt or not all(_begins_with(side, prompt) for side in sides):
            return pair
        report.noted[REPEATED_PROMPT] += 1
        if not self.strip_prompt:
            return pair
        a, b = (side.removeprefix(prompt).strip() for side in sides)
        return dataclasses.replace(pair, response_a=a, response_b=b)


def _begins_with(response: str, prompt: str) -> bool:
    """Whether it repeats the prompt, which ends where a word ends."""
    following = response[len(prompt) : len(prompt) + 1]
    return response.startswith(prompt) and not (prompt[-1].isalnum() and following.isalnum())


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
    return _answered(source, turns_of(row["prompt"], "field 'prompt'"), row, report)


def _sharegpt(source: Preferences, row: Fields, report: SourceReport) -> _Texts:
    system = [Turn(SYSTEM, text(row, "system"))] if row.get("system") else []
    turns = turns_of(row["conversations"], "field 'conversations'")
    return _answered(source, system + turns, row, report)


def _answered(source: Preferences, prompt: list[Turn], row: Fields, report: SourceReport) -> _Texts:
    """A conversation and two answers: texts, or messages, before which it may stand once more."""
    sides = [field(row, name) for name in ("chosen", "rejected")]
    if all(isinstance(side, str) for side in sides):
        return source.template().prompt(prompt), text(row, "chosen"), text(row, "rejected")
    names = ("field 'chosen'", "field 'rejected'")
    answers = [turns_of(side, name) for side, name in zip(sides, names, strict=True)]
    if prompt and all(answer[: len(prompt)] == prompt for answer in answers):
        report.noted[REPEATED_PROMPT] += 1
        answers = [answer[len(prompt) :] for answer in answers]
    for answer, name in zip(answers, names, strict=True):
        if answer and answer[0].role != ASSISTANT:
            raise BadRowError(f"{name}: found a turn of the {answer[0].role}, expected an answer")
    chosen, rejected = map(source.template().response, answers)
    return source.template().prompt(prompt), chosen, rejected


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
    if row.get("history"):
        raise DroppedRowError(HISTORY)
    more = [text(row, name) if row.get(name) else "" for name in ("system", "input")]
    parts = [more[0], text(row, "instruction"), more[1]]
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
