"""The few samples of each checkpoint that are kept as text, for people to read.

They are among those that the win rate is measured on: nothing is sampled or judged for them alone.
"""

from typing import Any

import numpy as np
from jaxtyping import Int

from pagap_jax.data.prompts import decoded
from pagap_jax.data.reading import StoredPairs
from pagap_jax.preference_models import Judgement

SHOWN_PROMPTS = 16


def shown_rows(prompt_id: Int[np.ndarray, " E"]) -> Int[np.ndarray, " S"]:
    """Rows of the prompts with the lowest ids, one a prompt, by id; at most `SHOWN_PROMPTS`.

    Ids are hashes of the prompts' texts, so this is a draw; it depends on the prompts alone, not
    on a seed or on their order, and so is the same for every checkpoint and run of a study.
    """
    _, first = np.unique(prompt_id, return_index=True)
    return first[:SHOWN_PROMPTS]


def shown_of(
    prompt_id: Int[np.ndarray, " E"],
    response: Int[np.ndarray, "E R"],
    golden: Judgement,
    proxy: Judgement,
) -> dict[str, np.ndarray]:
    """A checkpoint's shown samples, with what both judges say of them.

    Args:
        response: in tokens.
        golden: verdicts on the responses as a, against the golden policy's as b.
        proxy: the proxy model's, likewise.

    Returns:
        response [S, R]; golden_probability and proxy_probability [S], that the judge prefers it.
    """
    rows = shown_rows(prompt_id)
    return {
        "response": response[rows],
        "golden_probability": np.asarray(golden.probability)[rows],
        "proxy_probability": np.asarray(proxy.probability)[rows],
    }


def shown_texts(golden_responses: StoredPairs, vocabulary: Any) -> list[dict[str, Any]]:
    """What the shown samples of all checkpoints have in common, by prompt.

    Returns:
        prompt_id, prompt, and golden_response, the golden policy's fixed response.
    """
    rows = shown_rows(golden_responses.prompt_id)
    prompts, golden = (
        decoded(column[rows], vocabulary)
        for column in (golden_responses.prompt, golden_responses.response_a)
    )
    ids = golden_responses.prompt_id[rows].tolist()
    return [
        {"prompt_id": number, "prompt": prompt, "golden_response": response}
        for number, prompt, response in zip(ids, prompts, golden, strict=True)
    ]


def samples_as_rows(
    texts: list[dict[str, Any]], shown: dict[str, np.ndarray], vocabulary: Any
) -> list[dict[str, Any]]:
    """One checkpoint's shown samples, as JSON values.

    Args:
        texts: of `shown_texts`.
        shown: of `shown_of`.
    """
    responses = decoded(shown["response"], vocabulary)
    numbers = {name: shown[name].tolist() for name in shown if name != "response"}
    return [
        {**text, "response": responses[i], **{name: numbers[name][i] for name in numbers}}
        for i, text in enumerate(texts)
    ]
