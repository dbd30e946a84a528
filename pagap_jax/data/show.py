"""`pagap show PAIRS_DIR`: a few pairs of a data set, as text and as tokens, the chosen one first.

Takes any data set of pairs: D_initial, D_golden, D_online (RUN_DIR/d_online), sampled ones.
"""

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from pagap_jax.data.reading import open_token_pairs
from pagap_jax.data.stored import TOKEN_COLUMNS, read_metadata
from pagap_jax.errors import ConfigError
from pagap_jax.records import CHOICE_B, CHOICE_UNKNOWN

_WIDTH = 100  # characters


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (`pagap show --help`)")


def run_command(argv: Sequence[str]) -> int:
    """Prints them; 0.

    Raises:
        ConfigError: bad arguments.
        DataError: no data set there, or a damaged one.
    """
    parser = _Parser(prog="pagap show", description=__doc__)
    parser.add_argument("data_set", metavar="PAIRS_DIR")
    parser.add_argument("--split", default="train")
    parser.add_argument("--pairs", type=int, default=5, help="so many, evenly spaced (default 5)")
    arguments = parser.parse_args(argv)
    if arguments.pairs < 1:
        raise ConfigError(f"--pairs: found {arguments.pairs}, expected 1 or more")
    metadata = read_metadata(arguments.data_set)
    pairs = open_token_pairs(arguments.data_set, arguments.split)
    rows = np.unique(np.linspace(0, len(pairs) - 1, arguments.pairs).round().astype(int))
    sizes = ", ".join(f"{size:,} in {split}" for split, size in metadata["splits"].items())
    print(f"{arguments.data_set}: {sizes}")
    for row, example in zip(rows.tolist(), _examples(arguments, rows), strict=True):
        print("\n".join(_lines(row, example)))
    return 0


def _examples(arguments: argparse.Namespace, rows: np.ndarray) -> list[dict[str, Any]]:
    """With the texts, which are stored for people and read by nothing else."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(arguments.data_set)
    source: Any = builder.as_data_source(arguments.split)
    return source.__getitems__(rows.tolist())


def _lines(row: int, example: dict[str, Any]) -> Iterator[str]:
    choice, step = int(example["choice"]), int(example["step"])
    about = [f"pair {row}"]
    if step >= 0:
        about.append(f"sampled at step {step}")
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
        yield textwrap.indent("\n".join(textwrap.wrap(" ".join(map(str, ids)), _WIDTH)), "    ids ")


def _wrapped(text: str) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, _WIDTH) or [""]]
