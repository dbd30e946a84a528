"""A preference model's input, put together one list at a time."""


def compose(prompt, response_a, response_b, length: int, marker_a: int, marker_b: int):
    """Tokens, segments and whether the prompt was cut, of one example given as padded ids."""
    prompt, response_a, response_b = (
        [int(t) for t in x if t > 0] for x in (prompt, response_a, response_b)
    )
    room = length - len(response_a) - len(response_b) - 2
    kept = prompt[len(prompt) - room :] if len(prompt) > room else prompt
    tokens = [*kept, marker_a, *response_a, marker_b, *response_b]
    segments = [0] * len(kept) + [1] * (1 + len(response_a)) + [2] * (1 + len(response_b))
    padding = [0] * (length - len(tokens))
    return tokens + padding, segments + padding, len(kept) < len(prompt)
