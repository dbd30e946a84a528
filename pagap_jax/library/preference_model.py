"""A preference model that takes texts, with the settings of the run that made it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import scipy.special
from jax.sharding import Mesh

from pagap_jax.data.texts import Texts
from pagap_jax.errors import ConfigError
from pagap_jax.jobs.inputs import TrainedJudge
from pagap_jax.library.batches import Batches, as_many, several
from pagap_jax.library.policy import Response, encoded_responses
from pagap_jax.library.settings import JUDGE_JOB, Given, complete, texts_of
from pagap_jax.lineage import require_job
from pagap_jax.mapping.judging import Judge
from pagap_jax.model.config import T5Config
from pagap_jax.records import CHOICE_A, CHOICE_B


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a preference model says of response a beside response b.

    Attributes:
        probability: that a is preferred, from both orders.
        shown_first: that a is preferred where a is shown first; `shown_second` where b is.
        choice: 'a', 'b', or 'tie': both orders cancel, or the responses are the same.
        prompt_truncated: the prompt lost its beginning for want of room.
    """

    probability: float
    shown_first: float
    shown_second: float
    choice: str
    prompt_truncated: bool


class TextPreferenceModel:
    """A preference model with its parameters: judges pairs of responses.

    Attributes:
        texts: vocabulary and lengths.
    """

    def __init__(self, judge: Judge, texts: Texts, batches: Batches):
        """Puts built parts together; `load_preference_model` builds them."""
        self.texts, self._judge, self._batches = texts, judge, batches

    def __repr__(self) -> str:
        return f"TextPreferenceModel({self.texts})"

    def judge(
        self, texts: Sequence[str], a: Sequence[str | Response], b: Sequence[str | Response]
    ) -> list[Verdict]:
        """Which of two responses to each prompt is preferred, asked in both orders.

        Raises:
            DataError: no prompts, an empty one, or not as many responses.
        """
        prompt = self.texts.prompts(several("prompts", texts))
        first, second = (
            encoded_responses(self.texts, as_many(name, side, prompt))
            for name, side in (("a", a), ("b", b))
        )
        batch_size = self._batches.size_for(len(prompt))
        judged = dataclasses.replace(self._judge, batch_size=batch_size)(prompt, first, second)
        names = {CHOICE_A: "a", CHOICE_B: "b"}
        return [
            Verdict(
                float(judged.probability[i]),
                _probability(float(judged.log_odds_ab[i])),
                _probability(-float(judged.log_odds_ba[i])),
                names.get(int(judged.choice[i]), "tie"),
                bool(judged.prompt_truncated[i]),
            )
            for i in range(len(prompt))
        ]


def load_preference_model(
    path: str,
    *,
    model: T5Config | None = None,
    vocabulary: Any = None,
    prompt_length: int | None = None,
    response_length: int | None = None,
    input_length: int | None = None,
    mesh: Mesh | None = None,
    batch_size: int | None = None,
) -> TextPreferenceModel:
    """A preference model, with the settings of the run that made it.

    Args:
        path: a run of `preference_model`, or a checkpoint that is one, as for `load_policy`.
        input_length: tokens of prompt, two responses and two markers.

    Raises:
        ConfigError: as `load_policy`, or two responses don't fit into `input_length`.
    """
    path = str(path)
    require_job(path, "a preference model", JUDGE_JOB)
    given = Given(model, vocabulary, prompt_length, response_length, None, input_length)
    settings = complete(path, given, ("prompt_length", "response_length", "input_length"))
    batches = Batches.on(mesh, batch_size)
    assert settings.model is not None and settings.input_length is not None
    texts = texts_of(settings)
    if settings.input_length < (least := 3 + 2 * texts.response_length):
        raise ConfigError(
            f"input_length: found {settings.input_length}, expected at least {least}: two responses"
            f" of {texts.response_length} tokens, two markers and a prompt"
        )
    trained = TrainedJudge(settings.model, path, settings.input_length)
    judge = trained.compiled(settings.vocabulary, batches.mesh, batches.most, texts.response_length)
    return TextPreferenceModel(judge, texts, batches)


def _probability(log_odds: float) -> float:
    return float(scipy.special.expit(log_odds))
