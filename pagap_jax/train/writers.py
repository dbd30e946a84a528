"""Where a run's metrics go beside metrics.jsonl: TensorBoard by CLU, Weights & Biases."""

import ast
import importlib.util
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from pagap_jax.errors import ConfigError
from pagap_jax.files import read_json_lines
from pagap_jax.processes import is_first
from pagap_jax.run_directory import RunDirectory

# metrics.jsonl is written whatever is named: runs are resumed from it, and reports read it.
Destination = Literal["jsonl", "tensorboard", "wandb"]
PACKAGES: Mapping[str, Sequence[str]] = {
    "jsonl": (),
    "tensorboard": ("clu", "tensorboard"),
    "wandb": ("wandb",),
}
TENSORBOARD_DIR, WANDB_ID_FILE = "tensorboard", "wandb_id.txt"


@runtime_checkable  # so that the tests can check it
class MetricWriter(Protocol):
    """The part of CLU's interface that a log of metrics needs."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def check_installed(destinations: Sequence[Destination]) -> None:
    """Raises ConfigError where a destination needs a package that isn't installed."""
    for name in destinations:
        missing = [package for package in PACKAGES[name] if not importlib.util.find_spec(package)]
        if missing:
            raise ConfigError(
                f"METRICS: found {name!r}, which needs {' and '.join(missing)}: run"
                f" `pip install {' '.join(missing)}`, or leave it out"
            )


def open_writers(destinations: Sequence[Destination], run: RunDirectory) -> list[MetricWriter]:
    """Writers for what is named beside 'jsonl', given the run's settings; none but in one process.

    They are to be given every row of metrics.jsonl from the first one on.
    """
    opened = {"tensorboard": _open_tensorboard, "wandb": WandbWriter}
    names = [name for name in dict.fromkeys(destinations) if name in opened]
    return [opened[name](run) for name in names] if is_first() else []


def settings_of(run: RunDirectory) -> dict[str, int | float | str]:
    """The run's configuration by parameter: numbers as numbers, all else as text."""
    lines = (line.partition(" = ") for line in run.identity["configuration"])
    return {name: _number_or_text(value) for name, _, value in lines}


def _number_or_text(value: str) -> int | float | str:
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return found if isinstance(found, int | float | str) else value


def _open_tensorboard(run: RunDirectory) -> MetricWriter:
    """CLU's writer of TensorBoard's files, in MODEL_DIR/tensorboard.

    Written anew from metrics.jsonl whenever a run goes on: files of TensorBoard can't forget the
    steps that are made again, and those would have two points. The rows of before then have the
    time of going on; metrics.jsonl keeps theirs.
    """
    from pagap_jax.data.quiet_seqio import seqio  # noqa: F401  # isort: skip  # before TensorFlow
    from clu.metric_writers import SummaryWriter  # isort: skip

    folder = run.path / TENSORBOARD_DIR
    if folder.exists():
        folder.rmtree()
    writer = SummaryWriter(os.fspath(folder))
    settings = settings_of(run)
    writer.write_hparams(settings)
    text = "\n".join(f"    {line}" for line in run.identity["configuration"])
    writer.write_texts(0, {"configuration": text})  # indented, Markdown leaves lines as they are
    writer.flush()
    return writer


class WandbWriter:
    """A run of Weights & Biases, in WANDB_PROJECT or 'pagap_jax'; WANDB_MODE=offline needs no net.

    The folder keeps the run's id, so that a run that goes on has one curve. W&B takes no step back:
    of those that are made again it keeps the first.
    """

    def __init__(self, run: RunDirectory):
        import wandb

        place, given = run.path / WANDB_ID_FILE, 0
        if place.exists():
            given = _last_step(run)
        else:
            place.write_text(uuid.uuid4().hex[:12])
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "pagap_jax"),
            id=place.read_text(),
            name=run.path.name,
            dir=os.fspath(run.path),
            config=settings_of(run),
            resume="allow",
        )
        # W&B counts on from its last step where it reaches its server, otherwise from 0.
        self._next = self._run.step or given + 1

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs a row unless W&B has its step."""
        if step >= self._next:
            self._run.log(dict(scalars), step=step)
            self._next = step + 1

    def close(self) -> None:
        """Waits for what is on its way to the server."""
        self._run.finish()


def _last_step(run: RunDirectory) -> int:
    """The last step that the run has a row of, one that will be made again too; 0 for none."""
    return max((row["step"] for row in read_json_lines(run.metrics, "step")), default=0)
