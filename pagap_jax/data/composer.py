"""The input of a preference model, from token ids; one function for host and device."""

import dataclasses
from types import ModuleType

from jaxtyping import Bool, Int

from pagap_jax.array_types import Array, PreferenceTokens, PromptTokens, ResponseTokens

SEGMENT_PROMPT, SEGMENT_A, SEGMENT_B = 0, 1, 2
NUM_SEGMENTS = 3


@dataclasses.dataclass(frozen=True)
class PreferenceInput:
    """`[prompt] <marker a> [response a] <marker b> [response b]`, padded at the end.

    `tokens` and `segments` are [B, L]; `prompt_truncated` says whose prompt lost its beginning.
    """

    tokens: PreferenceTokens
    segments: PreferenceTokens
    prompt_truncated: Bool[Array, " B"]


def compose_preference_input(
    prompt: PromptTokens,
    response_a: ResponseTokens,
    response_b: ResponseTokens,
    *,
    length: int,
    marker_a: int,
    marker_b: int,
) -> PreferenceInput:
    """Lays a prompt and two responses side by side in `length` tokens.

    Tokens, not strings, because a string may tokenise otherwise than the sample it was decoded
    from (App. F). Responses are kept whole, end token included (whether a response ended is
    something to judge); where the room is short the prompt loses tokens at its beginning.

    Raises:
        ValueError: two responses of full length don't fit beside the markers and one prompt token.
    """
    xp: ModuleType = prompt.__array_namespace__()
    room = length - 2 - response_a.shape[1] - response_b.shape[1]
    if room < 1:
        raise ValueError(
            f"a preference input of {length} tokens can't hold responses of {response_a.shape[1]}"
            f" and {response_b.shape[1]} tokens, two markers and a prompt"
        )
    lengths = [xp.sum(x > 0, axis=1)[:, None] for x in (prompt, response_a, response_b)]
    skipped = xp.maximum(lengths[0] - (length - 2 - lengths[1] - lengths[2]), 0)
    start_a = lengths[0] - skipped + 1
    start_b = start_a + lengths[1] + 1
    position = xp.arange(length)[None, :]
    parts: list[Array] = [
        _part(xp, prompt, position + skipped, lengths[0]),
        _part(xp, response_a, position - start_a, lengths[1]),
        _part(xp, response_b, position - start_b, lengths[2]),
        xp.where(position == start_a - 1, marker_a, 0),
        xp.where(position == start_b - 1, marker_b, 0),
    ]
    tokens: Array = sum(parts[1:], parts[0])  # at each position one part at most isn't 0
    segments = SEGMENT_A * (position >= start_a - 1) + (SEGMENT_B - SEGMENT_A) * (
        position >= start_b - 1
    )
    return PreferenceInput(
        tokens.astype(prompt.dtype),
        xp.where(tokens > 0, segments, SEGMENT_PROMPT).astype(prompt.dtype),
        skipped[:, 0] > 0,
    )


def _part(xp: ModuleType, tokens: Int[Array, "B T"], index: Array, size: Array) -> Array:
    """`tokens[index]` where 0 <= index < size, else 0."""
    inside = (index >= 0) & (index < size)
    gathered = xp.take_along_axis(tokens, xp.clip(index, 0, tokens.shape[1] - 1), axis=1)
    return xp.where(inside, gathered, 0)
