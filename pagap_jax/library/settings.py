"""What a checkpoint is run with: what its run says, or its caller where no run of ours made it."""

import dataclasses
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from etils import epath

from pagap_jax.checkpoints.opening import config_of, open_checkpoint
from pagap_jax.configuration import load_job
from pagap_jax.configuration.recorded import RecordedConfiguration
from pagap_jax.data.stored_metadata import read_metadata
from pagap_jax.data.texts import Texts, kept_texts
from pagap_jax.errors import ConfigError, DataError
from pagap_jax.lineage import RUN_FILE, fingerprint_of, run_around
from pagap_jax.model.config import T5Config
from pagap_jax.sampling.methods import SamplingMethod

JUDGE_JOB = "preference_model"


@dataclasses.dataclass(frozen=True)
class Given:
    """What a caller says of a checkpoint; None leaves it to the checkpoint's run.

    Attributes:
        vocabulary: seqio's.
        prompt_length: tokens, end token included; `response_length` likewise.
        input_length: of a preference model: tokens of prompt, two responses and two markers.
    """

    model: T5Config | None = None
    vocabulary: Any = None
    prompt_length: int | None = None
    response_length: int | None = None
    sampling: SamplingMethod | None = None
    input_length: int | None = None


class RecordedRun:
    """A run of ours, by its folder or by anything in it.

    Attributes:
        folder: the run's.
        identity: what its run.json holds.
    """

    def __init__(self, folder: epath.PathLike, identity: dict[str, Any], checkpoint: str):
        """Takes what `run_around` found of a checkpoint; reads nothing more."""
        self.folder, self.identity = epath.Path(folder), identity
        self._checkpoint = checkpoint
        self._recorded = RecordedConfiguration(
            identity["configuration"], str(self.folder / RUN_FILE)
        )

    @classmethod
    def of(cls, checkpoint: str) -> "RecordedRun | None":
        """The run that made a checkpoint; None where no run of ours did."""
        found = run_around(checkpoint)
        return found and cls(*found, checkpoint)

    @property
    def job(self) -> str:
        return self.identity["job"]

    def model(self) -> T5Config:
        """The T5 that was trained; sizes that were read off another checkpoint are its own too."""
        return self._build(f"{self.job}.model", lambda name: self._checkpoint)

    def vocabulary(self) -> Any:
        """seqio's; raises ConfigError where run.json doesn't tell it."""
        kept = kept_texts(self.folder)
        if kept is not None and kept[0] is not None:
            return kept[0]
        return self._build(f"{self.job}.vocabulary")

    def lengths(self) -> tuple[int, int]:
        """Tokens of prompts and of responses.

        Raises:
            ConfigError: the run didn't keep them, and its data aren't where they were.
        """
        if (kept := kept_texts(self.folder)) is not None:
            return kept[1:]
        metadata = read_metadata(self.pairs_dir())
        return int(metadata["prompt_length"]), int(metadata["response_length"])

    def sampling(self) -> SamplingMethod:
        """How responses were drawn in training; the plain method where training drew none."""
        for line in self.identity["configuration"]:
            key = line.partition(" = ")[0]
            if key.rpartition("/")[2] == "Online.sampling":
                return self._build(key)
        return SamplingMethod()

    def input_length(self) -> int:
        """Tokens that a preference model sees at once."""
        return self._build(f"{self.job}.input_length")

    def pairs_dir(self) -> str:
        """The data set that the run was trained on, where it was or beside the run.

        Raises:
            ConfigError: it is at neither place, or was made anew since.
        """
        recorded = self.identity["parents"]["pairs"]
        beside = self.folder.parent / PurePosixPath(recorded["path"]).name
        for place in (recorded["path"], str(beside)):
            if fingerprint_of(place) == recorded["fingerprint"]:
                return place
        raise ConfigError(
            f"{self.folder}: found its data neither at {recorded['path']} nor at {beside}, expected"
            f" the data set of fingerprint {recorded['fingerprint']!r}"
        )

    def _build(self, key: str, *place: Callable[[str], Any]) -> Any:
        load_job(self.job)  # gin knows by name what has been imported
        return self._recorded.build(key, *place)


def complete(checkpoint: str, given: Given, needs: tuple[str, ...]) -> Given:
    """`given`, and what its run says where it says nothing.

    Args:
        checkpoint: a run's folder, one of its checkpoints, or a checkpoint of another program.
        needs: names of fields of `Given` beside the model and the vocabulary.

    Raises:
        ConfigError: something is known from neither; names it and the argument that gives it.
    """
    run = RecordedRun.of(checkpoint)
    missing = [name for name in ("vocabulary", *needs) if getattr(given, name) is None]
    if run is None:
        open_checkpoint(checkpoint)  # what isn't there lacks more than settings
        given = dataclasses.replace(given, sampling=given.sampling or SamplingMethod())
        missing = [name for name in missing if getattr(given, name) is None]
        if missing:
            raise ConfigError(
                f"{checkpoint}: no run of ours made it, so {', '.join(missing)} can't be known:"
                " expected them as arguments"
            )
        return dataclasses.replace(given, model=given.model or config_of(checkpoint))
    found: dict[str, Any] = {}
    for name in ("model", *missing):
        if getattr(given, name) is None:
            found[name] = _said_by(run, name)
    return dataclasses.replace(given, **found)


def texts_of(settings: Given) -> Texts:
    """How texts become ids; of complete settings."""
    assert settings.prompt_length is not None and settings.response_length is not None
    return Texts(settings.vocabulary, settings.prompt_length, settings.response_length)


def _said_by(run: RecordedRun, name: str) -> Any:
    ways = {
        "model": run.model,
        "vocabulary": run.vocabulary,
        "prompt_length": lambda: run.lengths()[0],
        "response_length": lambda: run.lengths()[1],
        "sampling": run.sampling,
        "input_length": run.input_length,
    }
    try:
        return ways[name]()
    except (ConfigError, DataError) as error:
        raise ConfigError(f"{error}; or give {name}") from error
