"""`pagap show PAIRS_DIR`: a few pairs of a data set as text, the chosen one first.

Takes any data set of pairs: D_initial, D_golden, sampled ones, and D_online by the folder of its
online run, each pair with the step, the label and the judge's probability.
"""

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from pagap_jax.arguments import ArgumentParser
from pagap_jax.data.reading import open_token_pairs
from pagap_jax.data.stored import TOKEN_COLUMNS
from pagap_jax.data.stored_metadata import METADATA_FILE, local_folder, read_metadata
from pagap_jax.errors import ConfigError
from pagap_jax.records import CHOICE_A, CHOICE_B, CHOICE_UNKNOWN, D_ONLINE

_WIDTH = 100  # characters
_LABELS = {CHOICE_A: "label a", CHOICE_B: "label b", CHOICE_UNKNOWN: "no label"}


def run_command(argv: Sequence[str]) -> int:
    """Prints them; 0.

    Raises:
        ConfigError: bad arguments.
        DataError: no data set there, or a damaged one.
    """
    parser = ArgumentParser(prog="pagap show", description=__doc__)
    parser.add_argument("data_set", metavar="PAIRS_DIR", help="or the folder of an online run")
    parser.add_argument("--split", default="train")
    parser.add_argument("--pairs", type=int, default=5, help="so many, evenly spaced (default 5)")
    parser.add_argument("--step", type=int, help="of D_online: those sampled at this step alone")
    parser.add_argument("--tokens", action="store_true", help="ids as well")
    arguments = parser.parse_args(argv)
    if arguments.pairs < 1:
        raise ConfigError(f"--pairs: found {arguments.pairs}, expected 1 or more")
    folder = _data_set(arguments.data_set)
    metadata = read_metadata(folder)
    pairs = open_token_pairs(folder, arguments.split)
    found = _rows(folder, pairs.step, arguments.step)
    rows = found[np.unique(np.linspace(0, len(found) - 1, arguments.pairs).round().astype(int))]
    sizes = ", ".join(f"{size:,} in {split}" for split, size in metadata["splits"].items())
    print(f"{folder}: {sizes}")
    for row, example in zip(rows.tolist(), _examples(folder, arguments.split, rows), strict=True):
        print("\n".join(_lines(row, example, arguments.tokens)))
    return 0


def _data_set(folder: str) -> str:
    """The folder itself; of an online run, its D_online."""
    online = epath.Path(folder) / D_ONLINE
    is_run = not (epath.Path(folder) / METADATA_FILE).exists()
    return os.fspath(online) if is_run and online.is_dir() else folder


def _rows(folder: str, steps: np.ndarray, step: int | None) -> np.ndarray:
    """Numbers of the pairs of a step, or of all; raises ConfigError where the step has none."""
    if step is None:
        return np.arange(len(steps))
    if not len(found := np.flatnonzero(steps == step)):
        known = f"{steps.min()} to {steps.max()}" if steps.max() >= 0 else "none: it isn't D_online"
        raise ConfigError(f"--step: found {step}, expected one of {folder}'s steps, {known}")
    return found


def _examples(folder: str, split: str, rows: np.ndarray) -> list[dict[str, Any]]:
    """With the texts, which are stored for people and read by nothing else."""
    import tensorflow_datasets as tfds

    source: Any = tfds.builder_from_directory(local_folder(folder)).as_data_source(split)
    return source.__getitems__(rows.tolist())


def _lines(row: int, example: dict[str, Any], with_tokens: bool) -> Iterator[str]:
    choice, step = int(example["choice"]), int(example["step"])
    about = [f"pair {row}"]
    if step >= 0:
        about.append(f"sampled at step {step}")
    about.append(_LABELS[choice])
    if not np.isnan(example["probability"]):
        about.append(f"P(a preferred) {float(example['probability']):.3f}")
    if example["true_choice"] != CHOICE_UNKNOWN:
        about.append(
            "the hidden score agrees"
            if example["true_choice"] == choice
            else "the hidden score disagrees"
        )
    yield f"\n--- {', '.join(about)}"
    columns = list(TOKEN_COLUMNS)
    if choice == CHOICE_B:
        columns[1:] = columns[:0:-1]
    names = ["prompt", "chosen", "rejected"]
    if choice == CHOICE_UNKNOWN:
        names[1:] = ["no choice", "no choice"]
    for name, column in zip(names, columns, strict=True):
        side = f", {column[-1]}" if column != "prompt" else ""
        text = example[f"{column}_text"].decode(errors="replace")
        ids = example[column].tolist()
        yield f"{name}{side} ({len(ids)} tokens)"
        yield textwrap.indent("\n".join(_wrapped(text)), "    ")
        if with_tokens:
            wrapped = textwrap.wrap(" ".join(map(str, ids)), _WIDTH)
            yield textwrap.indent("\n".join(wrapped), "    ids ")


def _wrapped(text: str) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, _WIDTH) or [""]]
