"""Conversations as text."""

import pytest

from pagap_jax.data.sources.conversations import (
    NO_COMMON_PROMPT,
    OTHER_PARTS,
    TOOLS,
    ChatTemplate,
    Turn,
    part,
    turns_of,
)
from pagap_jax.data.sources.rows import NULL, DroppedRowError, SourceReport
from pagap_jax.errors import ConfigError


def turns(*texts, first="user"):
    roles = ["user", "assistant"][:: 1 if first == "user" else -1]
    return [Turn(roles[i % 2], text) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (turns("q"), "Human: q\n\nAssistant:"),
        (turns(" q\n", "a", "r"), "Human: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:"),
        (turns("q", "", "r"), "Human: q\n\nAssistant:\n\nHuman: r\n\nAssistant:"),
        ([Turn("system", "Be brief."), *turns("q")], "Be brief.\n\nHuman: q\n\nAssistant:"),
        ([Turn("system", ""), *turns("q")], "Human: q\n\nAssistant:"),
        (turns(""), "Human:\n\nAssistant:"),
        ([], ""),
    ],
)
def test_the_default_template_is_that_of_hh(said, text):
    assert ChatTemplate().prompt(said) == text


def test_a_response_is_what_follows_the_prompt():
    template = ChatTemplate()
    answer = turns("a", "r", "b", first="assistant")
    assert template.response(answer[:1]) == "a"
    whole = template.prompt(turns("q")) + " " + template.response(answer)
    assert whole + "\n\nHuman: s\n\nAssistant:" == template.prompt(turns("q", "a", "r", "b", "s"))
    assert template.response([]) == ""


def test_another_template():
    template = ChatTemplate(user="\n<user>", assistant="\n<model>", system="<system>")
    said = [Turn("system", "s"), *turns("q", "a", "r")]
    assert template.prompt(said) == "<system> s\n<user> q\n<model> a\n<user> r\n<model>"
    with pytest.raises(ConfigError, match="ChatTemplate: found user ' ' and"):
        ChatTemplate(user=" ")


@pytest.mark.parametrize("role", ["user", "human", "prompter"])
def test_roles_have_several_names(role):
    assert turns_of([{"from": role, "value": "q"}], "x") == turns("q")
    assert turns_of({"role": role, "content": [{"type": "text", "text": "q"}]}, "x") == turns("q")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, NULL),
        ([{"type": "text", "text": None}], NULL),
        ([{"type": "image", "image": "x"}], OTHER_PARTS),
        (["q"], OTHER_PARTS),
    ],
)
def test_turns_without_text_are_left_out(content, reason):
    with pytest.raises(DroppedRowError, match=reason):
        turns_of([{"role": "user", "content": content}], "x")


def test_tools_are_left_out():
    with pytest.raises(DroppedRowError, match=TOOLS):
        turns_of([{"role": "tool", "content": "42"}], "x")


def test_where_two_conversations_part():
    report = SourceReport()
    a, b = turns("q", "x", "r", "y"), turns("q", "x", "r", "z")
    assert part(a, b, report, False) == (a[:3], a[3:], b[3:])
    assert part(a, a, report, False) == (a[:3], a[3:], a[3:])  # the same answer, told later
    assert not report.noted
    assert part(a, turns("q", "w"), report, True) == (a[:1], a[1:], turns("w", first="assistant"))
    assert report.noted.total() == 1
    with pytest.raises(DroppedRowError, match=NO_COMMON_PROMPT):
        part(a, turns("p", "x"), report, True)
