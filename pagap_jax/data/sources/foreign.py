"""Formats that aren't read because what they mean isn't certain, or another task reads them.

Each is told by its columns; the error says in a few lines how to convert a file.
"""

from pagap_jax.data.sources.rows import Fields

_READ = "import json, pathlib; rows = map(json.loads, pathlib.Path('IN').read_bytes().splitlines())"
_WRITE = "pathlib.Path('OUT.jsonl').write_text('\\n'.join(map(json.dumps, pairs)))"

# Columns that tell a format, what it is, and how its rows become pairs. What each label means is
# taken from the data set's card.
_FORMATS: tuple[tuple[set[str], str, str], ...] = (
    (
        {"history", "human_ref_A", "human_ref_B", "labels"},
        "SHP, where label 1 means that A is preferred",
        "pairs = ({'prompt': r['history'], 'response_a': r['human_ref_A'],"
        " 'response_b': r['human_ref_B'], 'choice': 1 - r['labels']} for r in rows)",
    ),
    (
        {"response_1", "response_2", "preference_strength"},
        "HelpSteer2's preferences, where a strength below 0 means response 1, and 0 neither",
        "pairs = ({'prompt': r['prompt'], 'response_a': r['response_1'],"
        " 'response_b': r['response_2'], 'choice': int(r['preference_strength'] > 0)}"
        " for r in rows if r['preference_strength'])",
    ),
    (
        {"context", "response1", "response2", "overall_preference"},
        "HelpSteer3, where a preference below 0 means response 1, and 0 neither",
        "pairs = ({'prompt': r['context'],"
        " **{k: [{'role': 'assistant', 'content': r[v]}] for k, v in"
        " zip(('chosen', 'rejected'), ('response1', 'response2')"
        "[::1 if r['overall_preference'] < 0 else -1])}} for r in rows if r['overall_preference'])",
    ),
    (
        {"prompt", "response", "helpfulness", "correctness"},
        "HelpSteer's ratings, two rows a prompt, of which you decide what makes one better",
        "rows = list(rows); pairs = ({'prompt': a['prompt'], 'response_a': a['response'],"
        " 'response_b': b['response'], 'choice': int(b['helpfulness'] > a['helpfulness'])}"
        " for a, b in zip(rows[::2], rows[1::2]) if a['helpfulness'] != b['helpfulness'])",
    ),
    (
        {"prompt", "answers"},
        "Nectar, seven answers ranked from 1, the best, of which you decide who meets whom",
        "ranked = ((r['prompt'], sorted(r['answers'], key=lambda a: a['rank'])) for r in rows);"
        " pairs = ({'prompt': p, 'chosen': a[0]['answer'], 'rejected': a[-1]['answer']}"
        " for p, a in ranked)",
    ),
    (
        {"prompt", "response_0", "response_1", "better_response_id"},
        "PKU-SafeRLHF, which labels both the better and the safer response: you decide which",
        "pairs = ({'prompt': r['prompt'], 'response_a': r['response_0'],"
        " 'response_b': r['response_1'], 'choice': r['better_response_id']} for r in rows)",
    ),
)
_OTHER_TASKS: tuple[tuple[set[str], str, str], ...] = (
    ({"info", "summaries"}, "OpenAI's summarization comparisons", "summarize_from_feedback"),
    (
        {"input_text", "candidate_0", "candidate_1"},
        "Google's re-export of the summarization comparisons",
        "summarize_from_feedback",
    ),
    ({"conversation_a", "conversation_b", "winner"}, "Chat arena's battles", "chatbot_arena"),
    ({"winner_model_a", "winner_model_b"}, "Chat arena's battles", "chatbot_arena"),
)


def refusal(row: Fields) -> str | None:
    """What a row of a known format that `preferences` doesn't read is, and what to do."""
    for columns, name, task in _OTHER_TASKS:
        if columns <= {*row}:
            return f"found {name}: MIXTURE_OR_TASK_NAME = {task!r} reads them"
    for columns, name, lines in _FORMATS:
        if columns <= {*row}:
            return f"found {name}. These lines convert it:\n    {_READ}\n    {lines}\n    {_WRITE}"
    return None
