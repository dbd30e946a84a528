"""D_online: all that an online run sampled, in order, at token level (App. F)."""

import dataclasses
import io
from typing import Any

import jax
import numpy as np
from etils import epath

from pagap_jax.align.pairs import PairBatch
from pagap_jax.buckets import entries
from pagap_jax.data.reading import read_token_pairs
from pagap_jax.data.stored import TokenPairs, write_token_pairs
from pagap_jax.data.stored_metadata import METADATA_FILE, is_complete
from pagap_jax.errors import DataError
from pagap_jax.files import read_arrays, write_atomically
from pagap_jax.processes import is_first
from pagap_jax.records import CHOICE_UNKNOWN, D_ONLINE


class StreamRecorder:
    """Keeps each step's prompts, both responses, labels and step, row for row as in the batch.

    Steps since the last checkpoint are in memory, earlier ones in a file a checkpoint; `finish`
    makes one TFDS data set of them. A killed run forgets what came after its last checkpoint, and
    makes the same again.
    """

    def __init__(self, run: epath.Path, prompt_length: int):
        """Takes the run's folder, and the length that prompts are padded to again.

        A step is given its prompts trimmed; a replay trims them as the run did.
        """
        self._stream = run / "stream"
        self._dataset = run / D_ONLINE
        self._prompt_length = prompt_length
        self._pending: list[tuple[int, Any]] = []  # steps and their records

    def resume(self, step: int) -> None:
        """Drops what was recorded of steps from `step` on, and looks whether the rest is whole.

        Raises:
            DataError: it isn't; says from which step on the run can be made again.
        """
        if not is_first():
            return
        self._stream.mkdir(parents=True, exist_ok=True)
        self._take_back(step)
        for file in entries(self._stream):
            if not file.name.endswith(".npz") or int(file.stem) > step:
                file.unlink()
        recorded = 0  # steps
        for file in entries(self._stream):
            found = self._read(file, recorded)["step"]
            if found.min() != recorded or int(found.max()) + 1 != int(file.stem):
                break
            recorded = int(file.stem)
        if recorded != step:
            raise DataError(
                f"{self._stream}: nothing recorded of step {recorded}{_way_back(recorded)}"
            )

    def _read(self, file: epath.Path, recorded: int) -> dict[str, np.ndarray]:
        """A file's columns, whose own checksums tell what is damaged."""
        try:
            return read_arrays(file, *(field.name for field in dataclasses.fields(TokenPairs)))
        except DataError as error:
            raise DataError(
                f"{error}: steps {recorded} to {int(file.stem) - 1} of D_online"
                f"{_way_back(recorded)}"
            ) from error

    def add(self, step: int, record: tuple[jax.Array, PairBatch]) -> None:
        """Keeps a step's prompts and pairs; on the devices those of the last step alone.

        That of the step before is fetched while this one runs.
        """
        if self._pending:
            before, made = self._pending.pop()
            self._pending.append((before, jax.device_get(made)))
        self._pending.append((step, record))

    def flush(self) -> None:
        """Writes the pending steps to a file named by the step after the last of them."""
        if not self._pending:
            return
        steps = [step for step, _ in self._pending]
        records = jax.device_get([record for _, record in self._pending])
        self._pending = []
        if not is_first():  # every process has all of it
            return
        prompts = np.concatenate([self._padded(prompt) for prompt, _ in records])
        pairs = jax.tree.map(lambda *x: np.concatenate(x), *[pairs for _, pairs in records])
        columns = TokenPairs(
            prompt=prompts,
            response_a=pairs.response_a,
            response_b=pairs.response_b,
            choice=pairs.choice.astype(np.int8),
            true_choice=np.full(len(prompts), CHOICE_UNKNOWN, np.int8),
            probability=pairs.probability,
            step=np.repeat(np.array(steps, np.int32), len(prompts) // len(steps)),
        )
        self._write(columns)

    def _padded(self, prompt: np.ndarray) -> np.ndarray:
        return np.pad(prompt, ((0, 0), (0, self._prompt_length - prompt.shape[1])))

    def _write(self, pairs: TokenPairs) -> epath.Path:
        path = self._stream / f"{pairs.step.max() + 1:08d}.npz"
        content = io.BytesIO()
        np.savez(content, **{f.name: getattr(pairs, f.name) for f in dataclasses.fields(pairs)})
        write_atomically(path, content.getvalue())
        return path

    def _take_back(self, step: int) -> None:
        """D_online until `step` as the one file of its stream again, where it was made before.

        Of a run that is extended, that goes back, or that was killed before it was finished.
        """
        if not is_complete(self._dataset):
            return
        pairs = read_token_pairs(self._dataset, "train")
        kept = {name: column[pairs.step < step] for name, column in vars(pairs).items()}
        whole = self._write(TokenPairs(**kept)) if step else None
        for file in self._stream.iterdir():
            if file != whole:
                file.unlink()
        (self._dataset / METADATA_FILE).unlink()
        self._dataset.rmtree()

    def finish(self, vocabulary: Any, report: dict) -> None:
        """Writes the whole stream as a TFDS data set with one split, 'train'.

        Raises:
            DataError: a step is missing from the stream.
        """
        if not is_first():
            return
        parts: list[dict[str, np.ndarray]] = []
        for path in entries(self._stream):
            parts.append(self._read(path, int(parts[-1]["step"].max()) + 1 if parts else 0))
        stream = TokenPairs(**{k: np.concatenate([p[k] for p in parts]) for k in parts[0]})
        gaps = np.setdiff1d(np.arange(stream.step.max() + 1), stream.step)
        if len(gaps):
            raise DataError(f"{self._stream}: nothing recorded of step {gaps[0]}")
        write_token_pairs(self._dataset, {"train": stream}, vocabulary, report)
        self._stream.rmtree(missing_ok=True)


def _way_back(recorded: int) -> str:
    """What to do where the stream is whole up to a step."""
    if not recorded:
        return ". Give another MODEL_DIR, or delete this one: nothing before it was recorded"
    return f". --gin.RESTORE_STEP={recorded} makes the run from there on again, if it is saved"
