"""Responses of one or two policies to prompts, judged, as rows and on the console."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from pagap_jax.library.policy import Response, TextPolicy
from pagap_jax.library.preference_model import TextPreferenceModel

OTHER_SAMPLES = "the other samples"
_INDENT = 4
Place = tuple[str, int, int]  # policy, number of the prompt, number of the sample


def collect(
    prompts: Sequence[str],
    policies: Mapping[str, TextPolicy],
    n: int,
    seed: int,
    judge: TextPreferenceModel | None,
) -> list[dict[str, Any]]:
    """A row for each response, prompt by prompt.

    Args:
        policies: one, or two that are compared, by their paths.
        n: responses of each policy to each prompt.
    """
    sampled = {path: policy.sample(prompts, n, seed) for path, policy in policies.items()}
    responses = {
        (path, i, k): response
        for path, answers in sampled.items()
        for i, answer in enumerate(answers)
        for k, response in enumerate(answer)
    }
    verdicts = _judged(responses, prompts, judge) if judge else {}
    rows = []
    for path, i, k in sorted(responses, key=lambda place: (place[1], [*policies].index(place[0]))):
        response = responses[path, i, k]
        row = {
            "prompt_number": i,
            "prompt": prompts[i],
            "policy": path,
            "sample": k,
            "response": response.text,
            "log_prob": response.log_prob,
            "tokens": len(response.ids),
            "finished": response.finished,
        }
        if judge:
            against = next((other for other in policies if other != path), OTHER_SAMPLES)
            row["judge"] = {"against": against, **verdicts[path, i, k]}
        rows.append(row)
    return rows


def print_answers(prompts: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """The same for people, long lines wrapped."""
    console = Console(highlight=False, markup=False)
    before: tuple[int, str] | None = None
    for row in rows:
        number, policy = row["prompt_number"], row["policy"]
        if before is None or number != before[0]:
            console.print(Rule(f"prompt {number + 1} of {len(prompts)}", align="left"))
            console.print(Text(prompts[number]))
        if before != (number, policy):
            console.print(Text(f"\n{policy}", style="bold"))
        before = number, policy
        console.print(Padding(Text(row["response"]), (1, 0, 0, _INDENT), expand=False))
        console.print(Padding(Text(_about(row), style="dim"), (0, 0, 0, _INDENT), expand=False))


def _about(row: Mapping[str, Any]) -> str:
    end = "" if row["finished"] else ", cut off"
    about = f"{row['sample'] + 1}: {row['log_prob']:.2f} nats, {row['tokens']} tokens{end}"
    if (said := row.get("judge")) is None:
        return about
    beside = said["against"] if said["against"] == OTHER_SAMPLES else "the one beside"
    return (
        f"{about}; preferred to {beside}: {said['probability']:.3f}"
        f" (shown first {said['shown_first']:.3f}, second {said['shown_second']:.3f})"
    )


def _judged(
    responses: Mapping[Place, Response], prompts: Sequence[str], judge: TextPreferenceModel
) -> dict[Place, dict[str, float]]:
    """How probable each response is to be preferred, on average over those that it meets."""
    matches = list(_matches(responses))
    texts = [prompts[one[1]] for one, _ in matches]
    sides = [[responses[match[side]] for match in matches] for side in (0, 1)]
    said: dict[Place, list[tuple[float, float, float]]] = {place: [] for place in responses}
    for (one, other), v in zip(matches, judge.judge(texts, *sides), strict=True):
        said[one].append((v.probability, v.shown_first, v.shown_second))
        said[other].append((1 - v.probability, 1 - v.shown_second, 1 - v.shown_first))
    names = ("probability", "shown_first", "shown_second")
    return {
        place: dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
        for place, found in said.items()
    }


def _matches(responses: Iterable[Place]) -> Iterator[tuple[Place, Place]]:
    """Pairs to be judged: of two policies the same numbers, of one all samples of a prompt."""
    meeting: dict[Any, list[Place]] = {}
    several = len({path for path, _, _ in responses}) > 1
    for place in responses:
        _, prompt, sample = place
        meeting.setdefault((prompt, sample) if several else prompt, []).append(place)
    for places in meeting.values():
        yield from itertools.combinations(places, 2)
