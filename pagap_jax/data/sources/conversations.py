r"""Conversations as text, by one template, and where two of them part.

The default template is that of Anthropic's transcripts: "\n\nHuman: ...\n\nAssistant: ...".
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import gin

from pagap_jax.data.sources.rows import (
    DIVERGES_EARLY,
    NULL,
    BadRowError,
    DroppedRowError,
    SourceReport,
    checked_text,
    shown,
)
from pagap_jax.errors import ConfigError

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
OTHER_PARTS = "pictures, files or other parts that aren't text"
TOOLS = "calls of tools"
NO_COMMON_PROMPT = "conversations without a user's turn in common"

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "bot", "model"), ASSISTANT),
    "system": SYSTEM,
}
_TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython")


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one side says at a time; `role` is USER, ASSISTANT or SYSTEM."""

    role: str
    text: str


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    r"""What stands in front of each turn; a blank parts it from the turn's text.

    A turn without a text is its mark alone. A prompt ends with the assistant's mark, and the
    response is what follows it.
    """

    user: str = "\n\nHuman:"
    assistant: str = "\n\nAssistant:"
    system: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError where two sides couldn't be told apart."""
        if not self.user.strip() or not self.assistant.strip() or self.user == self.assistant:
            raise ConfigError(
                f"ChatTemplate: found user {self.user!r} and assistant {self.assistant!r}, "
                "expected two different texts"
            )

    def prompt(self, turns: Sequence[Turn]) -> str:
        """The turns as text, and the mark that asks for an answer."""
        return (self._joined(turns) + self.assistant).strip() if turns else ""

    def response(self, turns: Sequence[Turn]) -> str:
        """What follows a prompt: the text of the first turn, then further turns with marks."""
        return (turns[0].text.strip() + self._joined(turns[1:])).strip() if turns else ""

    def _joined(self, turns: Sequence[Turn]) -> str:
        marks = {USER: self.user, ASSISTANT: self.assistant, SYSTEM: self.system}
        return "".join(f"{marks[turn.role]} {turn.text.strip()}".rstrip() for turn in turns)


def turns_of(value: Any, where: str) -> list[Turn]:
    """The turns of a list of messages: (role, content) as of most, (from, value) as of ShareGPT.

    Raises:
        BadRowError: it's no such list.
        DroppedRowError: a turn is null, or holds something else than text.
    """
    messages = [value] if isinstance(value, dict) else value
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise BadRowError(f"{where}: found {shown(value)}, expected a list of messages")
    return [_turn(turn, f"{where}[{i}]") for i, turn in enumerate(messages)]


def _turn(message: dict[str, Any], where: str) -> Turn:
    role = message.get("role", message.get("from"))
    if role in _TOOL_ROLES:
        raise DroppedRowError(TOOLS)
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRowError(f"{where}: found role {shown(role)}, expected one of {sorted(_ROLES)}")
    if "content" not in message and "value" not in message:
        raise BadRowError(f"{where}: found fields {sorted(message)}, expected 'content' or 'value'")
    return Turn(_ROLES[role], text_of_parts(message.get("content", message.get("value")), where))


def text_of_parts(content: Any, where: str) -> str:
    """A text, or a list of typed parts all of which are text."""
    if content is None:
        raise DroppedRowError(NULL)
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            raise DroppedRowError(OTHER_PARTS)
        texts = [part.get("text", part.get("value")) for part in content]
        if None in texts:
            raise DroppedRowError(NULL)
        return "\n".join(checked_text(part, where) for part in texts)
    return checked_text(content, where)


def part(
    a: Sequence[Turn], b: Sequence[Turn], report: SourceReport, keep_diverging: bool
) -> tuple[list[Turn], list[Turn], list[Turn]]:
    """What two conversations have in common up to a user's turn, and what follows in each.

    Where they part before the last turn, what follows runs over several turns: both still answer
    the same prompt.

    Args:
        a: a whole conversation.
        b: another one.
        report: such pairs are noted there.
        keep_diverging: whether they are kept.

    Raises:
        DroppedRowError: they have no user's turn in common, or they part early and such are left
            out.
    """
    common = [x for x, y in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b))]  # noqa: B905
    while common and common[-1].role != USER:
        common.pop()
    if not common:
        raise DroppedRowError(NO_COMMON_PROMPT)
    rest = list(a[len(common) :]), list(b[len(common) :])
    if max(map(len, rest)) > 1:
        if not keep_diverging:
            raise DroppedRowError(DIVERGES_EARLY)
        report.noted[DIVERGES_EARLY] += 1
    return common, *rest
